"""Judge two versions by the same cases, each asked of both: pairs of right and wrong answers.

Only the cases in which the versions differ say which is better. The test is McNemar's, exact:
"Note on the sampling error of the difference between correlated proportions or percentages",
Psychometrika 12 (1947). The interval is the score interval of Tango, "Equivalence test and
confidence interval for the difference in proportions for the paired-sample design", Statistics in
Medicine 17 (1998). Both are for one look at a number of cases that was settled beforehand.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

from pytest_llmdeploy.verdicts.intervals import incomplete_beta
from pytest_llmdeploy.verdicts.sequential import check_alpha
from pytest_llmdeploy.verdicts.verdict import Verdict


@dataclass(frozen=True, slots=True)
class PairedVerdict:
    """What pairs of answers say about a new version's pass rate."""

    verdict: Verdict
    difference: float | None
    """The canary's pass rate less the stable version's; None without cases."""
    low: float
    """Lower bound of the difference; both bounds together hold with 1 - alpha."""
    high: float
    p_value: float
    """Exact McNemar test, two-sided: that they are equally good."""
    reason: str


def judge_paired(
    both: int,
    only_stable: int,
    only_canary: int,
    neither: int,
    *,
    max_regression: float,
    alpha: float,
    names: tuple[str, str] = ("the stable version", "the canary"),
) -> PairedVerdict:
    """Judge whether the canary passes at most `max_regression`, a share, fewer of the cases.

    The counts are cases that both versions passed, only one, and neither; `names` are what the
    reason calls the two. PASS when the lower bound is within max_regression; FAIL when the test
    finds the canary worse at `alpha` and it is not shown to be within max_regression, or when the
    upper bound is beyond it; else INCONCLUSIVE. Raises ValueError for negative counts, and for a
    max_regression or an alpha outside (0, 1).
    """
    if min(both, only_stable, only_canary, neither) < 0:
        raise ValueError("the numbers of cases must not be negative")
    if not 0 < max_regression < 1:
        raise ValueError(f"max_regression must lie between 0 and 1, not {max_regression}")
    check_alpha(alpha)
    n = both + only_stable + only_canary + neither
    p_value = mcnemar_exact(only_stable, only_canary)
    low, high = tango_interval(only_canary, only_stable, n, alpha)
    if not n:
        return PairedVerdict(Verdict.INCONCLUSIVE, None, low, high, p_value, "no case was asked")
    within = low >= -max_regression
    worse = p_value <= alpha and only_stable > only_canary
    difference = (only_canary - only_stable) / n
    limit = f"the {100 * max_regression:g} points allowed"
    if within:
        verdict = Verdict.PASS
        said = f"{'worse, but by no' if worse else 'not worse by'} more than {limit}"
    elif worse or high < -max_regression:
        verdict, said = Verdict.FAIL, f"worse, and not shown to be within {limit}"
    else:
        verdict, said = Verdict.INCONCLUSIVE, f"not enough to tell whether it is within {limit}"
    reason = (
        f"of {n} cases {only_stable} passed with {names[0]} only and {only_canary} with"
        f" {names[1]} only: a difference of {100 * difference:+.1f} points (between"
        f" {100 * low:+.1f} and {100 * high:+.1f}), p = {p_value:.3g}; {said}"
    )
    return PairedVerdict(verdict, difference, low, high, p_value, reason)


def mcnemar_exact(first: int, second: int) -> float:
    """Return the two-sided p-value of so many pairs that differ one way, and the other way."""
    fewer, n = min(first, second), first + second
    return min(1.0, 2 * incomplete_beta(n - fewer, fewer + 1, 0.5)) if n else 1.0


def tango_interval(first: int, second: int, n: int, alpha: float) -> tuple[float, float]:
    """Return bounds of the difference of two paired proportions, (first - second) / n.

    Of n pairs `first` had the property at the first only, `second` at the second only. Two-sided
    with 1 - alpha. (-1, 1) for n = 0.
    """
    if not n:
        return -1.0, 1.0
    z = NormalDist().inv_cdf(1 - alpha / 2)
    observed = (first - second) / n

    def refuted(difference: float) -> bool:
        return abs(_score(first, second, n, difference)) > z

    return _edge(refuted, observed, -1.0), _edge(refuted, observed, 1.0)


def _edge(refuted: Callable[[float], bool], kept: float, out: float) -> float:
    """Return where `refuted` begins between a difference that is kept and one that is out."""
    for _ in range(60):
        middle = (kept + out) / 2
        kept, out = (kept, middle) if refuted(middle) else (middle, out)
    return out


def _score(first: int, second: int, n: int, difference: float) -> float:
    """Return Tango's score statistic, with the nuisance parameter at its constrained maximum."""
    distance = first - second - n * difference
    b = -first - second + (2 * n - first + second) * difference
    c = -second * difference * (1 - difference)
    a = 2.0 * n
    root = math.sqrt(max(0.0, b * b - 4 * a * c))
    rare = (root - b) / (2 * a) if b <= 0 else -2 * c / (root + b) if root + b else 0.0
    variance = n * (2 * rare + difference * (1 - difference))
    if variance <= 0:
        return 0.0 if distance == 0 else math.copysign(math.inf, distance)
    return distance / math.sqrt(variance)
