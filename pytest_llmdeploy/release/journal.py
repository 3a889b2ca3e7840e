"""The journal: every intention is on disk before it is carried out.

A release that ends badly, be it by kill -9, can so be finished or undone by whoever reads it. It is
kept twice: in the run's folder, and in the platform's own store, for another machine.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from pytest_llmdeploy.errors import PlatformError
from pytest_llmdeploy.ports import JournalStore

FORMAT = 1
BEGIN = "begin"
INTENT = "intent"
DONE = "done"
END = "end"
HELD = "held"
SWITCH = "switch"
WEIGHT = "weight"
MOVING = frozenset({SWITCH, WEIGHT})
"""The actions after which users may meet the new version."""
END_ATTEMPTS = 5
"""An end that the platform's copy lacks would keep everybody from the next release."""
END_INTERVAL = 0.5
"""Seconds between two of them."""


class Journal:
    """Writes the entries of one release, each durably before `write` returns."""

    def __init__(self, path: Path, store: JournalStore) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._store = store
        self.store_error: str | None = None
        """Why the platform's copy, or the file itself, is not complete."""

    def begin(self, release: Mapping[str, Any], *, resumed: bool = False) -> None:
        """Start the journal of a release; raise PlatformError where the platform cannot keep it.

        With `resumed` what is there stays: until this entry is written, the release is held still.
        """
        if not resumed:
            self._store.clear()
        entry = {"kind": BEGIN, "format": FORMAT, "release": dict(release)}
        self._write(entry)

    def intend(self, action: str, **arguments: Any) -> None:
        """Note what is about to be done; raise PlatformError where that cannot be kept."""
        self._write({"kind": INTENT, "action": action, "arguments": arguments})

    def done(self, action: str) -> None:
        """Note that it was done."""
        self._write({"kind": DONE, "action": action}, durable=False)

    def undoing(self, action: str) -> None:
        """Note a step back; goes on where the platform's store does not answer."""
        self._write({"kind": INTENT, "action": action, "arguments": {}}, durable=False)

    def end(self, state: str) -> None:
        """Close the journal: nothing is left to be finished."""
        self._write({"kind": END, "state": state}, durable=False, attempts=END_ATTEMPTS)

    def hold(self, weight: int, phase: int, reason: str, *, passed: bool) -> None:
        """Note that the release waits with this weight, for a later run to go on with it.

        `passed` is whether the phase in which it is held has passed.
        Raises PlatformError where the platform cannot keep that.
        """
        entry: dict[str, Any] = {"kind": HELD, "weight": weight, "phase": phase}
        entry |= {"reason": reason, "passed": passed}
        if not self._write(entry, durable=False, attempts=END_ATTEMPTS):
            raise PlatformError(self.store_error or "")

    def _write(self, entry: dict[str, Any], *, durable: bool = True, attempts: int = 1) -> bool:
        """Return whether the platform's store has it."""
        entry = {"time": time.time(), **entry}
        try:
            append_durably(self.path, entry)
        except OSError as error:
            self.store_error = f"the journal {self.path} cannot be written: {error}"
            if durable:
                raise PlatformError(self.store_error) from error
        for left in reversed(range(attempts)):
            try:
                self._store.append(entry)
                return True
            except PlatformError as error:
                self.store_error = str(error)
                if durable:
                    raise
            if left:
                time.sleep(END_INTERVAL)
        return False


def append_durably(path: Path, entry: Mapping[str, Any]) -> None:
    """Append one line of JSON and wait until the disk has it."""
    line = json.dumps(entry, ensure_ascii=False, separators=(",", ":")) + "\n"
    path.touch(mode=0o600)  # snapshots hold what Deployments do
    with path.open("ab") as file:
        _mend_end(path, file)
        file.write(line.encode("utf-8", "replace"))
        file.flush()
        os.fsync(file.fileno())


def _mend_end(path: Path, file: BinaryIO) -> None:
    """Remove a last line that a crash cut, or end it where it is whole: what follows is a line."""
    size = file.tell()
    if not size:
        return
    with path.open("rb") as written:
        written.seek(size - 1)
        if written.read(1) == b"\n":
            return
        written.seek(0)
        last = written.read().rpartition(b"\n")[2]
    try:
        json.loads(last)
    except ValueError:
        file.truncate(size - len(last))
    else:
        file.write(b"\n")


def read_entries(path: Path) -> list[dict[str, Any]]:
    """Return the entries of a file; a last line that was cut by a crash is left out.

    Raises ValueError for a file that is no journal, and OSError.
    """
    entries = []
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        try:
            entries.append(json.loads(line))
        except ValueError as error:
            if number == len(lines):
                break  # the write that the crash cut: its intention was not carried out
            raise ValueError(f"{path}:{number} is no line of a journal: {error}") from error
    return entries


@dataclass(frozen=True, slots=True)
class Situation:
    """What a journal says about a release."""

    release: Mapping[str, Any]
    """What `begin` noted: run, service, environment, colours, image, snapshot."""
    intended: tuple[str, ...]
    """Actions that were begun, in order."""
    finished: tuple[str, ...]
    """Those of them that are known to have ended."""
    state: str | None
    """How the release ended; None while it is open."""
    last: float
    """Seconds since the epoch of the last entry."""
    held: int | None = None
    """Percent of the traffic with which it waits on purpose; None where it does not wait."""
    held_phase: int | None = None
    """Weight that the phase asked for in which it was held."""
    held_because: str = ""
    held_passed: bool = False
    """That phase had passed."""

    @property
    def is_open(self) -> bool:
        """Whether the release has neither been finished nor undone."""
        return self.state is None

    @property
    def may_have_switched(self) -> bool:
        """Whether users may have met the new version."""
        resumed = self.release.get("resumed_at") is not None
        return resumed or not MOVING.isdisjoint(self.intended)

    def in_words(self) -> str:
        """Return where the release stopped, in a sentence."""
        release = self.release
        what = f"the release of {release['image']} as {release['new_color']}"
        if self.state is not None:
            return f"{what} has ended: {self.state}"
        if self.held is not None:
            return f"{what} is held at {self.held} %"
        if not self.intended:
            return f"{what} was interrupted before it changed anything"
        last = self.intended[-1]
        how = "after" if last in self.finished else "during"
        return f"{what} was interrupted {how} '{last}'"


def situation(entries: Sequence[Mapping[str, Any]]) -> Situation | None:
    """Return what the entries say; None where they hold no release.

    A release that a later run goes on with begins anew there: what counts is its last beginning.
    Raises ValueError for entries of another format.
    """
    if not entries:
        return None
    first = entries[0]
    if first.get("kind") != BEGIN or first.get("format") != FORMAT:
        raise ValueError("the journal is of another version of pytest-llmdeploy")
    begins = [number for number, entry in enumerate(entries) if entry["kind"] == BEGIN]
    first, entries = entries[begins[-1]], entries[begins[-1] :]
    last = entries[-1]
    held = last if last["kind"] == HELD else {}
    ended = [entry for entry in entries if entry["kind"] == END]
    return Situation(
        release=first["release"],
        intended=tuple(entry["action"] for entry in entries if entry["kind"] == INTENT),
        finished=tuple(entry["action"] for entry in entries if entry["kind"] == DONE),
        state=ended[-1]["state"] if ended else None,
        last=last["time"],
        held=held.get("weight"),
        held_phase=held.get("phase"),
        held_because=held.get("reason", ""),
        held_passed=held.get("passed", False),
    )
