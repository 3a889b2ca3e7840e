"""One release for all items and processes that ask: performed once, by whoever asks first."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock

from pytest_llmdeploy.errors import NotMeasuredError
from pytest_llmdeploy.liveness import Pulse, is_alive
from pytest_llmdeploy.release.conductor import Conductor
from pytest_llmdeploy.release.journal import append_durably, read_entries
from pytest_llmdeploy.release.record import FINAL, ReleaseResult, StepRecord

JOURNAL = "journal.jsonl"
RESULT = "result.json"
PULSE = "owner.pulse"
"""Held by the process that performs the release for as long as it does."""
POLL_INTERVAL = 0.1

Prepare = Callable[[Callable[[StepRecord], None]], Conductor]
"""Makes the release, once this process is the one to perform it."""


class ReleaseRun:
    """A release below one folder: ``steps.jsonl`` as they end, the result, and the journal."""

    def __init__(
        self,
        folder: Path,
        turn: FileLock,
        prepare: Prepare,
        waiting: Callable[[Callable[[], str]], None],
        stage: str = "blue_green",
    ) -> None:
        """`turn` is held while the release goes on: one at a time.

        `waiting` is called now and then while a step is awaited, with what makes a line.
        """
        self._folder = folder
        self._turn = turn
        self._prepare = prepare
        self._waiting = waiting
        self._stage = stage
        self._release: Conductor | None = None
        self._thread: threading.Thread | None = None
        # Not Thread.join: one that Ctrl-C interrupts takes the thread for ended (CPython 3.11).
        self._over = threading.Event()
        self._died: BaseException | None = None

    def step(self, name: str) -> StepRecord:
        """Return what became of a step, waiting for it; the first caller has all of them performed.

        Raises NotMeasuredError where whoever performed the release has died.
        """
        self._begin_or_join()
        while (record := self._found(name)) is None:
            self._waiting(self._line)
            if self._thread is not None:
                over = self._over.wait(POLL_INTERVAL)
            else:
                over = not is_alive(self._folder / PULSE)
                time.sleep(POLL_INTERVAL)
            if over and self._found(name) is None:
                raise NotMeasuredError(self._ended_early())
        return record

    def close(self) -> list[str]:
        """End a release that is under way, by a rollback; return what has to be said about it."""
        if self._thread is None or self._release is None:
            return []
        ended = self._found(FINAL) is not None
        if not ended:
            self._release.abort("pytest ended before the release did")
        self._over.wait()
        final = self._found(FINAL)
        return [] if ended or final is None else [f"the release was interrupted: {final.reason}"]

    def _begin_or_join(self) -> None:
        pulse = self._folder / PULSE
        if self._thread is not None or pulse.exists():
            return
        release = self._prepare(self._note)  # before the pulse: others must not wait for an error
        self._folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self._folder / "owner.lock"):
            if pulse.exists():
                return
            held = Pulse(pulse)
        self._release = release
        self._thread = threading.Thread(
            target=self._perform, args=(held,), name="llmdeploy-release"
        )
        self._thread.start()

    def _perform(self, held: Pulse) -> None:
        assert self._release is not None
        try:
            with self._turn:
                result = self._release.run()
            write_result(self._folder, result)
        except BaseException as error:  # noqa: BLE001 - told by whoever waits
            self._died = error
        finally:
            held.stop()
            self._over.set()

    def _line(self) -> str:
        what = (
            self._release.now_doing if self._release is not None else "performed by another worker"
        )
        return f"{self._stage}: {what}"

    def _note(self, record: StepRecord) -> None:
        append_durably(self._folder / "steps.jsonl", record.to_json())

    def _found(self, name: str) -> StepRecord | None:
        return next((record for record in self._records() if record.name == name), None)

    def _records(self) -> Iterator[StepRecord]:
        path = self._folder / "steps.jsonl"
        if path.exists():
            yield from map(StepRecord.from_json, read_entries(path))

    def _ended_early(self) -> str:
        if self._died is not None:
            return f"the release ended early: {type(self._died).__name__}: {self._died}"
        return (
            "the process that performed the release has died; `llmdeploy rollback` brings back "
            f"what it had changed (journal: {self._folder / JOURNAL})"
        )


def write_result(folder: Path, result: ReleaseResult) -> None:
    """Keep what became of a release, whole or not at all, for the reports."""
    partial = folder / f"{RESULT}.partial"
    partial.write_text(json.dumps(result.to_json(), indent=1), encoding="utf-8")
    partial.replace(folder / RESULT)
