"""Judge whether requests were split as the weight says."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_llmdeploy.verdicts.sequences import share_bounds
from pytest_llmdeploy.verdicts.verdict import Verdict

ENOUGH_OF_ALL = 20
"""Answers, all of the right version, that prove a weight of 0 or 100."""


@dataclass(frozen=True, slots=True)
class SplitVerdict:
    """What the answers say about a weight; shares, not percent."""

    verdict: Verdict
    share: float | None
    """The canary's share of the answers; None without an answer."""
    low: float
    """The share served is at least this, at all looks at once."""
    high: float
    """The share served is at most this, at all looks at once."""
    reason: str


def judge_split(canary: int, n: int, weight: int, tolerance: float, alpha: float) -> SplitVerdict:
    """Judge whether the share of which `canary` of `n` were seen is `weight` percent.

    PASS when the confidence sequence of the share contains the weight and goes no further from it
    than `tolerance`, a share; FAIL when it excludes the weight, which ever happens to a right
    split with a probability of at most `alpha`; else INCONCLUSIVE. With 0 and 100 one answer of
    the wrong version is a FAIL, and `ENOUGH_OF_ALL` right ones PASS: fewer than 14 of 100 are
    wrong then, at 95 %. Raises ValueError for what cannot be.
    """
    if not 0 <= weight <= 100:
        raise ValueError(f"a weight must lie between 0 and 100, not {weight}")
    if not 0 < tolerance < 1:
        raise ValueError(f"a tolerance must lie between 0 and 1, not {tolerance}")
    low, high = share_bounds(canary, n, alpha)
    if not n:
        return SplitVerdict(Verdict.INCONCLUSIVE, None, low, high, "no answer to count")
    counted = f"{canary} of {n} answers came from the canary ({100 * canary / n:.1f} %)"
    if weight in (0, 100):
        verdict, said = _all_or_none(canary, n, weight)
    else:
        verdict, said = _between(low, high, weight / 100, tolerance)
    return SplitVerdict(verdict, canary / n, low, high, f"{counted}: {said}")


def _all_or_none(canary: int, n: int, weight: int) -> tuple[Verdict, str]:
    wrong = n - canary if weight else canary
    if wrong:
        return Verdict.FAIL, f"none may come from the other version at weight {weight}"
    if n < ENOUGH_OF_ALL:
        return Verdict.INCONCLUSIVE, f"as weight {weight} says, but {ENOUGH_OF_ALL} are needed"
    return Verdict.PASS, f"as weight {weight} says"


def _between(low: float, high: float, weight: float, tolerance: float) -> tuple[Verdict, str]:
    span = f"the share served lies between {100 * low:.1f} % and {100 * high:.1f} %"
    if not low <= weight <= high:
        return Verdict.FAIL, f"{span}, which excludes the weight of {100 * weight:g} %"
    reach = f"{100 * tolerance:g} points of the weight of {100 * weight:g} %"
    if weight - tolerance <= low and high <= weight + tolerance:
        return Verdict.PASS, f"{span}, within {reach}"
    return Verdict.INCONCLUSIVE, f"{span}, not yet within {reach}"
