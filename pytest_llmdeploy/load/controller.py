"""Runs load generator processes, and accounts for every request that they were to send.

A process that ends without its result is lost, and so is the run: half a load is no measurement.
"""

from __future__ import annotations

import json
import os
import selectors
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_llmdeploy.errors import NotMeasuredError
from pytest_llmdeploy.load.accounting import join_ledgers
from pytest_llmdeploy.load.counts import Counts
from pytest_llmdeploy.load.files import LEDGER, LOG
from pytest_llmdeploy.load.ledger import EndClass
from pytest_llmdeploy.load.outcomes import received
from pytest_llmdeploy.load.spec import TrafficSpec, WorkerSpec
from pytest_llmdeploy.load.worker import Worker, end_all
from pytest_llmdeploy.ports import RequestOutcome
from pytest_llmdeploy.redaction import Redactor
from pytest_llmdeploy.verdicts.histogram import Histogram

START_DELAY = 0.2
"""Seconds between the last process's being ready and the run's start."""
START_TIMEOUT = 60.0
OVERTIME = 30.0
"""Seconds after the run's last possible moment, or a stop, until a process counts as hung."""
SILENCE = 30.0
"""Seconds without a report, of which there are two a second, until a process counts as hung."""
POLL_INTERVAL = 0.1
NO_SECRETS = Redactor(())


@dataclass(slots=True)
class Progress:
    """The run so far, over all processes."""

    elapsed: float = 0.0
    """Seconds since the start."""
    intended: int = 0
    sent: int = 0
    ended: int = 0
    classes: Counter[str] = field(default_factory=Counter)
    tokens: int = 0
    ttft: Histogram = field(default_factory=Histogram)
    """Seconds to the first token of what has ended well, from the intended start."""
    counts: Counts = field(default_factory=lambda: Counts((), {}, 0.0))
    """How many requests have missed each objective."""

    @property
    def in_flight(self) -> int:
        """Requests that have begun and not ended."""
        return self.intended - self.ended

    @property
    def failed(self) -> int:
        """Requests that ended otherwise than well, those cancelled by us apart."""
        fine = self.classes[EndClass.OK] + self.classes[EndClass.CANCELLED]
        return sum(self.classes.values()) - fine


Watch = Callable[[Progress], str | None]
"""Looks at the run now and then; a text stops the run for that reason."""
TakeOutcomes = Callable[[Sequence[RequestOutcome]], object]
"""Takes requests that have ended, in the order in which they became known."""


@dataclass(slots=True)
class TrafficResult:
    """A finished run; its requests are in the ledger."""

    ledger: Path
    started: float
    """Seconds since the epoch."""
    duration: float
    """Seconds from the start until the last request had ended."""
    intended: int
    processes: int
    zero: float = 0.0
    """The start on time.monotonic: zero of the ledger's times."""
    stopped: str | None = None
    """Why the run ended before its time."""
    notes: list[str] = field(default_factory=list)
    """What a reader of the results should know."""
    lost: tuple[str, ...] = ()
    """What became of the processes that ended before their time."""
    dispatch_lag: Histogram = field(default_factory=Histogram)
    loop_lag: Histogram = field(default_factory=Histogram)
    gaps: Histogram = field(default_factory=Histogram)
    """Seconds between pieces of content, pooled over all requests after the warm-up."""
    token_gaps: Histogram = field(default_factory=Histogram)
    """The same by token, of answers with usage."""
    cpu: float = 0.0
    """Share of one core that the busiest process used."""
    memory_mb: float = 0.0
    """Of the largest process."""
    tokens: int = 0
    """Completion tokens that count for the cap."""
    in_flight: list[tuple[float, int]] = field(default_factory=list)
    """Requests open at moments of the run."""

    def check_complete(self) -> None:
        """Raise NotMeasuredError where a process was lost."""
        if self.lost:
            raise NotMeasuredError("; ".join(self.lost))


