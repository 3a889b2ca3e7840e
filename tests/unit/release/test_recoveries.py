"""Which release `llmdeploy rollback` ends: on Kubernetes the cluster's journal decides."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pytest_llmdeploy.assembly import recoveries
from pytest_llmdeploy.assembly.recoveries import newest_interrupted
from pytest_llmdeploy.config.loader import LoadedConfig, load_config
from pytest_llmdeploy.errors import PlatformError
from pytest_llmdeploy.platforms.kubernetes.journal import ConfigMapJournal
from pytest_llmdeploy.platforms.kubernetes.names import Names
from pytest_llmdeploy.release.journal import Journal
from tests.unit.platforms.kubernetes.server import Server

FILE = """
environments:
  prod: {platform: kubernetes, context: prod, url: "http://127.0.0.1:9"}
"""


class Cluster:
    """A fleet of which only the journal matters."""

    def __init__(self) -> None:
        self.journal = ConfigMapJournal(Server().api(), Names("shop", "llm"))

    def close(self) -> None:
        """Nothing is open."""


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    cluster = Cluster()
    monkeypatch.setattr(recoveries, "make_fleet", lambda *_: cluster)
    return cluster


@pytest.fixture
def loaded(tmp_path: Path) -> LoadedConfig:
    (tmp_path / "llmdeploy.yaml").write_text(FILE)
    return load_config(tmp_path / "llmdeploy.yaml", "prod", {})


def release(loaded: LoadedConfig, run: str) -> Mapping[str, Any]:
    origin = {"config": str(loaded.path.absolute()), "output": str(folder(loaded, run))}
    return {"run": run, "environment": "prod", "image": "i:2", "new_color": "green"} | {
        "origin": origin,
        "stage": "canary",
    }


def folder(loaded: LoadedConfig, run: str) -> Path:
    return loaded.root.absolute() / ".llmdeploy" / run


def journal(loaded: LoadedConfig, cluster: Cluster, run: str) -> Journal:
    path = folder(loaded, run) / "records" / "canary" / "prod-1" / "journal.jsonl"
    return Journal(path, cluster.journal)


def held(loaded: LoadedConfig, cluster: Cluster) -> None:
    first = journal(loaded, cluster, "one")
    first.begin(release(loaded, "one"))
    first.intend("weight")
    first.hold(10, 10, "waits", passed=True)


def test_a_held_release_is_found_by_its_folder(loaded: LoadedConfig, cluster: Cluster) -> None:
    held(loaded, cluster)
    for output in (None, folder(loaded, "one")):
        found = newest_interrupted(loaded, output)
        assert found is not None
        assert (found.situation.held, found.output) == (10, folder(loaded, "one"))


def test_what_went_on_with_it_and_has_ended_is_not_undone(
    loaded: LoadedConfig, cluster: Cluster
) -> None:
    held(loaded, cluster)
    second = journal(loaded, cluster, "two")
    second.begin(release(loaded, "two"), resumed=True)
    second.end("released")
    # Its own journal in the first run's folder still says that it is held.
    assert newest_interrupted(loaded, folder(loaded, "one")) is None
    assert newest_interrupted(loaded, None) is None


def test_another_release_than_the_folder_s_is_told(loaded: LoadedConfig, cluster: Cluster) -> None:
    held(loaded, cluster)
    second = journal(loaded, cluster, "two")
    second.begin(release(loaded, "two"), resumed=True)
    with pytest.raises(PlatformError, match=r"\(run two\), and .*one holds no open release of"):
        newest_interrupted(loaded, folder(loaded, "one"))
    found = newest_interrupted(loaded, None)
    assert found is not None
    assert found.output == folder(loaded, "two")
