"""The journal, read after its writer has ended at any moment."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmdeploy.errors import PlatformError
from pytest_llmdeploy.release import journal as module
from pytest_llmdeploy.release.journal import (
    Journal,
    append_durably,
    read_entries,
    situation,
)

RELEASE = {"image": "llm:2 — größer", "new_color": "green", "snapshot": {"selector": "blue"}}


class Store:
    """A platform's copy, which may refuse."""

    def __init__(self) -> None:
        self.entries: list[dict[str, Any]] = []
        self.refuses = 0

    def read(self) -> list[dict[str, Any]]:
        return self.entries

    def append(self, entry: Mapping[str, Any]) -> None:
        if self.refuses:
            self.refuses -= 1
            raise PlatformError("HTTP 500")
        self.entries.append(dict(entry))

    def clear(self) -> None:
        self.entries.clear()


def written(path: Path, end: str | None = "rolled back") -> Store:
    """Write the journal of a release that was switched and came back."""
    store = Store()
    journal = Journal(path, store)
    journal.begin(RELEASE)
    journal.intend("deploy", color="green", image="llm:2")
    journal.done("deploy")
    journal.intend("switch", old="blue", new="green")
    journal.done("switch")
    journal.undoing("restore-traffic")
    journal.undoing("restore-replicas")
    if end is not None:
        journal.end(end)
    return store


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of a whole journal."""
    path = tmp_path_factory.mktemp("journal") / "journal.jsonl"
    written(path)
    return path.read_bytes()


def test_both_copies_are_alike(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    store = written(path)
    assert read_entries(path) == store.entries
    found = situation(store.entries)
    assert found is not None
    assert (found.is_open, found.state) == (False, "rolled back")
    assert found.intended == ("deploy", "switch", "restore-traffic", "restore-replicas")
    assert found.finished == ("deploy", "switch")
    assert found.in_words() == "the release of llm:2 — größer as green has ended: rolled back"


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (1, "was interrupted before it changed anything"),
        (2, "was interrupted during 'deploy'"),
        (3, "was interrupted after 'deploy'"),
        (4, "was interrupted during 'switch'"),
        (5, "was interrupted after 'switch'"),
        (6, "was interrupted during 'restore-traffic'"),
        (8, "has ended: rolled back"),
    ],
)
def test_where_it_stopped(whole: bytes, lines: int, words: str) -> None:
    entries = [json.loads(line) for line in whole.splitlines()[:lines]]
    found = situation(entries)
    assert found is not None
    assert found.in_words() == f"the release of llm:2 — größer as green {words}"


@given(data=st.data())
def test_every_beginning_of_a_journal_tells_what_may_have_been_done(
    data: st.DataObject, whole: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    cut = data.draw(st.integers(0, len(whole)))
    path = tmp_path_factory.mktemp("cut") / "journal.jsonl"
    path.write_bytes(whole[:cut])
    # A line whose last byte, the newline, is missing was written, and may have been acted upon.
    durable = [line for line in whole[: cut + 1].splitlines(keepends=True) if line[-1:] == b"\n"]
    entries = read_entries(path)
    assert entries == [json.loads(line) for line in durable]
    found = situation(entries)
    assert (found is None) is (not durable)
    if found is not None:
        intents = [e["action"] for e in entries if e["kind"] == "intent"]
        assert found.may_have_switched is ("switch" in intents)
        assert found.is_open is (len(durable) < 8)
        assert found.release == RELEASE

    # Whoever finishes it goes on writing where the other one was cut.
    append_durably(path, {"kind": "intent", "action": "restore-traffic", "time": 1.0})
    append_durably(path, {"kind": "end", "state": "rolled back", "time": 2.0})
    again = read_entries(path)
    assert again[:-2] == entries
    assert again[-1]["state"] == "rolled back"


def test_what_is_no_journal(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_text('{"kind": "begin"\n{"kind": "intent"}\n')
    with pytest.raises(ValueError, match=r"journal\.jsonl:1 is no line of a journal: "):
        read_entries(path)
    for first in ({"kind": "begin", "format": 2}, {"kind": "intent"}, {}):
        with pytest.raises(ValueError) as caught:
            situation([first])
        assert str(caught.value) == "the journal is of another version of pytest-llmdeploy"
    assert situation([]) is None


def test_an_intention_that_the_platform_does_not_keep_is_not_carried_out(tmp_path: Path) -> None:
    store = Store()
    journal = Journal(tmp_path / "journal.jsonl", store)
    journal.begin(RELEASE)
    store.refuses = 1
    with pytest.raises(PlatformError, match="HTTP 500"):
        journal.intend("switch", old="blue", new="green")
    found = situation(read_entries(journal.path))
    assert found is not None
    assert found.may_have_switched  # to be on the safe side

    store.refuses = 2
    journal.done("switch")
    journal.undoing("restore-traffic")
    assert journal.store_error == "HTTP 500"
    assert [entry["kind"] for entry in store.entries] == ["begin"]


@pytest.mark.parametrize("refuses", [4, 5])
def test_the_end_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refuses: int
) -> None:
    monkeypatch.setattr(module, "END_INTERVAL", 0.0)
    store = Store()
    journal = Journal(tmp_path / "journal.jsonl", store)
    journal.begin(RELEASE)
    store.refuses = refuses
    journal.end("released")
    assert [e["kind"] for e in store.entries] == (["begin", "end"] if refuses == 4 else ["begin"])
    found = situation(read_entries(journal.path))
    assert found is not None
    assert not found.is_open


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    store = Store()
    journal = Journal(tmp_path / "journal.jsonl", store)
    journal.path.mkdir()
    with pytest.raises(PlatformError) as caught:
        journal.intend("switch")
    assert str(caught.value).startswith(f"the journal {journal.path} cannot be written: ")
    assert store.entries == []
    journal.undoing("restore-traffic")  # the way back goes on
    journal.end("rolled back")
    assert [entry["kind"] for entry in store.entries] == ["intent", "end"]


def held(path: Path) -> tuple[Journal, Store]:
    """Write the journal of a release that is held at 33 %, where 25 % was asked for."""
    store = Store()
    journal = Journal(path, store)
    journal.begin(RELEASE)
    journal.intend("deploy")
    journal.done("deploy")
    journal.intend("weight", color="green", weight=25)
    journal.done("weight")
    journal.hold(33, 25, "weight-25 waits for approval", passed=True)
    return journal, store


def test_a_release_that_is_held(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    _, store = held(path)
    for entries in (store.entries, read_entries(path)):
        found = situation(entries)
        assert found is not None
        assert found.is_open
        assert (found.held, found.held_phase) == (33, 25)
        assert found.held_because == "weight-25 waits for approval"
        assert found.may_have_switched
        assert found.in_words() == "the release of llm:2 — größer as green is held at 33 %"


def test_a_held_release_is_held_until_its_going_on_is_noted(tmp_path: Path) -> None:
    """Whatever kept that from being noted: the platform, or the end of the process."""
    _, store = held(tmp_path / "first.jsonl")
    journal = Journal(tmp_path / "second.jsonl", store)
    store.refuses = 1
    with pytest.raises(PlatformError):
        journal.begin({**RELEASE, "resumed_at": 33}, resumed=True)
    found = situation(store.entries)
    assert found is not None
    assert found.held == 33

    journal.begin({**RELEASE, "resumed_at": 33, "run": "second"}, resumed=True)
    found = situation(store.entries)
    assert found is not None
    assert (found.held, found.held_phase, found.held_because) == (None, None, "")
    assert found.release["run"] == "second"
    assert found.is_open
    assert found.intended == ()
    # Users meet the new version already, though this run has done nothing yet.
    assert found.may_have_switched
    journal.end("released")
    found = situation(store.entries)
    assert found is not None
    assert not found.is_open

    Journal(tmp_path / "third.jsonl", store).begin(RELEASE)
    assert [entry["kind"] for entry in store.entries] == ["begin"]
    found = situation(store.entries)
    assert found is not None
    assert not found.may_have_switched


def test_a_step_back_ends_the_holding(tmp_path: Path) -> None:
    journal, store = held(tmp_path / "journal.jsonl")
    journal.undoing("restore-traffic")
    found = situation(store.entries)
    assert found is not None
    assert found.held is None
    assert found.may_have_switched


def test_that_a_release_is_held_is_tried_again_and_said_where_it_cannot_be_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "END_INTERVAL", 0.0)
    store = Store()
    journal = Journal(tmp_path / "journal.jsonl", store)
    journal.begin(RELEASE)
    store.refuses = module.END_ATTEMPTS - 1
    journal.hold(10, 10, "shifted, as asked", passed=True)
    assert store.entries[-1]["kind"] == "held"
    store.refuses = module.END_ATTEMPTS
    with pytest.raises(PlatformError, match="HTTP 500"):
        journal.hold(10, 10, "shifted, as asked", passed=True)
