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
from collections.abc import Callable, Coroutine, Iterable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any

from pytest_llmdeploy.errors import NotMeasuredError
from pytest_llmdeploy.gates.answers import AnswerStore
from pytest_llmdeploy.gates.asking import Asking, Party
from pytest_llmdeploy.gates.assertions import Grading
from pytest_llmdeploy.gates.budget import Budget, Prices, limited
from pytest_llmdeploy.gates.case import Case
from pytest_llmdeploy.gates.counting import NOT_ASKED
from pytest_llmdeploy.gates.grading import LoopGrading
from pytest_llmdeploy.gates.identity import case_hash
from pytest_llmdeploy.gates.pacing import Pacer
from pytest_llmdeploy.gates.progress import Progress, SuiteState
from pytest_llmdeploy.gates.record import redacted, surprise
from pytest_llmdeploy.gates.recording import (
    Calls,
    RecordedEmbedder,
    RecordedModel,
)
from pytest_llmdeploy.gates.samples import all_samples, canned_answer, spent_on
from pytest_llmdeploy.gates.store import CaseStore, Result
from pytest_llmdeploy.gates.suite import Sample, Suite, judge_samples, unanswered
from pytest_llmdeploy.gates.writing import Writer
from pytest_llmdeploy.liveness import Pulse
from pytest_llmdeploy.ports import Message
from pytest_llmdeploy.verdicts import Verdict

POLL_INTERVAL = 0.05
"""Seconds between looks at what other workers have done."""
CLOSE_TIMEOUT = 10.0
"""Seconds in which cancelled requests have to be gone."""
ABANDONED_INTERVAL = 1.0
"""Seconds between looks for workers that died with claimed cases."""


AHEAD = 4
"""One case in so many is claimed beyond what is in flight, so that none waits for a claim."""
NOT_NEEDED = "not asked: the gate's verdict can no longer change"


class NotNeededError(Exception):
    """The case was left out, because the verdict of its gate is known."""


class _SettledError(Exception):
    """It is a case's turn, and it is not needed any more."""


