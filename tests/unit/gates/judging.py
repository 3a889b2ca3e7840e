"""Judges one answer by one assertion, for the tests of the types."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pytest_llmdeploy.errors import ConfigError
from pytest_llmdeploy.gates.assertions import (
    AssertionRegistry,
    AssertionResult,
    NotEvaluable,
    evaluate,
)
from tests.unit.gates.helpers import answer, context

REGISTRY = AssertionRegistry()


def judged(
    raw: object, text: str = "", parameters: dict[str, Any] | None = None, **fields: Any
) -> AssertionResult:
    """Return what an assertion says; `fields` are the answer's own."""
    given = replace(context(), parameters=parameters or {})
    return evaluate(REGISTRY.parse(raw, "c:1"), replace(answer(text), **fields), given)


def holds_and_fails(raw: str | dict[str, Any], good: str, bad: str, reason: str) -> None:
    """Assert that it passes and fails, and that ``not-`` is the opposite with 1 - score."""
    kind = "" if isinstance(raw, str) else next(iter(raw))
    negated = f"not-{raw}" if isinstance(raw, str) else {f"not-{kind}": raw[kind]}
    passed, failed = judged(raw, good), judged(raw, bad)
    assert (passed.passed, failed.passed, failed.reason) == (True, False, reason)
    for text, one in ((good, passed), (bad, failed)):
        opposite = judged(negated, text)
        assert opposite.passed is not one.passed
        assert opposite.score == pytest.approx(1 - one.score)


def refused(raw: object) -> str:
    """Return why what a user wrote cannot work."""
    with pytest.raises(ConfigError) as caught:
        REGISTRY.parse(raw, "c:1")
    return caught.value.problems[0].message


def not_evaluable(raw: object, text: str = "", **fields: Any) -> str:
    """Return why an answer cannot be judged, which ``not-`` does not change."""
    with pytest.raises(NotEvaluable) as caught:
        judged(raw, text, **fields)
    return str(caught.value)
