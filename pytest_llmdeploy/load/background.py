"""Traffic that goes on while another stage does its work."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from pytest_llmdeploy.errors import NotMeasuredError
from pytest_llmdeploy.load.alone import alone
from pytest_llmdeploy.load.controller import Progress, TrafficResult, run_traffic
from pytest_llmdeploy.load.ledger import read_ledger
from pytest_llmdeploy.load.spec import TrafficSpec
from pytest_llmdeploy.ports import RequestOutcome, TrafficProgress
from pytest_llmdeploy.redaction import Redactor

MAX_DISPATCH_LAG = 1.0
"""Seconds by which requests may be sent late, at the 99th percentile."""


@dataclass(frozen=True, slots=True)
class BackgroundTraffic:
    """Sends one traffic, as often as it is started, each time into a folder of its own."""

    spec: TrafficSpec
    folder: Path
    directory: Path
    redact: Redactor
    waiting: Callable[[], None] = lambda: None
    """Called while another load run of this machine goes on; what it raises ends the wait."""

    def start(self) -> Running:
        """Begin; returns when the first request is about to be sent."""
        number = len(list(self.folder.glob("traffic-*")))
        self.folder.mkdir(parents=True, exist_ok=True)
        return Running(self, self.folder / f"traffic-{number}", alone(self.waiting))


class Running:
    """A traffic that has begun."""

    def __init__(self, traffic: BackgroundTraffic, folder: Path, lock: FileLock) -> None:
        """`lock` is this machine's for load; it is given back when the traffic has ended."""
        self._latest = Progress()
        self._over = threading.Event()
        self._begun = threading.Event()
        # Not Thread.join: one that Ctrl-C interrupts takes the thread for ended (CPython 3.11).
        self._ended = threading.Event()
        self._result: TrafficResult | None = None
        self._error: BaseException | None = None
        self._tells = traffic.spec.outcomes
        self._told: list[RequestOutcome] = []
        self._telling = threading.Lock()

        def take(outcomes: Sequence[RequestOutcome]) -> None:
            with self._telling:
                self._told += outcomes

        def watch(progress: Progress) -> str | None:
            self._latest = progress
            if progress.intended:
                self._begun.set()
            return None

        def run() -> None:
            try:
                self._result = run_traffic(
                    traffic.spec,
                    folder,
                    directory=traffic.directory,
                    redact=traffic.redact,
                    watch=watch,
                    finish=self._over.is_set,
                    outcomes=take,
                )
            except BaseException as error:  # noqa: BLE001 - told by whoever asks next
                self._error = error
            finally:
                lock.release()
                self._ended.set()
                self._begun.set()

        threading.Thread(target=run, name="llmdeploy-traffic", daemon=True).start()
        try:
            self._begun.wait()
        except BaseException:  # Ctrl-C: nobody will have this object, to end what has begun
            self._over.set()
            raise
        if self._ended.is_set():
            self._raise()

    def progress(self) -> TrafficProgress:
        """Return the requests so far; raise NotMeasuredError where the traffic has ended."""
        if self._ended.is_set():
            self._raise()
        latest = self._latest
        return TrafficProgress(latest.intended, latest.ended, latest.failed)

    def outcomes(self) -> Sequence[RequestOutcome]:
        """Return the requests that have ended since the last call, as they became known.

        They are known 0.3 s after their end, the last ones when `finish` returns. Raises
        NotMeasuredError where the traffic has ended badly, or was not to tell them.
        """
        if not self._tells:
            raise NotMeasuredError("this traffic was begun without outcomes: nothing tells them")
        if self._ended.is_set():
            self._raise()
        with self._telling:
            told, self._told = self._told, []
        return told

    def finish(self) -> Ledger:
        """Begin no more requests, let the open ones end, and return all of them."""
        self._over.set()
        self._ended.wait()
        if self._result is None:
            self._raise()
        assert self._result is not None
        result = self._result
        result.check_complete()
        # What is counted is loss: being late, or busy, matters once clients time out for it.
        lag = result.dispatch_lag.quantile(0.99) or 0.0
        if lag > MAX_DISPATCH_LAG:
            raise NotMeasuredError(
                f"the traffic was not what was asked for: it was sent late (p99 {lag:.1f} s); "
                "give a lower blue_green.traffic.rate, or a machine that is less busy"
            )
        return Ledger(result.ledger, result.zero)

    def _raise(self) -> None:
        if self._error is not None:
            raise NotMeasuredError(f"the traffic has ended: {self._error}") from self._error
        if self._result is not None and not self._over.is_set():
            why = self._result.stopped or "; ".join(self._result.lost) or "its time was over"
            raise NotMeasuredError(f"the traffic has ended before the release: {why}")


@dataclass(frozen=True, slots=True)
class Ledger:
    """Every request of a finished traffic."""

    path: Path
    zero: float

    def records(self) -> Iterator[Mapping[str, Any]]:
        """Yield the requests in the order of their ends."""
        return read_ledger(self.path)
