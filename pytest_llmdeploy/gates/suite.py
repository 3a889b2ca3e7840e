"""From a suite of the file to something the engine can ask: cases, messages, judgement."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from pytest_llmdeploy.config.models import SuiteConfig
from pytest_llmdeploy.errors import ConfigError, NotMeasuredError, Problem
from pytest_llmdeploy.gates.assertions import (
    AssertionContext,
    AssertionRegistry,
    AssertionResult,
    NotEvaluable,
)
from pytest_llmdeploy.gates.case import Case
from pytest_llmdeploy.gates.cases import load_cases
from pytest_llmdeploy.gates.prompts import render, validate_prompts
from pytest_llmdeploy.gates.scoring import SampleScore, judge_case, score_sample
from pytest_llmdeploy.ports import Answer, Message, Model
from pytest_llmdeploy.threads import in_daemon_thread

JUDGED_AT_ONCE = 16
"""Answers of a suite that are judged side by side: the time of one is hardly spent on others."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One answer to a case, judged; or why there is none."""

    score: SampleScore | NotMeasuredError
    record: Mapping[str, Any]
    """The same as builtins, with the answer, for the record."""


@dataclass(frozen=True, slots=True)
class Suite:
    """One gate, ready to be asked."""

    key: str
    """Unique within the run."""
    cases: Mapping[str, Case]
    """All its cases by id, in order."""
    messages: Callable[[Case], Sequence[Message]]
    evaluate: Callable[[Case, Sequence[Message], Answer], AssertionResults]
    model: Callable[[], Model]
    """Make the client; called inside the event loop."""
    parameters: Mapping[str, Any]
    concurrency: int
    timeout: float
    """Seconds an attempt; an answer's assertions have as long."""
    redact: Callable[[Any], Any]
    """Remove secrets from a nested value of builtins."""
    _judging: asyncio.Semaphore = field(
        default_factory=lambda: asyncio.Semaphore(JUDGED_AT_ONCE), repr=False, compare=False
    )

    async def sample(self, case: Case, messages: Sequence[Message], answer: Answer) -> Sample:
        """Judge one answer; off the event loop, as assertions can be a project's own code.

        Such code can also never return: it is given up then, and its thread left behind.
        """
        record: dict[str, Any] = {**asdict(answer), "assertions": []}
        try:
            results = await self._judged(partial(self.evaluate, case, messages, answer))
            record["assertions"] = [asdict(result) for result in results]
            score = score_sample(results, case.threshold)
        except NotMeasuredError as error:
            return Sample(error, {**record, "error": str(error)})
        return Sample(score, {**record, "passed": score.passed, "score": score.score})

    async def _judged(self, evaluate: Callable[[], AssertionResults]) -> AssertionResults:
        async with self._judging:
            judging = asyncio.wrap_future(in_daemon_thread(evaluate))
            try:
                return await asyncio.wait_for(judging, self.timeout)
            except TimeoutError as error:
                raise NotEvaluable(f"the assertions took longer than {self.timeout:g} s") from error


AssertionResults = Sequence[AssertionResult]


def unanswered(reason: str) -> Sample:
    """Return the sample of a request that brought no answer to judge."""
    return Sample(NotMeasuredError(reason), {"error": reason})


def judge_samples(case: Case, samples: Sequence[Sample]) -> dict[str, Any]:
    """Return the case's result as builtins."""
    judged = judge_case([sample.score for sample in samples], case.threshold)
    return {
        "verdict": str(judged.verdict),
        "score": judged.score,
        "reason": judged.reason,
        "weight": case.weight,
        "samples": [dict(sample.record) for sample in samples],
    }


def build_suite(
    *,
    key: str,
    name: str,
    config: SuiteConfig,
    root: Path,
    where: Callable[..., tuple[str, int]],
    registry: AssertionRegistry,
    timeout: float,
    model: Callable[[], Model],
    redact: Callable[[Any], Any],
) -> Suite:
    """Load and validate the cases of one suite; raise ConfigError with every problem found."""
    cases = load_cases(name, config, root, where, registry)
    _refuse_secret_ids(cases, redact)
    validate_prompts(cases, config.prompt, config.system, root)

    def evaluate(case: Case, messages: Sequence[Message], answer: Answer) -> AssertionResults:
        context = AssertionContext(
            answer=answer, case_id=case.id, vars=case.vars, messages=messages
        )
        return [registry.evaluate(spec, answer, context) for spec in case.assertions]

    return Suite(
        key=key,
        cases={case.id: case for case in cases},
        messages=lambda case: render(case, config.prompt, config.system, root),
        evaluate=evaluate,
        model=model,
        parameters=config.parameters,
        concurrency=config.concurrency,
        timeout=timeout,
        redact=redact,
    )


def _refuse_secret_ids(cases: Sequence[Case], redact: Callable[[Any], Any]) -> None:
    """Raise ConfigError for ids that redaction would change: pytest itself prints them as names."""
    message = (
        "holds the value of a variable, which would show in every report; name the case otherwise"
    )
    problems = []
    for case in cases:
        if redact(case.id) != case.id:
            file, _, line = case.source.rpartition(":")
            problems.append(Problem(file, int(line), "id", message))
    if problems:
        raise ConfigError(problems)
