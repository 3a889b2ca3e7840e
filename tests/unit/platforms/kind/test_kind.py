"""kind's configuration, the programs that we run, and whose clusters are swept."""

from __future__ import annotations

import os
import socket
import stat
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pytest_llmdeploy.config.release import HelmConfig, KindConfig
from pytest_llmdeploy.errors import NotBegunError, PlatformError
from pytest_llmdeploy.platforms.kind import registry, sweeping
from pytest_llmdeploy.platforms.kind.cluster import KindCluster
from pytest_llmdeploy.platforms.kind.configuration import mapped_port, same_image, with_port
from pytest_llmdeploy.platforms.kind.extras import chart_arguments
from pytest_llmdeploy.platforms.kind.programs import ProgramError, require_programs, run

GONE = 2**22 + 1


def test_without_a_file_one_node_gets_the_port() -> None:
    assert with_port(None, 12345) == {
        "kind": "Cluster",
        "apiVersion": "kind.x-k8s.io/v1alpha4",
        "nodes": [
            {
                "role": "control-plane",
                "extraPortMappings": [
                    {
                        "containerPort": 30081,
                        "hostPort": 12345,
                        "listenAddress": "127.0.0.1",
                        "protocol": "TCP",
                    }
                ],
            }
        ],
    }


def test_the_port_is_added_to_a_file() -> None:
    own = {
        "networking": {"ipFamily": "dual"},
        "nodes": [
            {"role": "control-plane", "extraPortMappings": [{"containerPort": 80, "hostPort": 8}]},
            {"role": "worker"},
        ],
    }
    result = with_port(own, 12345)
    assert result["networking"] == {"ipFamily": "dual"}
    assert len(result["nodes"]) == 2
    assert len(result["nodes"][0]["extraPortMappings"]) == 2
    assert mapped_port(result) == 12345
    assert mapped_port(own) is None


def test_a_mapping_of_the_users_own_stays() -> None:
    own = {"nodes": [{"extraPortMappings": [{"containerPort": 30081, "hostPort": 8080}]}]}
    assert mapped_port(with_port(own, 12345)) == 8080


def test_a_gateways_port_takes_the_place_of_the_services() -> None:
    own = {"nodes": [{"extraPortMappings": [{"containerPort": 30081, "hostPort": 8080}]}]}
    result = with_port(own, 12345, 30080)
    assert (mapped_port(result, 30080), mapped_port(result)) == (12345, 8080)


@pytest.mark.parametrize(
    ("chart", "repo", "version", "said"),
    [
        ("folder/chart", None, None, ["{root}/folder/chart"]),
        ("folder/chart", "https://a.test/charts", "1.0.0", ["{root}/folder/chart"]),
        ("flat", None, None, ["{root}/flat"]),
        ("flat", "https://a.test", None, ["flat", "--repo", "https://a.test"]),
        ("other", "https://a.test", "1", ["other", "--repo", "https://a.test", "--version", "1"]),
        ("oci://a.test/c", None, "1.2.0", ["oci://a.test/c", "--version", "1.2.0"]),
    ],
)
def test_where_a_chart_is(
    tmp_path: Path, chart: str, repo: str | None, version: str | None, said: list[str]
) -> None:
    for folder in ("folder/chart", "flat"):
        (tmp_path / folder).mkdir(parents=True)
    release = HelmConfig(name="r", chart=chart, repo=repo, version=version)
    assert chart_arguments(release, tmp_path) == [one.format(root=tmp_path) for one in said]


@pytest.mark.parametrize(
    ("wanted", "present", "same"),
    [
        ("kindest/node:v1.34.0", "kindest/node:v1.34.0@sha256:ab", True),
        ("kindest/node:v1.34.0@sha256:ab", "kindest/node:v1.34.0@sha256:cd", False),
        ("kindest/node:v1.34.0", "kindest/node:v1.33.0", False),
    ],
)
def test_node_images(wanted: str, present: str, same: bool) -> None:
    assert same_image(wanted, present) is same


def test_a_program_gets_no_kubeconfig(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "/production")
    monkeypatch.setenv("KIND_CLUSTER_NAME", "other")
    printed = run([sys.executable, "-c", "import os; print(sorted(os.environ))"], timeout=30.0)
    assert "KUBECONFIG" not in printed
    assert "KIND_CLUSTER_NAME" not in printed
    assert "PATH" in printed


def test_a_failing_program_shows_its_last_lines() -> None:
    code = "import sys; print('one'); print('two', file=sys.stderr); sys.exit(3)"
    with pytest.raises(ProgramError) as caught:
        run([sys.executable, "-c", code], timeout=30.0)
    text = f"{sys.executable} -c {code}"
    assert str(caught.value) == (
        f"{text} ended with exit code 3; its last lines:\n  | one\n  | two"
    )


