"""From a suite of the file to something the engine can ask: cases, messages, judgement."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any

from pytest_llmdeploy.config.gates import SuiteConfig
from pytest_llmdeploy.errors import ConfigError, NotMeasuredError, Problem
from pytest_llmdeploy.gates.assertions import (
    AssertionContext,
    AssertionRegistry,
    AssertionResult,
    AssertionSet,
    AssertionSpec,
    Grading,
    NotEvaluable,
    transforms,
)
from pytest_llmdeploy.gates.assertions.graded import GRADED_TYPES
from pytest_llmdeploy.gates.case import Case
from pytest_llmdeploy.gates.cases import Where, load_cases
from pytest_llmdeploy.gates.grading import Judging, Stopwatch
from pytest_llmdeploy.gates.instant import is_instant
from pytest_llmdeploy.gates.prompts import render, validate_prompts
from pytest_llmdeploy.gates.scoring import SampleScore, judge_case, score_sample
from pytest_llmdeploy.ports import Answer, Embedder, Message, Model
from pytest_llmdeploy.threads import in_daemon_thread

JUDGED_AT_ONCE = 16
"""Answers of a suite that are judged side by side: the time of one is hardly spent on others.

With a judge most of the time is waiting, so as many are judged as are asked.
"""


@dataclass(frozen=True, slots=True)
class Sample:
    """One answer to a case, judged; or why there is none."""

    score: SampleScore | NotMeasuredError
    record: Mapping[str, Any]
    """The same as builtins, with the answer, for the record."""


@dataclass(frozen=True, slots=True)
class Clients:
    """How a suite's clients are made; each is called inside the event loop."""

    model: Callable[[], Model]
    judge: Callable[[], Model] | None = None
    embedder: Callable[[], Embedder] | None = None


@dataclass(frozen=True, slots=True)
class Imported:
    """What there is to say about a suite that another tool's file describes."""

    format: str
    """Such as promptfoo."""
    unsupported: Mapping[str, int] = field(default_factory=dict)
    """Rows that cannot be judged here, by reason."""
    vacuous: Mapping[str, int] = field(default_factory=dict)
    """Rows that pass whatever the answer, by reason."""
    warnings: Sequence[str] = ()
    """What was read but has no effect here, such as a provider's own address."""


@dataclass(frozen=True, slots=True)
class Suite:
    """One gate, ready to be asked."""

    key: str
    """Unique within the run."""
    cases: Mapping[str, Case]
    """All its cases by id, in order."""
    messages: Callable[[Case], Sequence[Message]]
    evaluate: Callable[[Case, Sequence[Message], Answer, Grading | None], AssertionResults]
    """Judge an answer by the case's assertions, in a thread; may block on a judge."""
    score: Callable[[Case, AssertionResults], SampleScore]
    clients: Clients
    parameters: Mapping[str, Any]
    concurrency: int
    timeout: float
    """Seconds an attempt; an answer's assertions have as long, not counted what a judge takes."""
    redact: Callable[[Any], Any]
    """Remove secrets from a nested value of builtins."""
    throttled_timeout: float = 300.0
    """Seconds for which a request is asked again after a refusal with 429."""
    imported: Imported | None = None
    """Where the suite comes from, when another tool wrote it."""
    judging: Judging = field(default_factory=Judging)
    """How the judge of model-graded assertions is asked."""
    instant: Callable[[Case, Answer], bool] = lambda _case, _answer: False
    """Whether `evaluate` takes no time for an answer, so that it needs no thread."""
    judged_at_once: asyncio.Semaphore = field(
        default_factory=lambda: asyncio.Semaphore(JUDGED_AT_ONCE), repr=False, compare=False
    )

    async def sample(
        self, case: Case, messages: Sequence[Message], answer: Answer, grading: Grading | None
    ) -> Sample:
        """Judge one answer; off the event loop, as assertions can be a project's own code.

        Such code can also never return: it is given up then, and its thread left behind.
        """
        record: dict[str, Any] = {**_fields(answer), "assertions": []}
        try:
            if self.instant(case, answer):
                results = self.evaluate(case, messages, answer, grading)
            else:
                watch = None if grading is None else Stopwatch(grading)
                evaluate = partial(self.evaluate, case, messages, answer, watch)
                results = await self._judged(evaluate, watch)
            record["assertions"] = [_as_record(result) for result in results]
            score = self.score(case, results)
        except NotMeasuredError as error:
            return Sample(error, {**record, "error": str(error)})
        return Sample(score, {**record, "passed": score.passed, "score": score.score})

    async def _judged(
        self, evaluate: Callable[[], AssertionResults], watch: Stopwatch | None
    ) -> AssertionResults:
        """Return the results; the time that a judge takes, who has deadlines, is not counted."""
        async with self.judged_at_once:
            began = time.monotonic()
            judging = asyncio.wrap_future(in_daemon_thread(evaluate))
            try:
                while not judging.done():
                    own = time.monotonic() - began - (watch.waited if watch else 0.0)
                    if own >= self.timeout:
                        raise NotEvaluable(f"the assertions took longer than {self.timeout:g} s")
                    await asyncio.wait({judging}, timeout=self.timeout - own)
                return judging.result()
            finally:
                judging.cancel()  # else the thread would report to a loop that may be gone