class GateEngine:
    """Deals out, asks and judges the cases of this run's suites; made on the first gate item."""

    def __init__(
        self,
        record: Path,
        pulse: Path,
        workers: int,
        *,
        replay: Path | None = None,
        answers: Path | None = None,
    ) -> None:
        """`replay` has the answers that are taken instead of asking; `answers` gets new ones."""
        self._replay = None if replay is None else AnswerStore(replay, writable=False)
        self._shared = None if answers is None else AnswerStore(answers, writable=True)
        self._workers = workers
        self._record = record
        self._pacers: dict[str, Pacer] = {}
        self._budgets: dict[str, Budget] = {}
        self._states: dict[str, SuiteState] = {}
        self._news = threading.Condition()
        self._closing = False
        self._reading = CaseStore(record, pulse)
        self._writing = CaseStore(record, pulse)
        self._writer = Writer(self._writing, self._shared)
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
        self._run(self._flushed()).result(timeout=CLOSE_TIMEOUT)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=CLOSE_TIMEOUT)
        self._loop.close()
        for store in (self._reading, self._writing, self._replay, self._shared):
            if store is not None:
                store.close()
        for budget in self._budgets.values():
            budget.close()
        self._pulse.stop()

    async def _settled(self) -> None:
        # The drives have been cancelled; a second cancellation would cut their cleaning up.
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _flushed(self) -> None:
        self._writer.flush()

    def _run(self, work: Coroutine[Any, Any, None]) -> Future[None]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def want(self, suite: Suite, ids: Sequence[str], asking: Asking | None = None) -> None:
        """Note that these cases of `suite` will be asked for; nothing is sent yet."""
        asking = asking or Asking()
        positions = {case_id: position for position, case_id in enumerate(suite.cases)}
        self._reading.add(suite.key, [(positions[case_id], case_id) for case_id in ids])
        self._states[suite.key] = SuiteState(
            suite,
            Progress(wanted=len(ids)),
            asking,
            asking.enough.standing() if asking.enough else None,
        )

    def result(
        self, key: str, case_id: str, waiting: Callable[[Progress], None] = lambda _: None
    ) -> Result:
        """Return the result of one case, asking its suite's cases when that has not begun.

        `waiting` is called every now and then while there is none. Raises NotNeededError for a
        case that is left out because its gate's verdict is known.
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
                if self._left_out(state, case_id):
                    raise NotNeededError(NOT_NEEDED)
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
            with suppress(NotNeededError):
                self.result(key, case_id, waiting)
        return self._reading.results(key) if missing else there

    def _left_out(self, state: SuiteState, case_id: str) -> bool:
        return (
            state.standing is not None
            and self._reading.is_settled(state.suite.key)
            and self._reading.unclaimed(state.suite.key, case_id)
        )

    def _start(self, state: SuiteState) -> None:
        state.drive = self._run(self._drive(state))

    @staticmethod
    def _raise_crash(state: SuiteState) -> None:
        """Let an unforeseen error of the drive surface in the item that waits for it."""
        if state.drive is not None and not state.drive.cancelled():
            state.drive.result()

    async def _drive(self, state: SuiteState) -> None:
        """Claim and ask until no case of the suite is left to claim."""
        suite, asking = state.suite, state.asking
        share = self._share(suite)
        calls = self._calls(state)
        model = RecordedModel(
            suite.clients.model, asking.model.name, calls, self._pacer(state, asking.model)
        )
        if self._replay is None:
            model.prepare()  # an error of it is one of the run, not of each case
        running: set[asyncio.Task[None]] = set()
        grading = self._grading(state, calls)
        most = share + math.ceil(share / AHEAD)
        try:
            while True:
                free = 0 if self._closing or state.settled else most - len(running)
                for case_id in self._writing.claim(suite.key, free) if free else ():
                    ask = self._settle(state, suite.cases[case_id], model, grading)
                    running.add(asyncio.create_task(ask))
                state.progress.in_flight = len(running)
                if not running:
                    return
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
                if done and state.standing is not None:
                    self._look_whether_settled(state)
        finally:
            # The end of the run cancels a drive, perhaps just here: nothing may stay open for that.
            await asyncio.shield(_cleaned_up(running, grading, model))

    def _share(self, suite: Suite) -> int:
        """Return how many of a suite's requests this process may have in flight."""
        return max(1, math.ceil(suite.concurrency / self._workers))

    def _pacer(self, state: SuiteState, party: Party) -> Pacer:
        share, refused_for = self._share(state.suite), state.suite.throttled_timeout
        pacer = self._pacers.setdefault(party.address, Pacer(share, refused_for))
        pacer.widen(share, refused_for)
        return pacer

    def _calls(self, state: SuiteState) -> Calls:
        asking = state.asking
        budget = None
        if self._replay is None and limited(asking.budget):
            if asking.budget_name not in self._budgets:
                self._budgets[asking.budget_name] = Budget(
                    self._record, asking.budget_name, asking.budget
                )
            budget = self._budgets[asking.budget_name]
        needed = budget is not None and asking.budget.dollars is not None
        prices = Prices(asking.prices, needed)
        return Calls(self._writer, state.suite.redact, prices, budget, self._replay)

    def _grading(self, state: SuiteState, calls: Calls) -> LoopGrading:
        clients, asking = state.suite.clients, state.asking
        unpaid = Calls(self._writer, state.suite.redact, replay=self._replay)
        judge, embedder = clients.judge, clients.embedder
        return LoopGrading(
            state.suite.judging,
            None
            if judge is None
            else lambda: RecordedModel(
                judge, asking.judge.name, calls, self._pacer(state, asking.judge)
            ),
            None
            if embedder is None
            else lambda: RecordedEmbedder(
                embedder,
                asking.embedder.name,
                unpaid if asking.embedder.free else calls,
                self._pacer(state, asking.embedder),
            ),
        )

    def _look_whether_settled(self, state: SuiteState) -> None:
        """Stop dealing out cases, in all processes, once the verdict cannot change any more."""
        standing, key = state.standing, state.suite.key
        if standing is None or state.settled:
            return
        if self._workers > 1:
            if self._writing.is_settled(key):
                state.settled = True
                return
            for case_id in self._writing.finished(key) - state.counted:
                result = self._writing.result(key, case_id)
                if result is not None:
                    state.counted.add(case_id)
                    standing.add(case_id, result)
        if standing.settled:
            self._writing.settle(key)
            state.settled = True

    async def _settle(
        self, state: SuiteState, case: Case, model: RecordedModel, grading: Grading
    ) -> None:
        """Ask one case as often as it wants, judge it and keep the result."""
        suite = state.suite
        try:
            messages = suite.messages(case)
            samples = await all_samples(
                [
                    self._sample(state, case, messages, n, model=model, grading=grading)
                    for n in range(case.repeats)
                ]
            )
            judged = judge_samples(case, samples)
            if judged["verdict"] == Verdict.ERROR and (spent := spent_on(samples)):
                judged[NOT_ASKED] = spent
            judged["hash"] = case_hash(case)
            judged["messages"] = [dict(message) for message in messages]
            result = redacted(judged, suite.redact)
        except _SettledError:
            self._writing.give_back(suite.key, [case.id])
            return
        except NotMeasuredError:  # the record cannot be written: no other case can do better
            raise
        except Exception as error:  # noqa: BLE001 - becomes the case's ERROR, with its traceback
            result = surprise(case, error, suite.redact)
        await self._writer.finish(suite.key, case.id, result)
        if state.standing is not None and case.id not in state.counted:
            state.counted.add(case.id)
            state.standing.add(case.id, result)
        with self._news:
            state.finished[case.id] = result
            state.progress.finished += 1
            state.progress.failed += result["verdict"] != Verdict.PASS
            self._news.notify_all()

    async def _sample(
        self,
        state: SuiteState,
        case: Case,
        messages: Sequence[Message],
        number: int,
        *,
        model: RecordedModel,
        grading: Grading,
    ) -> Sample:
        suite = state.suite
        if case.problem is not None:
            return unanswered(case.problem)
        if case.canned is not None:
            return await suite.sample(case, messages, canned_answer(case.canned), grading)

        def go() -> None:
            if state.settled and case.id not in state.begun:
                raise _SettledError
            if state.broken:
                raise _NotSentError(state.broken)
            if state.standing is not None:
                state.begun.add(case.id)

        try:
            answer = await model.ask(
                messages,
                {**suite.parameters, **case.parameters},
                suite.timeout,
                number,
                whose=f"{suite.key.rpartition('::')[2]}/{case.id}",
                go=go,
            )
        except NotMeasuredError as error:
            if not isinstance(error, _NotSentError):
                state.note_failure(error)
            return Sample(error, {"error": str(error)})
        state.answered += 1
        return await suite.sample(case, messages, answer, grading)


class _NotSentError(NotMeasuredError):
    """The suite was given up before this request's turn."""

    unsent = True


async def _cleaned_up(
    running: Iterable[asyncio.Task[None]], grading: LoopGrading, model: RecordedModel
) -> None:
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    await grading.aclose()
    await model.aclose()


def _ended(state: SuiteState) -> bool:
    return state.drive is not None and state.drive.done()
