"""Runs load generator processes, and accounts for every request that they were to send.

The processes are this module's alone: each in a process group of its own, told what to do over
stdin, heard over a pipe, ended by SIGTERM and then SIGKILL whatever happens here. One that ends
without its result is lost, and so is the run: half a load is no measurement.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from pytest_llmdeploy.errors import NotMeasuredError
from pytest_llmdeploy.load.counts import Counts
from pytest_llmdeploy.load.ledger import EndClass, LedgerWriter, Record, read_ledger
from pytest_llmdeploy.load.schedule import arrivals
from pytest_llmdeploy.load.spec import TrafficSpec, WorkerSpec
from pytest_llmdeploy.redaction import Redactor
from pytest_llmdeploy.verdicts.histogram import Histogram

START_DELAY = 0.2
"""Seconds between the last process's being ready and the run's start."""
START_TIMEOUT = 60.0
STOP_TIMEOUT = 5.0
"""Seconds that a process has after SIGTERM to complete its ledger."""
OVERTIME = 30.0
"""Seconds after the run's last possible moment until a process counts as hung."""
POLL_INTERVAL = 0.1
NO_SECRETS = Redactor(())
LEDGER = "ledger.jsonl.zst"
LOG = "generator.log"


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
    cpu: float = 0.0
    """Share of one core that the busiest process used."""
    memory_mb: float = 0.0
    """Of the largest process."""
    in_flight: list[tuple[float, int]] = field(default_factory=list)
    """Requests open at moments of the run."""

    def check_complete(self) -> None:
        """Raise NotMeasuredError where a process was lost."""
        if self.lost:
            raise NotMeasuredError("; ".join(self.lost))


class _Worker:
    """One load generator process."""

    def __init__(self, spec: WorkerSpec, directory: Path) -> None:
        self.spec = spec
        read, write = os.pipe()
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-X", "faulthandler"),
                *("-m", "pytest_llmdeploy.load.runner", str(write)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=(write,),
            cwd=directory,
            start_new_session=True,
        )
        os.close(write)
        self.progress: IO[bytes] = os.fdopen(read, "rb", buffering=0)
        self.rest = b""
        self.latest: dict[str, Any] = {}
        self.ttft = Histogram()
        self.ready = False
        self.result: dict[str, Any] | None = None
        self.tell(spec.to_json())

    def tell(self, line: str) -> None:
        """Write a line to its stdin; nothing where it is gone."""
        assert self.process.stdin is not None
        with suppress(OSError, ValueError):
            self.process.stdin.write(line.encode() + b"\n")
            self.process.stdin.flush()

    def hear(self, piece: bytes) -> None:
        """Take what came over its pipe."""
        *lines, self.rest = (self.rest + piece).split(b"\n")
        for line in lines:
            message = json.loads(line)
            if "ready" in message:
                self.ready = True
                continue
            self.ttft.merge(Histogram.from_json(message.pop("ttft")))
            self.latest = message

    def end(self) -> None:
        """Leave no process of its group behind."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self.process.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(self.process.pid, number)
                with suppress(subprocess.TimeoutExpired):
                    self.process.wait(STOP_TIMEOUT)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)  # children that outlived it
        for pipe in (self.process.stdin, self.process.stdout, self.progress):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()

    def read_result(self) -> str | None:
        """Read its result file; return what is wrong where there is none."""
        if self.process.returncode == 0 and Path(self.spec.result).is_file():
            self.result = json.loads(Path(self.spec.result).read_text(encoding="utf-8"))
            return None
        code = self.process.returncode
        how = f"exit code {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"
        return f"load generator process {self.spec.index + 1} of {self.spec.count} was lost: {how}"


def run_traffic(
    traffic: TrafficSpec,
    folder: Path,
    *,
    processes: int = 1,
    directory: Path | None = None,
    redact: Redactor = NO_SECRETS,
    watch: Watch = lambda _progress: None,
) -> TrafficResult:
    """Send the traffic and return its complete ledger, in the new folder `folder`.

    A process that is lost stops the others; its requests are in the ledger as ``worker_lost``.
    `watch` is called about ten times a second. Raises NotMeasuredError where no process started.
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
    workers: list[_Worker] = []
    try:
        workers += [_Worker(spec, directory or Path.cwd()) for spec in specs]
        run = _Conversation(traffic, workers, folder / LOG, redact, watch)
        run.until_ready()
        run.until_ended()
    finally:
        for worker in workers:
            worker.end()
    return _accounted(run, folder)