AssertionResults = Sequence[AssertionResult]
_ANSWER_FIELDS = tuple(each.name for each in fields(Answer))


def _fields(answer: Answer) -> dict[str, Any]:
    """Return the answer's fields; not asdict, which copies every part of what is only read."""
    return {name: getattr(answer, name) for name in _ANSWER_FIELDS}


def _as_record(result: AssertionResult) -> dict[str, Any]:
    """Return the result as builtins, without what it does not have."""
    record: dict[str, Any] = {
        "type": result.type,
        "passed": result.passed,
        "score": result.score,
        "reason": result.reason,
        "weight": result.weight,
    }
    if result.metric is not None:
        record["metric"] = result.metric
    if result.evidence:
        record["evidence"] = dict(result.evidence)
    if result.parts:
        record["parts"] = [_as_record(part) for part in result.parts]
    return record


def unanswered(reason: str) -> Sample:
    """Return the sample of a request that brought no answer to judge."""
    return Sample(NotMeasuredError(reason), {"error": reason})


def judge_samples(case: Case, samples: Sequence[Sample]) -> dict[str, Any]:
    """Return the case's result as builtins."""
    judged = judge_case([sample.score for sample in samples], case.threshold, case.k_of_n)
    return {
        "verdict": str(judged.verdict),
        "score": judged.score,
        "reason": judged.reason,
        "weight": case.weight,
        "samples": [dict(sample.record) for sample in samples],
    }


@dataclass(frozen=True, slots=True)
class SuiteParts:
    """What the different ways to write a suite come down to; see the fields of Suite."""

    cases: Sequence[Case]
    messages: Callable[[Case], Sequence[Message]]
    evaluate: Callable[[Case, Sequence[Message], Answer, Grading | None], AssertionResults]
    score: Callable[[Case, AssertionResults], SampleScore]
    imported: Imported | None = None
    graded: bool = True
    """Whether answers may be judged by asking somebody, which is mostly waiting."""
    instant: Callable[[Case, Answer], bool] = lambda _case, _answer: False


def build_suite(
    *,
    key: str,
    name: str,
    config: SuiteConfig,
    root: Path,
    where: Where,
    registry: AssertionRegistry,
    timeout: float,
    clients: Clients,
    redact: Callable[[Any], Any],
) -> Suite:
    """Load and validate the cases of one suite; raise ConfigError with every problem found."""
    parts = _reader(config)(name, config, root, where, registry)
    _refuse_secret_ids(parts.cases, redact)
    return Suite(
        key=key,
        cases={case.id: case for case in parts.cases},
        messages=parts.messages,
        evaluate=parts.evaluate,
        score=parts.score,
        clients=clients,
        parameters=config.parameters,
        concurrency=config.concurrency,
        timeout=timeout,
        throttled_timeout=config.throttled_timeout,
        redact=redact,
        imported=parts.imported,
        judging=_judging(config),
        instant=parts.instant,
        judged_at_once=asyncio.Semaphore(
            max(JUDGED_AT_ONCE, config.concurrency) if parts.graded else JUDGED_AT_ONCE
        ),
    )


def _judging(config: SuiteConfig) -> Judging:
    judge = config.judge
    return Judging(
        judge.parameters,
        judge.votes,
        judge.timeout,
        judge.endpoint.model if judge.endpoint else None,
    )


Reader = Callable[[str, SuiteConfig, Path, Where, AssertionRegistry], SuiteParts]
"""Reads a suite: its name, its section, the folder of paths in it, the lines of its keys."""


def _reader(config: SuiteConfig) -> Reader:
    if config.promptfoo is not None:
        from pytest_llmdeploy.gates.promptfoo.suite import read_promptfoo

        return read_promptfoo
    if config.openai_evals is not None:
        from pytest_llmdeploy.gates.openai_evals.suite import read_openai_evals

        return read_openai_evals
    return _read_cases


def _read_cases(
    name: str, config: SuiteConfig, root: Path, where: Where, registry: AssertionRegistry
) -> SuiteParts:
    cases = load_cases(name, config, root, where, registry)
    validate_prompts(cases, config.prompt, config.system, root)

    return SuiteParts(
        cases=cases,
        messages=lambda case: render(case, config.prompt, config.system, root),
        evaluate=partial(judged_by_assertions, registry=registry, parameters=config.parameters),
        score=lambda case, results: score_sample(results, case.threshold),
        graded=any(_graded(spec) for case in cases for spec in case.assertions),
        instant=is_instant,
    )


def judged_by_assertions(
    case: Case,
    messages: Sequence[Message],
    answer: Answer,
    grading: Grading | None,
    *,
    registry: AssertionRegistry,
    parameters: Mapping[str, Any],
) -> AssertionResults:
    """Judge an answer by the assertions of its case; `parameters` are the suite's."""
    context = AssertionContext(
        answer=answer,
        case_id=case.id,
        vars=case.vars,
        messages=messages,
        parameters={**parameters, **case.parameters},
        grading=grading,
    )
    context = transforms.apply(case.transforms, context)
    return [registry.evaluate(spec, context.answer, context) for spec in case.assertions]


def _graded(spec: AssertionSpec | AssertionSet) -> bool:
    if isinstance(spec, AssertionSet):
        return any(_graded(part) for part in spec.assertions)
    return spec.type in GRADED_TYPES


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
