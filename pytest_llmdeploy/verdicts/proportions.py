"""What a number of cases shows about the rate at which such cases pass.

Three rules, each one-sided. Wilson: the score interval ("Probable inference, the law of succession,
and statistical inference", JASA 22, 1927). Exact: Clopper and Pearson (Biometrika 26, 1934), with
fractions of a case where cases weigh differently, after Korn and Graubard (Survey Methodology 24,
1998). Bayes: the posterior of a rate of which nothing was known, Beta(1 + x, 1 + n - x).

All of them take a mean and a size, which need not be whole. Values between 0 and 1, such as
estimates of pass@k, are judged as if they were that share of passes: of all values in [0, 1] with
one mean, passes and fails vary most, so the true variance is at most the one assumed here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from statistics import NormalDist
from typing import Literal, NamedTuple

from pytest_llmdeploy.verdicts.intervals import beta_quantile, check_confidence, incomplete_beta

Rule = Literal["wilson", "exact", "bayes"]
MOST_CASES = 10_000_000
"""Where the search for a number of cases that would do gives up."""
_NEAR = 1e-9
"""A count this near to a whole number is that number: means are rounded, counts are not."""


class Bounds(NamedTuple):
    """Where a rate lies; each bound holds with the confidence by itself."""

    lower: float
    upper: float


def bounds(rule: Rule, mean: float, n: float, confidence: float) -> Bounds:
    """Return the bounds of a rate seen as `mean` in `n` cases; (0, 1) without cases.

    Raises ValueError for a mean outside [0, 1], a negative n, or a confidence outside (0.5, 1).
    """
    check_confidence(confidence)
    passes, fails = _counts(mean, n)
    if not n:
        return Bounds(0.0, 1.0)
    if rule == "wilson":
        z2 = NormalDist().inv_cdf(confidence) ** 2
        middle = (passes + z2 / 2) / (n + z2)
        reach = math.sqrt(z2 * (passes * fails / n + z2 / 4)) / (n + z2)
        lower = max(0.0, middle - reach) if passes else 0.0
        return Bounds(lower, min(1.0, middle + reach) if fails else 1.0)
    if rule == "exact":
        lower = beta_quantile(1 - confidence, passes, fails + 1) if passes else 0.0
        return Bounds(lower, beta_quantile(confidence, passes + 1, fails) if fails else 1.0)
    return Bounds(
        beta_quantile(1 - confidence, 1 + passes, 1 + fails),
        beta_quantile(confidence, 1 + passes, 1 + fails),
    )


def shows_at_least(rule: Rule, mean: float, n: float, limit: float, confidence: float) -> bool:
    """Return whether the lower bound of the rate reaches `limit`, which lies in (0, 1].

    No number of cases shows a rate of 1. Without cases nothing is shown.
    """
    passes, fails = _counts(mean, n)
    if not n or limit >= 1:
        return False
    doubt = 1 - confidence
    if rule == "wilson":
        return _score(mean, n, limit) >= NormalDist().inv_cdf(confidence)
    if rule == "exact":
        return passes > 0 and incomplete_beta(passes, fails + 1, limit) <= doubt
    return incomplete_beta(1 + passes, 1 + fails, limit) <= doubt


def chance_of_at_least(rule: Rule, mean: float, n: float, limit: float) -> float:
    """Return how well the cases agree with a rate of `limit` or more: small numbers refute it.

    The p-value of the test that the rule's upper bound inverts; with bayes, the posterior
    probability. The upper bound is below `limit` where this is below ``1 - confidence``. 1 without
    cases. A rate of 1 is refuted by one fail.
    """
    passes, fails = _counts(mean, n)
    if not n or not fails:
        return 1.0 if rule != "bayes" or limit >= 1 else _posterior(passes, fails, limit)
    if limit >= 1:
        return 0.0
    if rule == "wilson":
        return NormalDist().cdf(_score(mean, n, limit))
    if rule == "exact":
        return incomplete_beta(fails, passes + 1, 1 - limit)
    return _posterior(passes, fails, limit)


def _posterior(passes: float, fails: float, limit: float) -> float:
    return incomplete_beta(1 + fails, 1 + passes, 1 - limit)


def smallest_n(rule: Rule, confidence: float, limit: float) -> int | None:
    """Return how many cases show a rate of `limit` when all of them pass; None for 1: no number."""
    check_confidence(confidence)
    if not 0 < limit <= 1:
        raise ValueError(f"a pass rate must lie in (0, 1], not {limit}")
    if limit == 1:
        return None
    if rule == "wilson":
        guess = limit * NormalDist().inv_cdf(confidence) ** 2 / (1 - limit)
    else:
        guess = math.log1p(-confidence) / math.log(limit) - (rule == "bayes")
    # The formulas are right up to rounding; the test itself has the last word.
    n = max(1, math.ceil(guess) - 1)
    while not shows_at_least(rule, 1.0, n, limit, confidence):
        n += 1
    return n


def enough_at(rule: Rule, mean: float, limit: float, confidence: float) -> int | None:
    """Return how many cases would show a rate of `limit` if `mean` of them passed; None: none."""
    if mean <= limit:
        return None
    low, high = 0, 1
    while not shows_at_least(rule, mean, high, limit, confidence):
        low, high = high, 2 * high
        if high > MOST_CASES:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        shown = shows_at_least(rule, mean, middle, limit, confidence)
        low, high = (low, middle) if shown else (middle, high)
    return high


def effective_number(weights: Iterable[float]) -> float:
    """Return how many cases of one weight are worth as much as these (Kish, "Survey Sampling").

    It is their number when all weigh the same, and less otherwise; 0 without any.
    """
    every = list(weights)
    if not every:
        return 0.0
    heaviest = max(every)
    if min(every) == heaviest:
        return float(len(every))
    parts = [weight / heaviest for weight in every]  # squares of huge weights would overflow
    return math.fsum(parts) ** 2 / math.fsum(part * part for part in parts)


def _score(mean: float, n: float, limit: float) -> float:
    return (mean - limit) / math.sqrt(limit * (1 - limit) / n)


def _counts(mean: float, n: float) -> tuple[float, float]:
    """Return passes and fails, whole where they are but for rounding."""
    if not 0 <= mean <= 1 or not 0 <= n < math.inf:
        raise ValueError(f"a mean of {mean} in {n} cases cannot be")
    passes, fails = mean * n, (1 - mean) * n
    return _whole(passes), _whole(fails)


def _whole(number: float) -> float:
    near = round(number)
    return float(near) if abs(number - near) <= _NEAR * max(1.0, number) else number
