"""A row of an eval, ready to be asked and judged."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pytest_llmdeploy.config.gates import SuiteConfig
from pytest_llmdeploy.gates.assertions import AssertionResult, Grading
from pytest_llmdeploy.gates.case import Case, safe_id
from pytest_llmdeploy.ports import Answer, Message

RowJudge = Callable[[Answer, Grading | None], Sequence[AssertionResult]]


@dataclass(frozen=True, slots=True)
class Row:
    """One case with what is sent and who judges it."""

    case: Case
    messages: Sequence[Message]
    judge: RowJudge


@dataclass(frozen=True, slots=True)
class Rows:
    """What a file of OpenAI's comes down to."""

    format: str
    rows: Sequence[Row]
    warnings: Sequence[str] = field(default_factory=tuple)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What a format knows of a row, before the gate's own settings are added."""

    number: int
    """1-based."""
    id: object = None
    item: Mapping[str, Any]
    source: str
    judgement: str
    """The graders and what they compare with, as one text, so that a baseline notices changes."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    canned: str | None = None
    problem: str | None = None
    vacuous: str | None = None


def case_of(draft: Draft, config: SuiteConfig, taken: set[str]) -> Case:
    """Return the case of a row; its id is added to `taken`.

    The gate's own sampling parameters win over those of the eval.
    """
    named = safe_id(str(draft.id)) if isinstance(draft.id, str | int) else ""
    case_id = named if named and named not in taken and named != "gate" else f"row-{draft.number}"
    while case_id in taken:
        case_id = f"{case_id}-{draft.number}"
    taken.add(case_id)
    parameters = {
        key: value for key, value in draft.parameters.items() if key not in config.parameters
    }
    if "max_tokens" in config.parameters:
        parameters.pop("max_completion_tokens", None)
    return Case(
        id=case_id,
        vars=draft.item,
        prompt=None,
        assertions=(),
        tags=(),
        weight=1.0,
        threshold=None,
        repeats=config.repeats,
        source=draft.source,
        k_of_n=config.k_of_n,
        parameters=parameters,
        canned=draft.canned,
        problem=draft.problem,
        judgement=draft.judgement,
        vacuous=None if draft.problem else draft.vacuous,
    )


def result(
    kind: str,
    passed: bool,
    score: float,
    reason: str,
    *,
    metric: str | None = None,
    evidence: Mapping[str, Any] | None = None,
) -> AssertionResult:
    """Return a grader's result; a score that rounding took out of 0 to 1 is put back."""
    return AssertionResult(
        kind,
        passed,
        min(1.0, max(0.0, score)),
        reason,
        metric=metric,
        evidence=evidence or {},
    )
