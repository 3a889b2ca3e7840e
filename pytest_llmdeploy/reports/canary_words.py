"""Findings of a canary in a person's words: figures with their unit, and what decided."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_llmdeploy.reports.canary_record import Finding, Phase
from pytest_llmdeploy.reports.html.numbers import NONE, rate, seconds, share, short, whole

SHARES = frozenset(
    {"error_rate", "own_error_rate", "truncated", "cpu_usage", "memory_usage", "split", "answers"}
)
RATES = frozenset({"throughput", "tokens_per_second"})
COUNTED_IN_POINTS = frozenset({"error_rate", "answers"})
"""Signals whose versions are compared by their difference; all others by their ratio."""


def value(signal: str, number: float | None) -> str:
    """Return a value of a signal with its unit."""
    if number is None:
        return NONE
    if signal in SHARES:
        return share(number)
    return rate(number) if signal in RATES else seconds(number)


def increase(finding: Finding, number: float | None) -> str:
    """Return a bound of an increase: ``+2.95 points``, or ``+8.5 %``."""
    if number is None:
        return NONE
    if finding.signal in COUNTED_IN_POINTS:
        return f"{100 * number:+.2f} points"
    return f"{100 * (number - 1):+.1f} %"


def interval(finding: Finding) -> str:
    """Return between what the increase lies, at all looks at once."""
    if finding.rule == "split":
        return f"{value('split', finding.low)} to {value('split', finding.high)}"
    if finding.low is None and finding.high is None:
        return NONE
    return f"{increase(finding, finding.low)} to {increase(finding, finding.high)}"


def limit(finding: Finding) -> str:
    """Return what is allowed."""
    if finding.limit is None:
        return NONE
    if finding.rule == "split":
        return value("split", finding.limit)
    if finding.rule == "quality":
        return f"-{100 * finding.limit:g} points"
    if finding.rule == "compare":
        unit = "points" if finding.signal in COUNTED_IN_POINTS else "%"
        return f"+{100 * finding.limit:g} {unit}"
    sign = "≥" if finding.signal == "throughput" else "≤"
    return f"{sign} {value(finding.signal, finding.limit)}"


def use_of_limit(finding: Finding) -> float | None:
    """Return which part of what is allowed is used up; above 1 is too much. None: not known."""
    if not finding.limit:
        return None
    if finding.rule == "sla" and finding.estimate is not None:
        if finding.signal == "throughput":
            return finding.limit / finding.estimate if finding.estimate else None
        return finding.estimate / finding.limit
    if finding.rule == "compare" and finding.high is not None:
        return _part_of_limit(finding, finding.high)
    if finding.rule == "quality" and finding.low is not None:
        return -finding.low / finding.limit
    return None


def is_shown(finding: Finding) -> bool:
    """Return whether its limit is shown to hold; a light phase may pass without."""
    used = use_of_limit(finding)
    return used is not None and used <= 1


def _part_of_limit(finding: Finding, bound: float) -> float | None:
    shift = 0 if finding.signal in COUNTED_IN_POINTS else 1
    return (bound - shift) / finding.limit if finding.limit else None


def in_short(finding: Finding) -> str:
    """Return a finding in a few words."""
    name = f"{finding.signal} ({finding.rule})"
    if finding.verdict not in ("PASS", "FAIL"):
        # What a comparison counted stands before the semicolon, what it means after it.
        return f"{name}: {finding.reason.rpartition('; ')[2]}"
    if finding.rule == "compare":
        return f"{name} {_compared(finding)}"
    if finding.rule == "sla" and finding.estimate is not None:
        return f"{name} {value(finding.signal, finding.estimate)}, {limit(finding)}"
    return f"{name}: {finding.reason}"


def _compared(finding: Finding) -> str:
    both = (value(finding.signal, number) for number in (finding.estimate, finding.stable))
    told = " against ".join(both)
    if finding.verdict == "PASS":
        if is_shown(finding):
            return f"{increase(finding, finding.high)} at most, {limit(finding)} allowed"
        return f"{told}: no sign of worse, not yet shown to be within {limit(finding)}"
    if finding.low is not None and (_part_of_limit(finding, finding.low) or 0.0) > 1:
        return f"{told}: {increase(finding, finding.low)} at least, {limit(finding)} allowed"
    evidence = f", e-value {short(finding.e_value)}" if finding.e_value is not None else ""
    return f"{told}: shown to be worse{evidence}"


def deciding(phase: Phase) -> Sequence[Finding]:
    """Return the findings that gave the phase its verdict; of those that passed, the closest.

    Comparisons come first: they tell how many requests would do.
    """
    alike = [each for each in phase.findings if each.verdict == phase.verdict]
    if phase.verdict != "PASS":
        return sorted(alike, key=lambda each: each.rule != "compare")
    # What is not shown says least, so it comes before the closest of what is.
    open_ones = [each for each in alike if each.rule == "compare" and not is_shown(each)]
    known = [each for each in alike if is_shown(each)]
    known.sort(key=lambda each: use_of_limit(each) or 0.0, reverse=True)
    return open_ones or known[:1]


def what_decided(phase: Phase) -> str:
    """Return in a few words what gave the phase its verdict."""
    found = "; ".join(map(in_short, deciding(phase)))
    if not found:
        return phase.reason
    shown = phase.verdict == "PASS" and all(map(is_shown, deciding(phase)))
    return f"closest: {found}" if shown else found


def requests(phase: Phase) -> str:
    """Return how many requests of either version the phase rests on."""
    counted = phase.counted
    if counted is not None:
        return f"{whole(counted.n)} new, {whole(counted.n_stable)} running"
    return f"{whole(phase.requests)} new" if phase.requests is not None else NONE