def run_traffic(
    traffic: TrafficSpec,
    folder: Path,
    *,
    processes: int = 1,
    directory: Path | None = None,
    redact: Redactor = NO_SECRETS,
    watch: Watch = lambda _progress: None,
    finish: Callable[[], bool] = lambda: False,
    interrupted: Callable[[TrafficResult], object] = lambda _result: None,
    outcomes: TakeOutcomes = lambda _outcomes: None,
) -> TrafficResult:
    """Send the traffic and return its complete ledger, in the new folder `folder`.

    A process that is lost stops the others; its requests are in the ledger as ``worker_lost``.
    `watch` is called about ten times a second. Once `finish` returns true nothing more is begun,
    what is open comes to its end, and that is the run's end as planned. An exception, such as
    that of Ctrl-C, goes on once `interrupted` has taken what was sent until then. Where the spec
    wants outcomes told, `outcomes` takes each before this returns; what a process did not tell
    before it was lost is in the ledger alone. Raises NotMeasuredError where no process started.
    """
    folder.mkdir(parents=True, exist_ok=False)
    specs = [
        WorkerSpec(
            traffic=traffic,
            secrets=tuple(redact.secrets),
            ledger=str(folder / f"worker-{index}.jsonl.zst"),
            result=str(folder / f"worker-{index}.json"),
            index=index,
            count=processes,
        )
        for index in range(processes)
    ]
    workers: list[Worker] = []
    log = _Log(folder / LOG, redact)
    run = _Conversation(traffic, workers, watch, finish, outcomes)
    try:
        for spec in specs:
            # One by one: what has started is ended, also where the next does not start.
            workers.append(Worker(spec, directory or Path.cwd(), log.write))  # noqa: PERF401
        run.until_ready()
        run.until_ended()
    except BaseException:
        end_all(workers)
        if run.start:
            with suppress(Exception):  # nothing stands in the way of Ctrl-C
                interrupted(_accounted(run, folder))
        raise
    finally:
        end_all(workers)
        run.close()
    return _accounted(run, folder)


class _Log:
    """The file of what the processes print."""

    def __init__(self, path: Path, redact: Redactor) -> None:
        self._path = path
        self._redact = redact

    def write(self, line: str) -> str:
        """Append a line; return what stands there."""
        line = self._redact(line)
        with self._path.open("a", encoding="utf-8", errors="replace") as file:
            file.write(line + "\n")
        return line