def test_a_program_ends_at_its_deadline_with_its_children() -> None:
    code = "import subprocess, time; subprocess.Popen(['sleep', '60']); time.sleep(60)"
    began = time.monotonic()
    with pytest.raises(ProgramError, match=r"did not end within 1 s \(kind.create_timeout\)"):
        run([sys.executable, "-c", code], timeout=1.0, setting="kind.create_timeout")
    assert time.monotonic() - began < 20


def fake_program(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.mark.parametrize(("ci", "error"), [("", NotBegunError), ("true", PlatformError)])
def test_a_missing_kind_is_an_error_in_ci_only(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ci: str, error: type[Exception]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CI", ci)
    with pytest.raises(error) as caught:
        require_programs()
    assert type(caught.value) is error
    assert str(caught.value) == (
        "kind is not on PATH, and kind clusters need it: "
        "https://kind.sigs.k8s.io/docs/user/quick-start/#installation"
    )


def test_a_docker_that_does_not_answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CI", "")
    fake_program(tmp_path, "kind", "exit 0")
    fake_program(tmp_path, "docker", "echo 'Cannot connect to the Docker daemon' >&2; exit 1")
    with pytest.raises(NotBegunError) as caught:
        require_programs()
    assert str(caught.value) == (
        "kind clusters need Docker, whose engine does not answer: "
        "Cannot connect to the Docker daemon"
    )


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """kind and docker that write their arguments down; a creation fails."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("LLMDEPLOY_KIND_IMAGE", raising=False)
    log = tmp_path / "calls"
    say = f'echo "$(basename $0) $*" >> {log}'
    fake_program(tmp_path, "docker", say)
    fake_program(
        tmp_path, "kind", f'{say}; [ "$1" = create ] && {{ echo "no space left" >&2; exit 1; }}; :'
    )
    return log


def entry(name: str, owner: int, *, host: str = "", kept: bool = False) -> registry.Entry:
    return registry.Entry(name, owner, host or socket.gethostname(), time.time(), kept)


def test_only_clusters_whose_run_is_over_are_swept(programs: Path) -> None:
    registry.note(entry("llmdeploy-over", GONE))
    registry.note(entry("llmdeploy-running", os.getpid()))
    registry.note(entry("llmdeploy-elsewhere", GONE, host="elsewhere"))
    registry.note(entry("mine", GONE, kept=True))
    assert sweeping.sweep() == ["llmdeploy-over"]
    assert sweeping.sweep() == []
    deleted = [line for line in programs.read_text().splitlines() if " delete " in line]
    assert deleted == ["kind delete cluster --name llmdeploy-over --kubeconfig /dev/null"]
    assert {known.name for known in registry.entries()} == {
        "llmdeploy-running",
        "llmdeploy-elsewhere",
        "mine",
    }


def test_a_run_knows_its_own_cluster_only(programs: Path) -> None:
    registry.note(entry("llmdeploy-r1", GONE))
    assert sweeping.name_of_run("r1") == "llmdeploy-r1"
    assert sweeping.name_of_run("r2") is None
    sweeping.keep_of_run("r1")
    sweeping.keep_of_run("r2")
    assert sweeping.name_of_run("r1") is None
    assert sweeping.sweep() == []


def test_a_failed_creation_leaves_logs_an_error_for_others_and_nothing_else(
    programs: Path, tmp_path: Path
) -> None:
    def cluster() -> KindCluster:
        return KindCluster(
            run_id="r1",
            config=KindConfig(image="node:1"),
            root=tmp_path,
            folder=tmp_path / "run",
            owner=os.getpid(),
        )

    errors: list[Any] = []
    for _ in range(2):
        with pytest.raises(PlatformError) as caught:
            cluster().ensure()
        errors.append(str(caught.value))
    assert errors[0] == errors[1]
    assert errors[0] == (
        "no kind cluster could be made: kind create cluster ended with exit code 1; "
        "its last lines:\n  | no space left"
    )
    calls = [" ".join(line.split()[:3]) for line in programs.read_text().splitlines()]
    assert calls == [
        "docker version --format",
        "kind create cluster",
        "kind export logs",
        "kind delete cluster",
    ]
    create = programs.read_text().splitlines()[1]
    assert f"--kubeconfig {tmp_path / 'run' / 'kubeconfig'}" in create
    assert create.endswith("--wait 300s --retain --image node:1")
    assert list(registry.entries()) == []
    assert stat.S_IMODE((tmp_path / "run" / "kubeconfig").stat().st_mode) == 0o600
