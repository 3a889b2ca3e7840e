"""The verdict of a quality gate: a weighted pass rate, and what errors could change about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from pytest_llmdeploy.verdicts.verdict import Verdict


@dataclass(frozen=True, slots=True)
class GateVerdict:
    """What a gate concluded, with the numbers behind it."""

    verdict: Verdict
    pass_rate: float | None
    """Weighted share of passes among the measured cases; None when none was measured."""
    passed: int
    failed: int
    errors: int
    """Cases that were not measured."""
    total: int
    error_rate: float
    """Share of errors among the cases, by number; 0 when there is no case."""
    lowest: float | None
    """Pass rate if every error were a fail; None when none was measured."""
    highest: float | None
    """Pass rate if every error were a pass; None when none was measured."""
    reason: str
    """One sentence with the numbers that decided."""


def judge_pass_rate(
    outcomes: Sequence[tuple[float, Verdict]], min_pass_rate: float, max_error_rate: float
) -> GateVerdict:
    """Judge a gate by its cases, each as (weight, verdict).

    Nothing measured, or more errors than allowed: ERROR. Else PASS or FAIL when the unanswered
    cases could not change it, and INCONCLUSIVE when they could. Numbers are compared as the
    decimals that were written: 9 of 10 reach 0.9. A verdict that is neither PASS nor FAIL counts
    as an error. Raises ValueError for a weight that is not above 0.
    """
    tally = _Tally(outcomes)
    verdict, reason = _decide(tally, _exact(min_pass_rate), _exact(max_error_rate))
    rates = tally.rates
    return GateVerdict(
        verdict=verdict,
        pass_rate=float(rates.measured) if rates else None,
        passed=tally.count[Verdict.PASS],
        failed=tally.count[Verdict.FAIL],
        errors=tally.errors,
        total=tally.total,
        error_rate=float(tally.error_rate),
        lowest=float(rates.lowest) if rates else None,
        highest=float(rates.highest) if rates else None,
        reason=reason,
    )


@dataclass(frozen=True, slots=True)
class _Rates:
    measured: Fraction
    lowest: Fraction
    highest: Fraction


class _Tally:
    """Numbers and weights of the outcomes, exactly."""

    def __init__(self, outcomes: Sequence[tuple[float, Verdict]]) -> None:
        self.count = dict.fromkeys((Verdict.PASS, Verdict.FAIL, Verdict.ERROR), 0)
        weights = dict.fromkeys(self.count, Fraction())
        for weight, verdict in outcomes:
            exact = _exact(weight)
            if exact <= 0:
                raise ValueError(f"a case's weight must be above 0, not {weight}")
            kind = verdict if verdict in {Verdict.PASS, Verdict.FAIL} else Verdict.ERROR
            weights[kind] += exact
            self.count[kind] += 1
        self.total = len(outcomes)
        self.errors = self.count[Verdict.ERROR]
        self.error_rate = Fraction(self.errors, self.total) if self.total else Fraction()
        self.weighted = len({weight for weight, _ in outcomes}) > 1
        passed, unknown = weights[Verdict.PASS], weights[Verdict.ERROR]
        measured = passed + weights[Verdict.FAIL]
        self.rates = (
            _Rates(
                passed / measured,
                passed / (measured + unknown),
                (passed + unknown) / (measured + unknown),
            )
            if measured
            else None
        )


def _decide(tally: _Tally, wanted: Fraction, allowed: Fraction) -> tuple[Verdict, str]:
    if not tally.total:
        return Verdict.ERROR, "no case was selected"
    rates = tally.rates
    if rates is None:
        return Verdict.ERROR, f"none of the {tally.total} cases could be measured"
    missing = f"{tally.errors} of {tally.total} cases could not be measured"
    if tally.error_rate > allowed:
        share = _shown(tally.error_rate, allowed)
        return Verdict.ERROR, f"{missing}: error rate {share} > max_error_rate {_shown(allowed)}"
    limit = f"min_pass_rate {_shown(wanted)}"
    if rates.lowest < wanted <= rates.highest:
        low, high = _shown(rates.lowest, wanted), _shown(rates.highest, wanted)
        return (
            Verdict.INCONCLUSIVE,
            f"{missing}: the pass rate lies between {low} and {high}, around {limit}",
        )
    verdict, sign = (Verdict.FAIL, "<") if rates.highest < wanted else (Verdict.PASS, ">=")
    measured = tally.total - tally.errors
    weighted = ", weighted" if tally.weighted else ""
    counted = f"{tally.count[Verdict.PASS]} of {measured}{weighted}"
    even = f", whatever the {tally.errors} unmeasured would have been" if tally.errors else ""
    rate = _shown(rates.measured, wanted)
    return verdict, f"pass rate {rate} ({counted}) {sign} {limit}{even}"


def _exact(number: float) -> Fraction:
    """Return the number that the user wrote, not its nearest binary neighbour."""
    return Fraction(str(number))


def _shown(number: Fraction, beside: Fraction | None = None) -> str:
    """Return at least two decimals, and as many more as keep it apart from `beside`."""
    for digits in range(2, 7):
        text = f"{float(number):.{digits}f}"
        if beside is None:
            if Fraction(text) == number:
                return text
        elif number == beside or text != f"{float(beside):.{digits}f}":
            return text
    return text
