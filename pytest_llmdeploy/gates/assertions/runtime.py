"""Assertions on how the answer came, not on what it says."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pytest_llmdeploy.gates.assertions.spec import (
    AssertionContext,
    AssertionType,
    BadValue,
    Check,
    Finding,
    NotEvaluable,
    without_threshold,
)
from pytest_llmdeploy.gates.wording import quote


def _latency(value: Any, threshold: float | None) -> Check:
    if value is not None and threshold is not None:
        raise BadValue("give the seconds once, as value or as threshold")
    limit = _above_0(threshold if value is None else value, "a number of seconds", "latency: 2.5")

    def judge(context: AssertionContext) -> Finding:
        if context.answer.replayed:
            raise NotEvaluable("latency: the answer is replayed, its latency is another run's")
        seconds = context.answer.latency
        if not math.isfinite(seconds):
            raise NotEvaluable(f"latency: the answer's latency is {seconds}")
        return Finding(seconds <= limit, f"it took {seconds:.3f} s")

    return Check(f"to come within {limit:g} s", judge)


def _above_0(value: object, what: str, example: str) -> float:
    try:
        number = float(value) if isinstance(value, int | float | str) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if isinstance(value, bool) or not 0 < number < math.inf:
        raise BadValue(f"it needs {what} above 0, such as '{example}'")
    return number


def _cost(value: Any, threshold: float | None) -> Check:
    limit = _limit(value, threshold, "dollars", "cost: 0.002")

    def judge(context: AssertionContext) -> Finding:
        dollars = context.answer.cost
        if dollars is None:
            raise NotEvaluable("cost: the answer has no cost; give the model's price in 'prices:'")
        if not math.isfinite(dollars):
            raise NotEvaluable(f"cost: the answer's cost is {dollars}")
        return Finding(dollars <= limit, f"it cost {dollars:g} dollars")

    return Check(f"to cost at most {limit:g} dollars", judge)


def _finish_reason(value: Any) -> Check:
    if not isinstance(value, str) or not value.strip():
        raise BadValue("it needs the reason as text, such as 'finish-reason: stop'")
    wanted = value.strip()

    def judge(context: AssertionContext) -> Finding:
        reason = context.answer.finish_reason
        if reason is None:
            raise NotEvaluable("finish-reason: the answer tells none")
        return Finding(reason.casefold() == wanted.casefold(), f"got {quote(reason)}")

    return Check(f"to have the finish reason {quote(wanted)}", judge)


def _perplexity(value: Any, threshold: float | None) -> Check:
    limit = _limit(value, threshold, "perplexity", "perplexity: 5")

    def judge(context: AssertionContext) -> Finding:
        found = _perplexity_of("perplexity", context)
        return Finding(found <= limit, f"it has {found:g}")

    return Check(f"to have a perplexity of at most {limit:g}", judge)


def _perplexity_score(value: Any, threshold: float | None) -> Check:
    limit = _limit(value, threshold, "score", "perplexity-score: 0.3")
    if limit > 0.5:
        raise BadValue(f"a score of {limit:g} is never reached: a perplexity is at least 1")

    def judge(context: AssertionContext) -> Finding:
        score = 1 / (1 + _perplexity_of("perplexity-score", context))
        return Finding(score >= limit, f"it has {score:g}", score)

    return Check(f"to have a perplexity score of at least {limit:g}", judge)


def _perplexity_of(name: str, context: AssertionContext) -> float:
    """Return e to the mean negative log probability of the tokens; raise NotEvaluable."""
    known = context.answer.logprobs
    if not known:
        raise NotEvaluable(
            f"{name}: the answer has no logprobs; ask with 'parameters: {{logprobs: true}}'"
        )
    if not all(math.isfinite(one) and one <= 0 for one in known):
        raise NotEvaluable(f"{name}: a logprob of the answer is no finite number up to 0")
    try:
        return math.exp(-math.fsum(known) / len(known))
    except OverflowError as error:
        raise NotEvaluable(f"{name}: the perplexity is too large to be told") from error


def _limit(value: Any, threshold: float | None, unit: str, example: str) -> float:
    """Return the limit, which stands as value or as threshold."""
    if value is not None and threshold is not None:
        raise BadValue("give the limit once, as value or as threshold")
    return _above_0(threshold if value is None else value, f"a number of {unit}", example)


TYPES: Mapping[str, AssertionType] = {
    "latency": _latency,
    "cost": _cost,
    "finish-reason": without_threshold(_finish_reason),
    "perplexity": _perplexity,
    "perplexity-score": _perplexity_score,
}
