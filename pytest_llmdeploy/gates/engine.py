"""Ask the cases of all suites on one event loop, in a thread behind pytest's back.

Items wait for their own result, so that pytest goes through them one by one while many requests
are in flight. Under xdist every worker has an engine; the shared `CaseStore` deals each case to
exactly one of them.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_llmdeploy.errors import NotMeasuredError, UnreachableError
from pytest_llmdeploy.gates.assertions import Grading
from pytest_llmdeploy.gates.case import Case
from pytest_llmdeploy.gates.grading import LoopGrading, Unrecorded
from pytest_llmdeploy.gates.identity import case_hash
from pytest_llmdeploy.gates.record import redacted, surprise
from pytest_llmdeploy.gates.store import CaseStore, Result
from pytest_llmdeploy.gates.suite import Sample, Suite, judge_samples, unanswered
from pytest_llmdeploy.liveness import Pulse
from pytest_llmdeploy.ports import Answer, Message, Model
from pytest_llmdeploy.verdicts import Verdict

REFUSALS_IN_A_ROW = 5
"""After so many requests refused alike, and none answered, the rest of a suite is not asked."""
POLL_INTERVAL = 0.05
"""Seconds between looks at what other workers have done."""
CLOSE_TIMEOUT = 10.0
"""Seconds in which cancelled requests have to be gone."""
ABANDONED_INTERVAL = 1.0
"""Seconds between looks for workers that died with claimed cases."""


@dataclass(slots=True)
class Progress:
    """How far a suite is, as far as this process knows."""

    wanted: int = 0
    finished: int = 0
    failed: int = 0
    in_flight: int = 0
    started: float = field(default_factory=time.monotonic)

    def line(self) -> str:
        """Return what is shown while the suite is asked."""
        rate = self.finished / max(time.monotonic() - self.started, 1e-3)
        return (
            f"{self.finished} of {self.wanted} answered, {self.failed} not passed, "
            f"{self.in_flight} in flight, {rate:.1f}/s"
        )


@dataclass(slots=True)
class _State:
    """What the engine keeps for a suite it has been given."""

    suite: Suite
    progress: Progress
    finished: dict[str, Result] = field(default_factory=dict)
    """Results of this process that no item has taken yet; all are in the store."""
    drive: Future[None] | None = None
    refused: int = 0
    answered: int = 0
    failed: int = 0
    broken: str | None = None
    """Why the rest of the suite is not asked."""

    def note_failure(self, error: NotMeasuredError) -> None:
        """Give the suite up when nothing was ever answered and there is no sign that it will be.

        A thousand cases, each waiting for its timeout and its retries, would take hours to tell
        what the first ones told.
        """
        self.failed += 1
        self.refused += isinstance(error, UnreachableError)
        if self.answered or self.broken:
            return
        if self.refused >= REFUSALS_IN_A_ROW:
            why = f"{self.refused} requests were refused alike"
        elif self.failed >= max(REFUSALS_IN_A_ROW, self.suite.concurrency):
            why = f"the first {self.failed} requests all failed"
        else:
            return
        self.broken = f"not asked, because {why}: {error}"


class GateEngine:
    """Deals out, asks and judges the cases of this run's suites; made on the first gate item."""

    def __init__(self, record: Path, pulse: Path, workers: int) -> None:
        self._workers = workers
        self._states: dict[str, _State] = {}
        self._news = threading.Condition()
        self._closing = False
        self._reading = CaseStore(record, pulse)
        self._writing = CaseStore(record, pulse)
        self._pulse = Pulse(pulse)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="llmdeploy-gates", daemon=True
        )
        self._thread.start()

    def close(self, finish: Callable[[], bool]) -> None:
        """Claim no more cases, and end the thread.

        Requests in flight are awaited while `finish` returns true, and cancelled then. Under
        xdist they can be cases that another worker waits for: cancelled, they were asked twice.
        """
        self._closing = True
        drives = [state.drive for state in self._states.values() if state.drive]
        while finish() and not all(drive.done() for drive in drives):
            with self._news:
                self._news.wait(POLL_INTERVAL)
        for drive in drives:
            drive.cancel()
        self._run(self._settled()).result(timeout=CLOSE_TIMEOUT)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=CLOSE_TIMEOUT)
        self._loop.close()
        self._reading.close()
        self._writing.close()
        self._pulse.stop()

    async def _settled(self) -> None:
        # The drives have been cancelled; a second cancellation would cut their cleaning up.
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*tasks, return_exceptions=True)

    def _run(self, work: Coroutine[Any, Any, None]) -> Future[None]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def want(self, suite: Suite, ids: Sequence[str]) -> None:
        """Note that these cases of `suite` will be asked for; nothing is sent yet."""
        positions = {case_id: position for position, case_id in enumerate(suite.cases)}
        self._reading.add(suite.key, [(positions[case_id], case_id) for case_id in ids])
        self._states[suite.key] = _State(suite, Progress(wanted=len(ids)))

    def result(
        self, key: str, case_id: str, waiting: Callable[[Progress], None] = lambda _: None
    ) -> Result:
        """Return the result of one case, asking its suite's cases when that has not begun.

        `waiting` is called every now and then while there is none.
        """
        state = self._states[key]
        looked = time.monotonic()
        if state.drive is None:
            self._start(state)
        while True:
            result = state.finished.pop(case_id, None)
            if result is None and (self._workers > 1 or _ended(state)):
                result = self._reading.result(key, case_id)
            if result is not None:
                return result
            if time.monotonic() - looked > ABANDONED_INTERVAL or _ended(state):
                looked = time.monotonic()
                self._reading.release_abandoned(key)
                if _ended(state):
                    self._raise_crash(state)
                    self._start(state)
            with self._news:
                if case_id not in state.finished:
                    self._news.wait(POLL_INTERVAL)
            waiting(state.progress)

    def results(
        self, key: str, waiting: Callable[[Progress], None] = lambda _: None
    ) -> dict[str, Result]:
        """Return the results of the whole suite by case id; blocks until there are all."""
        there = self._reading.results(key)
        missing = [case_id for case_id in self._states[key].suite.cases if case_id not in there]
        for case_id in missing:
            self.result(key, case_id, waiting)
        return self._reading.results(key) if missing else there

    def _start(self, state: _State) -> None:
        state.drive = self._run(self._drive(state))

    @staticmethod
    def _raise_crash(state: _State) -> None:
        """Let an unforeseen error of the drive surface in the item that waits for it."""
        if state.drive is not None and not state.drive.cancelled():
            state.drive.result()

    async def _drive(self, state: _State) -> None:
        """Claim and ask until no case of the suite is left to claim."""
        suite = state.suite
        share = max(1, math.ceil(suite.concurrency / self._workers))
        model = suite.clients.model()
        judge = suite.clients.judge
        grading = LoopGrading(
            suite.judging,
            None if judge is None else lambda: Unrecorded(judge()),
            suite.clients.embedder,
        )
        slots = asyncio.Semaphore(share)
        running: set[asyncio.Task[None]] = set()
        try:
            while True:
                free = 0 if self._closing else share - len(running)
                for case_id in self._writing.claim(suite.key, free) if free else ():
                    ask = self._settle(state, suite.cases[case_id], model, grading, slots)
                    running.add(asyncio.create_task(ask))
                state.progress.in_flight = len(running)
                if not running:
                    return
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            await grading.aclose()
            await model.aclose()

    async def _settle(
        self,
        state: _State,
        case: Case,
        model: Model,
        grading: Grading,
        slots: asyncio.Semaphore,
    ) -> None:
        """Ask one case as often as it wants, judge it and keep the result."""
        suite = state.suite
        try:
            messages = suite.messages(case)
            samples = await asyncio.gather(
                *(
                    self._sample(state, case, messages, model, grading, slots)
                    for _ in range(case.repeats)
                )
            )
            judged = judge_samples(case, samples)
            judged["hash"] = case_hash(case)
            judged["messages"] = [dict(message) for message in messages]
            result = redacted(judged, suite.redact)
            self._writing.finish(suite.key, case.id, result)
        except NotMeasuredError:  # the record cannot be written: no other case can do better
            raise
        except Exception as error:  # noqa: BLE001 - becomes the case's ERROR, with its traceback
            result = surprise(case, error, suite.redact)
            self._writing.finish(suite.key, case.id, result)
        with self._news:
            state.finished[case.id] = result
            state.progress.finished += 1
            state.progress.failed += result["verdict"] != Verdict.PASS
            self._news.notify_all()

    async def _sample(
        self,
        state: _State,
        case: Case,
        messages: Sequence[Message],
        model: Model,
        grading: Grading,
        slots: asyncio.Semaphore,
    ) -> Sample:
        suite = state.suite
        if case.problem is not None:
            return unanswered(case.problem)
        if case.canned is not None:
            return await suite.sample(case, messages, _canned(case.canned), grading)
        async with slots:
            if state.broken:
                return unanswered(state.broken)
            try:
                parameters = {**suite.parameters, **case.parameters}
                answer = await model.ask(messages, parameters, suite.timeout)
            except NotMeasuredError as error:
                state.note_failure(error)
                return unanswered(str(error))
            state.answered += 1
        return await suite.sample(case, messages, answer, grading)


def _canned(text: str) -> Answer:
    """Return the answer that a case brings along."""
    return Answer(text, None, None, None, 0.0, "(the case's own answer)", replayed=True)


def _ended(state: _State) -> bool:
    return state.drive is not None and state.drive.done()
