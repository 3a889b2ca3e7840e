"""Let a judge judge labelled answers, as it would in a gate, several times over."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from pytest_llmdeploy.commands.judge_labels import Labelled
from pytest_llmdeploy.errors import NotMeasuredError, UnreachableError
from pytest_llmdeploy.gates.assertions import AssertionRegistry, Grading
from pytest_llmdeploy.gates.assertions.graded.replies import UnusableReply
from pytest_llmdeploy.gates.grading import Beside, Judging, LoopGrading
from pytest_llmdeploy.gates.scoring import score_sample
from pytest_llmdeploy.gates.suite import Clients, Suite, judged_by_assertions
from pytest_llmdeploy.ports import Answer, Message, Model


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the judge said once about one answer."""

    passed: bool | None
    """None: there is no verdict."""
    reason: str
    """The judge's, or why there is no verdict."""
    unusable: bool = False
    """There is no verdict because the judge's reply was none."""
    evidence: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Judge:
    """Who judges, and how."""

    clients: Clients
    judging: Judging
    concurrency: int
    timeout: float
    """Seconds for what an assertion does itself."""
    redact: Callable[[Any], Any]


class _UntilUnreachable:
    """A model that is not asked again once it is known that every request would be refused."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._refused: UnreachableError | None = None

    async def ask(
        self,
        messages: Sequence[Message],
        parameters: Mapping[str, Any],
        timeout: float,
        index: int = 0,  # noqa: ARG002 - nothing is recorded that would be numbered
    ) -> Answer:
        """Ask the model."""
        if self._refused is not None:
            raise self._refused
        try:
            return await self._model.ask(messages, parameters, timeout)
        except UnreachableError as error:
            self._refused = error
            raise

    async def aclose(self) -> None:
        """Release connections."""
        await self._model.aclose()


class _Later(Beside):
    """A grading whose votes begin at another number: the same question, asked anew."""

    def __init__(self, grading: Grading, first: int) -> None:
        super().__init__(grading)
        self._first = first

    def chat(
        self,
        messages: Sequence[Message],
        parameters: Mapping[str, Any] | None = None,
        *,
        vote: int = 0,
    ) -> Answer:
        """See Grading."""
        return super().chat(messages, parameters, vote=self._first + vote)


def judge_labels(
    labels: Sequence[Labelled], judge: Judge, times: int, tell: Callable[[int, int], None]
) -> tuple[list[list[Outcome]], str]:
    """Return for each answer what the judge said each time, and the judge's name.

    `tell` hears how many verdicts are done, and of how many.
    """
    return asyncio.run(_all(labels, judge, times, tell))


async def _all(
    labels: Sequence[Labelled], judge: Judge, times: int, tell: Callable[[int, int], None]
) -> tuple[list[list[Outcome]], str]:
    clients = judge.clients
    make = clients.judge
    grading = LoopGrading(
        judge.judging,
        None if make is None else lambda: _UntilUnreachable(make()),
        clients.embedder,
    )
    suite = _suite(judge)
    free = asyncio.Semaphore(judge.concurrency)
    done = 0

    async def one(label: Labelled, time: int) -> Outcome:
        nonlocal done
        async with free:
            outcome = await _judge(suite, label, _Later(grading, time * grading.votes))
        done += 1
        tell(done, len(labels) * times)
        return outcome

    try:
        # Time by time: so an endpoint's cache of the last question is not what is asked.
        flat = await asyncio.gather(
            *(one(label, time) for time in range(times) for label in labels)
        )
    finally:
        await grading.aclose()
    return [list(flat[place :: len(labels)]) for place in range(len(labels))], grading.judge


def _suite(judge: Judge) -> Suite:
    """Return what judges an answer in a gate; there is nothing to ask but the judge."""
    return Suite(
        key="labels",
        cases={},
        messages=lambda _case: (),
        evaluate=partial(judged_by_assertions, registry=AssertionRegistry(), parameters={}),
        score=lambda _case, results: score_sample(results, None),
        clients=judge.clients,
        parameters={},
        concurrency=judge.concurrency,
        timeout=judge.timeout,
        redact=judge.redact,
        judged_at_once=asyncio.Semaphore(judge.concurrency),
    )


async def _judge(suite: Suite, label: Labelled, grading: Grading) -> Outcome:
    answer = Answer(label.answer, None, None, None, math.nan, "(labelled)", replayed=True)
    sample = await suite.sample(label.case, (), answer, grading)
    score = sample.score
    if isinstance(score, NotMeasuredError):
        reason = str(suite.redact(str(score)))
        return Outcome(None, reason, unusable=isinstance(score, UnusableReply))
    (record,) = sample.record["assertions"]
    evidence = suite.redact(record.get("evidence", {}))
    return Outcome(
        score.passed,
        _reason(str(suite.redact(record["reason"])), score.passed, evidence),
        evidence=evidence,
    )


def _reason(told: str, passed: bool, evidence: Mapping[str, Any]) -> str:
    """Return the judge's words for a pass, too, whose reason is only that it is met."""
    if not passed:
        return told
    replies = [vote["replies"] for vote in evidence.get("votes", ()) if vote.get("passed")]
    return f"{told}; it replied {replies[0][-1]}" if replies and replies[0] else told