class _Conversation:
    """The owner's side of a run: what the processes say, and when to stop."""

    def __init__(
        self,
        traffic: TrafficSpec,
        workers: Sequence[_Worker],
        log: Path,
        redact: Redactor,
        watch: Watch,
    ) -> None:
        self.traffic = traffic
        self.workers = workers
        self.start = 0.0
        self.started = 0.0
        self.in_flight: list[tuple[float, int]] = []
        self.failure: str | None = None
        """Why the run is no measurement."""
        self._log = log
        self._redact = redact
        self._watch = watch
        self._selector = selectors.DefaultSelector()
        self._stopping = False
        for worker in workers:
            assert worker.process.stdout is not None
            self._selector.register(worker.progress, selectors.EVENT_READ, worker.hear)
            self._selector.register(worker.process.stdout, selectors.EVENT_READ, self._write_log)

    def until_ready(self) -> None:
        """Wait for all processes and tell them when to start."""
        deadline = time.monotonic() + START_TIMEOUT
        while not all(worker.ready for worker in self.workers):
            if not self._hear() or time.monotonic() > deadline:
                raise NotMeasuredError(f"a load generator did not start: {self._last_words()}")
        self.start = time.monotonic() + START_DELAY
        self.started = time.time() + START_DELAY
        for worker in self.workers:
            worker.tell(json.dumps({"start": self.start}))

    def until_ended(self) -> None:
        """Listen until all processes have ended; stop them where need be."""
        traffic = self.traffic
        longest = traffic.traffic_duration + traffic.drain + OVERTIME
        sampled = -1.0
        while self._hear():
            progress = self._progress()
            if progress.elapsed > sampled:
                sampled = progress.elapsed
                self.in_flight.append((sampled, progress.in_flight))
            if why := self._watch(progress):
                self._stop(why)
            if any(worker.process.poll() not in (None, 0) for worker in self.workers):
                self._stop("a load generator process was lost")
            if time.monotonic() - self.start > longest:
                self.failure = f"the load generator did not end within {longest:.0f} s"
                return

    def _stop(self, why: str) -> None:
        if not self._stopping:
            self._stopping = True
            for worker in self.workers:
                worker.tell(json.dumps({"stop": why}))

    def _hear(self) -> bool:
        """Listen for a moment; return whether some process may still say something."""
        for key, _ in self._selector.select(POLL_INTERVAL):
            piece = os.read(key.fd, 1 << 16)
            if piece:
                key.data(piece)
            else:
                self._selector.unregister(key.fileobj)
        return bool(self._selector.get_map())

    def _write_log(self, piece: bytes) -> None:
        with self._log.open("a", encoding="utf-8") as file:
            file.write(self._redact(piece.decode("utf-8", "replace")))

    def _last_words(self) -> str:
        try:
            lines = self._log.read_text(encoding="utf-8").strip().splitlines()
        except OSError:
            lines = []
        return lines[-1] if lines else "it said nothing"

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
    """Join the processes' ledgers and results; give every intended request its line."""
    lost = [text for worker in run.workers if (text := worker.read_result())]
    if run.failure:
        lost.append(run.failure)
    result = TrafficResult(
        ledger=folder / LEDGER,
        started=run.started,
        duration=0.0,
        intended=0,
        processes=len(run.workers),
        in_flight=run.in_flight,
    )
    writer = LedgerWriter(folder / f"{LEDGER}.partial")
    ends = [max(worker.latest.get("t", 0.0) for worker in run.workers)]
    for worker in run.workers:
        written, last = _copy(worker, writer)
        ends.append(last)
        if worker.result is None:
            written += _write_lost(run.traffic, worker, writer, max(ends))
        elif worker.result["records"] != worker.result["intended"] or (
            written != worker.result["records"]
        ):
            lost.append(
                f"the ledger of process {worker.spec.index + 1} has {written} of "
                f"{worker.result['intended']} requests"
            )
        result.intended += written
        if worker.result is not None:
            _join(result, worker.result)
    writer.close()
    Path(f"{result.ledger}.partial").replace(result.ledger)
    for worker in run.workers:
        Path(worker.spec.ledger).unlink(missing_ok=True)
        Path(worker.spec.result).unlink(missing_ok=True)
    result.duration = max(ends)
    result.lost = tuple(lost)
    return result


def _copy(worker: _Worker, writer: LedgerWriter) -> tuple[int, float]:
    """Copy the ledger of one process; return the number of records and the last end."""
    before, last = writer.written, 0.0
    with suppress(OSError):
        for record in read_ledger(Path(worker.spec.ledger)):
            writer.write(record, 0.0)
            last = max(last, record["end"])
    return writer.written - before, last


def _write_lost(traffic: TrafficSpec, worker: _Worker, writer: LedgerWriter, end: float) -> int:
    """Record what a lost process was to send until `end`; return how many requests."""
    before = writer.written
    spec = worker.spec
    for record in _unaccounted(traffic, spec, Path(spec.ledger), worker.latest, end):
        full: Record = {**record, "end": end, "class": str(EndClass.WORKER_LOST)}
        writer.write(full, 0.0)
    return writer.written - before


def _unaccounted(
    traffic: TrafficSpec, spec: WorkerSpec, ledger: Path, latest: dict[str, Any], end: float
) -> Iterator[Record]:
    seen = set()
    with suppress(OSError):
        seen = {record["i"] for record in read_ledger(ledger)}
    if not traffic.open_loop:
        # Users ask when they are answered: what the process said last is all that is known.
        for _ in range(max(latest.get("intended", 0) - len(seen), 0)):
            yield {"at": end}
        return
    for number, at in enumerate(arrivals(traffic)):
        if at > end:
            return
        if number % spec.count == spec.index and number not in seen:
            yield {"i": number, "at": round(at, 6)}


def _join(whole: TrafficResult, part: dict[str, Any]) -> None:
    whole.stopped = whole.stopped or part["stopped"]
    whole.notes += part["notes"]
    whole.dispatch_lag.merge(Histogram.from_json(part["dispatch_lag"]))
    whole.loop_lag.merge(Histogram.from_json(part["loop_lag"]))
    whole.gaps.merge(Histogram.from_json(part["gaps"]))
    whole.cpu = max(whole.cpu, part["cpu"])
    whole.memory_mb = max(whole.memory_mb, part["memory_mb"])
