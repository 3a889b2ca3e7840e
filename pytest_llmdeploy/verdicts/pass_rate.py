"""Pass rates against the rates that are wanted, by one of four rules; several of them at once.

The point rule compares the rate itself. The others (see `proportions`) ask what the cases show:
PASS when the rate is shown to reach its limit, FAIL when it is shown to stay below, INCONCLUSIVE
when neither. A gate passes only when all its rates do, so a PASS needs no correction (an
intersection-union test: Berger, Technometrics 24, 1982); it fails by any of them, so the claims of
FAIL are corrected for their number (Holm).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from pytest_llmdeploy.verdicts import holm
from pytest_llmdeploy.verdicts.proportions import (
    Bounds,
    Rule,
    bounds,
    chance_of_at_least,
    shows_at_least,
)
from pytest_llmdeploy.verdicts.verdict import Verdict

AnyRule = Literal["point"] | Rule
ENOUGH_FOR_BOUNDS = 20
"""With fewer cases bounds are so wide that, where no rule is named, the point rule is taken."""


@dataclass(frozen=True, slots=True)
class RateRule:
    """What is asked of a rate."""

    rule: AnyRule
    limit: Fraction
    """The rate that is wanted, as the decimal that was written; above 0 up to 1."""
    confidence: float
    """One-sided; of no meaning to the point rule."""


@dataclass(frozen=True, slots=True)
class Rate:
    """What is known of a rate: between what it is if all that is unknown failed, and if it passed.

    Sizes are numbers of independent cases of one weight that would be worth as much.
    """

    low: Fraction
    high: Fraction
    low_size: float
    high_size: float
    clusters: float | None = None
    """Where cases come in clusters: how many; None otherwise."""


def default_rule(cases: int, limit: float) -> AnyRule:
    """Return the rule for so many cases where none is named: no bound ever reaches a limit of 1."""
    return "wilson" if cases >= ENOUGH_FOR_BOUNDS and limit < 1 else "point"


def exact(number: float) -> Fraction:
    """Return the number that the user wrote, not its nearest binary neighbour."""
    return Fraction(str(number))


def judge_rates(asked: Sequence[tuple[RateRule, Rate]]) -> list[Verdict]:
    """Return PASS, FAIL or INCONCLUSIVE for each of the rates that are judged at once.

    Each verdict holds whatever the unknown cases would have been, as far as sizes do not depend on
    that: those of clusters do, and are taken at both ends.
    """
    # What is at or above its limit is refuted at no confidence: long runs are spared the work.
    chances = _corrected(
        [
            1.0
            if rule.rule in ("wilson", "exact") and rate.high >= rule.limit
            else _chance(rule, rate)
            for rule, rate in asked
        ]
    )
    return [
        Verdict.PASS
        if _shown(rule, rate)
        else Verdict.FAIL
        if _refuted(rule, rate, chance)
        else Verdict.INCONCLUSIVE
        for (rule, rate), chance in zip(asked, chances, strict=True)
    ]


def corrected_chances(asked: Sequence[tuple[RateRule, Rate]]) -> list[float | None]:
    """Return for each rate how well the cases agree with its limit, corrected for all (Holm).

    A p-value, or with bayes a posterior probability that is treated as one; None for point.
    """
    return _corrected([_chance(rule, rate) for rule, rate in asked])


def _corrected(uncorrected: Sequence[float | None]) -> list[float | None]:
    corrected = iter(holm.adjusted([chance for chance in uncorrected if chance is not None]))
    return [None if chance is None else next(corrected) for chance in uncorrected]


def rate_bounds(rule: RateRule, rate: Rate) -> Bounds:
    """Return where the rate lies, whatever the unknown cases would have been."""
    if rule.rule == "point":
        return Bounds(float(rate.low), float(rate.high))
    lower, _ = bounds(rule.rule, float(rate.low), rate.low_size, rule.confidence)
    _, upper = bounds(rule.rule, float(rate.high), rate.high_size, rule.confidence)
    if rate.clusters is not None:
        if rate.clusters <= 1:
            return Bounds(0.0, 1.0)
        lower = min(lower, bounds(rule.rule, 1.0, rate.clusters, rule.confidence).lower)
        upper = max(upper, bounds(rule.rule, 0.0, rate.clusters, rule.confidence).upper)
    return Bounds(lower, upper)


def _shown(rule: RateRule, rate: Rate) -> bool:
    if rule.rule == "point":
        return rate.low >= rule.limit
    if rule.rule != "bayes" and rate.low < rule.limit:
        return False  # a bound is below its rate; spares long runs the work for each answer
    limit = float(rule.limit)
    if rate.clusters is not None and (
        # One document says nothing about others; and a kind of cluster that has not come up could
        # fail throughout, which no variance shows.
        rate.clusters <= 1
        or not shows_at_least(rule.rule, 1.0, rate.clusters, limit, rule.confidence)
    ):
        return False
    return shows_at_least(rule.rule, float(rate.low), rate.low_size, limit, rule.confidence)


def _refuted(rule: RateRule, rate: Rate, chance: float | None) -> bool:
    if chance is None:
        return rate.high < rule.limit
    return chance < 1 - rule.confidence


def _chance(rule: RateRule, rate: Rate) -> float | None:
    """Return how well the cases agree with the limit, were it the only rate; None for point."""
    if rule.rule == "point":
        return None
    if rate.clusters is not None and rate.clusters <= 1:
        return 1.0  # one document says nothing about others
    limit = float(rule.limit)
    chance = chance_of_at_least(rule.rule, float(rate.high), rate.high_size, limit)
    if rate.clusters is not None:
        chance = max(chance, chance_of_at_least(rule.rule, 0.0, rate.clusters, limit))
    return chance