class _Conversation:
    """The owner's side of a run: what the processes say, and when to stop."""

    def __init__(
        self,
        traffic: TrafficSpec,
        workers: Sequence[Worker],
        watch: Watch,
        finish: Callable[[], bool],
        outcomes: TakeOutcomes,
    ) -> None:
        self.traffic = traffic
        self.workers = workers
        self.start = 0.0
        self.started = 0.0
        self.in_flight: list[tuple[float, int]] = []
        self.failure: str | None = None
        """Why the run is no measurement."""
        self.lost_at: float | None = None
        """Seconds since the start when a process was first seen to be lost or hung."""
        self.over_at: float | None = None
        """Seconds since the start when the processes were told to begin nothing more."""
        self._watch = watch
        self._finish = finish
        self._outcomes = outcomes
        self.finished = False
        """The traffic ended when `finish` said so, which may be before its time."""
        self._selector = selectors.DefaultSelector()
        self._stopping = False
        self._longest = traffic.traffic_duration + traffic.drain + OVERTIME

    def close(self) -> None:
        """Free what the listening took."""
        self._selector.close()

    def until_ready(self) -> None:
        """Wait for all processes and tell them when to start."""
        for worker in self.workers:
            assert worker.process.stdout is not None
            self._selector.register(worker.progress, selectors.EVENT_READ, worker.hear)
            self._selector.register(worker.process.stdout, selectors.EVENT_READ, worker.hear_output)
        deadline = time.monotonic() + START_TIMEOUT
        while not all(worker.ready for worker in self.workers):
            self._hear()
            ended = [worker for worker in self.workers if worker.process.poll() is not None]
            if ended or time.monotonic() > deadline:
                self._hear_all()
                late = [worker for worker in self.workers if not worker.ready]
                said = [*ended, *late][0].last_words or "it said nothing"
                raise NotMeasuredError(f"a load generator did not start: {said}")
        self.start = time.monotonic() + START_DELAY
        self.started = time.time() + START_DELAY
        for worker in self.workers:
            worker.heard = self.start
            worker.tell(json.dumps({"start": self.start}))

    def until_ended(self) -> None:
        """Listen until all processes have ended; stop them where need be."""
        sampled = -1.0
        while self._hear() and not self._have_ended():
            progress = self._progress()
            if progress.elapsed > sampled:
                sampled = progress.elapsed
                self.in_flight.append((sampled, progress.in_flight))
            if why := self._watch(progress):
                self._stop(why)
            if why := self.traffic.cap_reached(progress.tokens):
                self._stop(why)
            if not self.finished and self._finish():
                self.finished = True
                self._end({"finish": True}, self.traffic.drain + OVERTIME)
            for worker in self.workers:
                if why := worker.latest.get("stopped"):
                    self._stop(why)
            if any(worker.is_lost for worker in self.workers):
                self._note_loss()
                self._stop("a load generator process was lost")
            if self._is_hung():
                self._note_loss()
                return
        if any(worker.is_lost for worker in self.workers):
            self._note_loss()
        self._hear_all()

    def _now(self) -> float:
        return time.monotonic() - self.start

    def _note_loss(self) -> None:
        if self.lost_at is None:
            self.lost_at = self._now()

    def _is_hung(self) -> bool:
        """Return whether there is no use in waiting any longer; say why in `failure`."""
        if self._now() > self._longest:
            self.failure = f"the load generator did not end within {self._longest:.0f} s"
        for worker in self.workers:
            silence = time.monotonic() - worker.heard
            if silence > SILENCE and worker.process.poll() is None:
                self.failure = f"{worker.name} has said nothing for {SILENCE:g} s"
        return self.failure is not None

    def _stop(self, why: str) -> None:
        if not self._stopping:
            self._stopping = True
            self._end({"stop": why}, OVERTIME)

    def _end(self, command: dict[str, Any], timeout: float) -> None:
        """Tell the processes to begin nothing more, and to end within `timeout`."""
        now = self._now()
        self.over_at = now if self.over_at is None else self.over_at
        self._longest = min(self._longest, now + timeout)
        for worker in self.workers:
            worker.tell(json.dumps(command))

    def _have_ended(self) -> bool:
        return all(worker.process.poll() is not None for worker in self.workers)

    def _hear_all(self) -> None:
        """Take what is in the pipes."""
        while self._hear(0.0):
            pass

    def _hear(self, timeout: float = POLL_INTERVAL) -> bool:
        """Listen for a moment; return whether there is more to hear, now or, if so told, later."""
        heard = self._selector.select(timeout)
        for key, _ in heard:
            piece = os.read(key.fd, 1 << 16)
            key.data(piece)
            if not piece:
                self._selector.unregister(key.fileobj)
        for worker in self.workers:
            if worker.outcomes:
                told, worker.outcomes = worker.outcomes, []
                self._outcomes(received(told, self.start))
        return bool(self._selector.get_map()) and bool(heard or timeout)

    def _progress(self) -> Progress:
        traffic = self.traffic
        whole = Progress(counts=Counts(traffic.parsed_objectives(), traffic.good, 0.0))
        for worker in self.workers:
            latest = worker.latest
            whole.elapsed = max(whole.elapsed, latest.get("t", 0.0))
            whole.intended += latest.get("intended", 0)
            whole.sent += latest.get("sent", 0)
            whole.ended += latest.get("ended", 0)
            whole.tokens += latest.get("tokens", 0)
            whole.classes.update(latest.get("classes", {}))
            whole.ttft.merge(worker.ttft)
            if counts := latest.get("counts"):
                part = Counts((), {}, 0.0)
                part.take(counts)
                whole.counts.merge(part)
        return whole


def _accounted(run: _Conversation, folder: Path) -> TrafficResult:
    """Join the processes' ledgers and results."""
    lost = [text for worker in run.workers if (text := worker.read_result())]
    if run.failure:
        lost.append(run.failure)
    result = TrafficResult(
        ledger=folder / LEDGER,
        started=run.started,
        zero=run.start,
        duration=0.0,
        intended=0,
        processes=len(run.workers),
        in_flight=run.in_flight,
    )
    for worker in run.workers:
        if worker.result is not None:
            _join(result, worker.result)
    accounts = join_ledgers(run.traffic, run.workers, result.ledger, run.lost_at, run.over_at)
    if result.stopped is None and not lost and not run.finished:
        accounts.check_schedule(run.traffic)
    for worker in run.workers:
        Path(worker.spec.ledger).unlink(missing_ok=True)
        Path(worker.spec.result).unlink(missing_ok=True)
    result.intended, result.duration = accounts.intended, accounts.last
    result.lost = (*lost, *accounts.wrong)
    return result


def _join(whole: TrafficResult, part: dict[str, Any]) -> None:
    whole.stopped = whole.stopped or part["stopped"]
    whole.notes += part["notes"]
    whole.tokens += part["tokens"]
    whole.dispatch_lag.merge(Histogram.from_json(part["dispatch_lag"]))
    whole.loop_lag.merge(Histogram.from_json(part["loop_lag"]))
    whole.gaps.merge(Histogram.from_json(part["gaps"]))
    whole.token_gaps.merge(Histogram.from_json(part["token_gaps"]))
    whole.cpu = max(whole.cpu, part["cpu"])
    whole.memory_mb = max(whole.memory_mb, part["memory_mb"])
