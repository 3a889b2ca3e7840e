"""The journal survives its writer, and the lock knows whose it is."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from pytest_llmdeploy.errors import ConflictError, LockedError, PlatformError
from pytest_llmdeploy.platforms.local_fleet.journal import FileJournal
from pytest_llmdeploy.platforms.local_fleet.lock import ReleaseLock


def test_entries_in_order_until_cleared(tmp_path: Path) -> None:
    journal = FileJournal(tmp_path / "journal.jsonl")
    assert journal.read() == []
    journal.append({"step": "deploy", "text": "zwei\nZeilen"})
    journal.append({"step": "switch"})
    assert FileJournal(tmp_path / "journal.jsonl").read() == [
        {"step": "deploy", "text": "zwei\nZeilen"},
        {"step": "switch"},
    ]
    assert stat.S_IMODE((tmp_path / "journal.jsonl").stat().st_mode) == 0o600
    journal.clear()
    journal.clear()
    assert journal.read() == []


def test_a_line_whose_writer_was_killed_harms_no_other(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b'{"step": 1}\n{"step": 2, "x')
    journal = FileJournal(path)
    assert journal.read() == [{"step": 1}]
    journal.append({"step": 3})
    assert journal.read() == [{"step": 1}, {"step": 3}]


def test_what_cannot_be_written_is_a_platform_error(tmp_path: Path) -> None:
    journal = FileJournal(tmp_path)
    for act in (journal.read, lambda: journal.append({}), journal.clear):
        with pytest.raises(PlatformError, match=r"^the journal cannot be "):
            act()


def locks(folder: Path) -> tuple[ReleaseLock, ReleaseLock]:
    return ReleaseLock(folder / "release.lock"), ReleaseLock(folder / "release.lock")


def test_one_at_a_time(tmp_path: Path) -> None:
    one, two = locks(tmp_path)
    one.acquire("me:1")
    one.acquire("me:1")
    with pytest.raises(LockedError) as caught:
        two.acquire("you:2")
    assert str(caught.value) == "me:1 holds the lock of this fleet, and is at work"
    assert (caught.value.holder, caught.value.alive) == ("me:1", True)
    two.release()
    one.check()
    one.release()
    one.release()
    two.acquire("you:2")
    two.release()


def test_a_dead_holder_keeps_it_until_it_is_stolen(tmp_path: Path) -> None:
    one, two = locks(tmp_path)
    one.acquire("me:1")
    one.close()  # as the end of its process does
    with pytest.raises(LockedError) as caught:
        two.acquire("you:2")
    assert not caught.value.alive
    assert two.steal("you:2") == "me:1"
    assert two.steal("you:2") is None
    two.release()
    assert one.steal("me:1") is None
    one.release()


def test_a_living_holder_notices_the_theft_and_takes_nothing_back(tmp_path: Path) -> None:
    one, two = locks(tmp_path)
    one.acquire("me:1")
    assert two.steal("you:2") == "me:1"
    with pytest.raises(ConflictError) as caught:
        one.check()
    said = "you:2 has taken over the release of this fleet: this one changes nothing any more"
    assert str(caught.value) == said
    one.release()
    with pytest.raises(LockedError, match=r"^you:2 holds the lock of this fleet, and is at work$"):
        one.acquire("me:1")
    two.release()


def test_the_same_holder_may_go_on_after_its_end(tmp_path: Path) -> None:
    one, two = locks(tmp_path)
    one.acquire("me:1")
    one.close()
    two.acquire("me:1")
    two.release()
