"""What an assertion of a row is judged by, and what it says; the values that promptfoo refuses."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pytest_llmdeploy.gates.assertions import Grading, NotEvaluable
from pytest_llmdeploy.gates.promptfoo.js_values import UNDEFINED, to_number
from pytest_llmdeploy.gates.promptfoo.row import Row
from pytest_llmdeploy.ports import Answer, Message


@dataclass(frozen=True, slots=True)
class Given:
    """One assertion, ready to be judged."""

    kind: str
    """Its type without ``not-``."""
    inverse: bool
    assertion: Mapping[str, Any]
    """As written."""
    value: Any
    """With templates filled in and files read; UNDEFINED where there is none."""
    scripted: Any
    """What code that the value names returned; UNDEFINED where it names none."""
    output: Any
    """The answer after every transform: text, or what a transform made of it."""
    text: str
    """The same as text."""
    row: Row
    answer: Answer
    messages: Sequence[Message]
    grading: Grading | None

    def limit(self, default: float | None = None) -> float | None:
        """Return the assertion's threshold."""
        written = self.assertion.get("threshold")
        return default if written is None else to_number(written)

    def limit_or(self, default: float) -> float:
        """Return the assertion's threshold, or the type's own."""
        limit = self.limit(default)
        return default if limit is None else limit

    def refuse(self, why: str) -> NotEvaluable:
        """Return the error of a row that promptfoo ends with an error, too."""
        return NotEvaluable(f"{self.assertion.get('type')}: {why}")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an assertion says, with ``not-`` in it already."""

    passed: bool
    score: float
    reason: str
    evidence: Mapping[str, Any] = field(default_factory=dict)


Handler = Callable[[Given], Outcome]


def said(given: Given, holds: bool, reason: str) -> Outcome:
    """Return the outcome of an assertion that scores 1 or 0; `reason` is told where it fails."""
    passed = holds != given.inverse
    return Outcome(passed, 1.0 if passed else 0.0, "passed" if passed else reason)


def scored(given: Given, score: float, name: str, default: float) -> Outcome:
    """Return the outcome of a score that must reach a threshold."""
    limit = given.limit_or(default)
    passed = (score >= limit) != given.inverse
    sign = ">=" if score >= limit else "<"
    kept = 1 - score if given.inverse else score
    return Outcome(passed, kept, f"{name} {score:.4f} {sign} threshold {limit:g}")


def number(value: float) -> float:
    """Return the value; raise NotEvaluable for NaN, which is no score."""
    if math.isnan(value):
        raise NotEvaluable("the score is not a number")
    return value


def present(value: Any) -> bool:
    """Say whether there is a value at all."""
    return value is not UNDEFINED and value is not None


def references(given: Given) -> list[str]:
    """Return the texts of a value that is one or several; raise NotEvaluable."""
    value = given.value
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return value
    raise given.refuse("the value must be a text or a list of texts")
