"""Assertions on how the answer came: cost, finish reason, perplexity, replayed latency."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from pytest_llmdeploy.errors import ConfigError
from pytest_llmdeploy.gates.assertions import AssertionRegistry, NotEvaluable, evaluate
from tests.unit.gates.helpers import answer, context

REGISTRY = AssertionRegistry()
HALF = (math.log(0.5), math.log(0.5))

CASES: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    (
        "cost: 0.002",
        {"cost": 0.002},
        {"cost": 0.003},
        "expected the answer to cost at most 0.002 dollars, it cost 0.003 dollars",
    ),
    (
        "finish-reason: stop",
        {"finish_reason": "STOP"},
        {"finish_reason": "length"},
        'expected the answer to have the finish reason "stop", got "length"',
    ),
    (
        "perplexity: 3",
        {"logprobs": HALF},
        {"logprobs": (math.log(0.25),)},
        "expected the answer to have a perplexity of at most 3, it has 4",
    ),
    (
        "perplexity-score: 0.3",
        {"logprobs": HALF},
        {"logprobs": (math.log(0.25),)},
        "expected the answer to have a perplexity score of at least 0.3, it has 0.2",
    ),
]


@pytest.mark.parametrize(("raw", "good", "bad", "reason"), CASES)
def test_both_ways(raw: str, good: dict[str, Any], bad: dict[str, Any], reason: str) -> None:
    plain, negated = REGISTRY.parse(raw, "c:1"), REGISTRY.parse(f"not-{raw}", "c:1")
    right, wrong = replace(answer("x"), **good), replace(answer("x"), **bad)
    assert evaluate(plain, right, context()).passed
    assert not evaluate(negated, right, context()).passed
    found = evaluate(plain, wrong, context())
    assert (found.passed, found.reason) == (False, reason)
    assert evaluate(negated, wrong, context()).passed


@pytest.mark.parametrize("prefix", ["", "not-"])
@pytest.mark.parametrize(
    ("raw", "given", "reason"),
    [
        (
            "latency: 2",
            {"replayed": True},
            "latency: the answer is replayed, its latency is another run's",
        ),
        (
            "cost: 1",
            {"cost": None},
            "cost: the answer has no cost; give the model's price in 'prices:'",
        ),
        ("cost: 1", {"cost": math.nan}, "cost: the answer's cost is nan"),
        ("finish-reason: stop", {"finish_reason": None}, "finish-reason: the answer tells none"),
        (
            "perplexity: 3",
            {"logprobs": None},
            "perplexity: the answer has no logprobs; ask with 'parameters: {logprobs: true}'",
        ),
        (
            "perplexity-score: 0.3",
            {"logprobs": (math.nan,)},
            "perplexity-score: a logprob of the answer is no finite number up to 0",
        ),
        (
            "perplexity: 3",
            {"logprobs": (-9999.0,)},
            "perplexity: the perplexity is too large to be told",
        ),
    ],
)
def test_what_is_not_known_is_not_judged(
    prefix: str, raw: str, given: dict[str, Any], reason: str
) -> None:
    with pytest.raises(NotEvaluable) as caught:
        evaluate(REGISTRY.parse(prefix + raw, "c:1"), replace(answer("x"), **given), context())
    assert str(caught.value) == reason


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ("cost: 0", "cost: it needs a number of dollars above 0, such as 'cost: 0.002'"),
        ("cost(1): 2", "cost: give the limit once, as value or as threshold"),
        (
            "finish-reason",
            "finish-reason: it needs the reason as text, such as 'finish-reason: stop'",
        ),
        (
            "perplexity-score: 0.6",
            "perplexity-score: a score of 0.6 is never reached: a perplexity is at least 1",
        ),
    ],
)
def test_limits_that_could_not_be_meant(raw: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        REGISTRY.parse(raw, "c:1")
    assert [problem.message for problem in caught.value.problems] == [message]
