"""Verdicts on the objectives of a finished run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pytest_llmdeploy.config.objectives import Objective
from pytest_llmdeploy.load.counts import Count, allowed_share
from pytest_llmdeploy.verdicts import Verdict
from pytest_llmdeploy.verdicts.intervals import mean_interval
from pytest_llmdeploy.verdicts.shares import ShareVerdict, judge_clustered, judge_share


@dataclass(frozen=True, slots=True)
class Judged:
    """The verdict on one objective, with the numbers behind it."""

    name: str
    text: str
    verdict: Verdict
    reason: str
    n: int
    """Requests; for token gaps, gaps; for rates, stretches of time."""
    limit: float
    value: float | None = None
    """What was measured; None for a percentile beyond all that had a finite value."""
    lower: float | None = None
    """Confidence bounds of `value`; None where there is none, or an infinite one."""
    upper: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return builtins."""
        return asdict(self) | {"verdict": str(self.verdict)}


def judge_count(
    objective: Objective,
    count: Count,
    confidence: float,
    value: float | None,
    bounds: tuple[float | None, float | None] = (None, None),
) -> Judged:
    """Judge an objective that is a share of the requests.

    `value` is the measured percentile, with its `bounds` in seconds. The verdict rests on the share
    above the limit, with its exact binomial bound: order statistics, read the other way round.
    """
    allowed = allowed_share(objective)
    clustered = objective.metric == "itl"
    n, bad = (count.gaps.m, count.gaps.x) if clustered else (count.n, count.bad)
    if count.unknown:
        reason = f"{count.unknown} of {n + count.unknown} answers have no usage: no token counts"
        return _judged(objective, Verdict.ERROR, reason, n)
    if n == 0:
        return _judged(objective, Verdict.ERROR, "no request that it applies to was sent", 0)
    share = (
        judge_clustered(count.gaps, allowed, confidence)
        if clustered
        else judge_share(bad, n, allowed, confidence)
    )
    if objective.percentile is not None:
        shown = _measured(value, *bounds)
        reason = _percentile_reason(objective, share, bad, n, shown)
        return _judged(objective, share.verdict, reason, n, value, *bounds)
    return _share(objective, share, bad, n)


def _share(objective: Objective, share: ShareVerdict, bad: int, n: int) -> Judged:
    measured = bad / n
    lower, upper = share.lower, share.upper
    if not objective.at_most:  # goodput is what is left
        measured, lower, upper = 1 - measured, 1 - upper, 1 - lower
        bad = n - bad
    bound = upper if objective.at_most else lower
    if share.verdict is Verdict.FAIL:
        bound = lower if objective.at_most else upper
    sign = "at most" if bound is upper else "at least"
    reason = f"{objective.name} {_percent(measured)} ({bad} of {n}, {sign} {_percent(bound)})"
    reason += _conclusion(objective, share)
    return _judged(objective, share.verdict, reason, n, measured, lower, upper)


def _measured(value: float | None, lower: float | None, upper: float | None) -> str:
    shown = "beyond all that ended well" if value is None else seconds(value)
    if lower is not None and upper is not None:
        return f"{shown} ({seconds(lower)} to {seconds(upper)})"
    if lower is not None:
        return f"{shown} ({seconds(lower)} at least)"
    return f"{shown} ({seconds(upper)} at most)" if upper is not None else shown


def _percentile_reason(
    objective: Objective, share: ShareVerdict, bad: int, n: int, shown: str
) -> str:
    what = "token gaps" if objective.metric == "itl" else "requests"
    bound = share.lower if share.verdict is Verdict.FAIL else share.upper
    sign = "at least" if share.verdict is Verdict.FAIL else "at most"
    return (
        f"{objective.name} is {shown}; {bad} of {n} {what} above {seconds(objective.limit)}, "
        f"{sign} {_percent(bound)} where {_percent(allowed_share(objective))} may be"
        + _conclusion(objective, share)
    )


def _conclusion(objective: Objective, share: ShareVerdict) -> str:
    text = objective.text
    if share.verdict is Verdict.PASS:
        return f": {text} holds"
    if share.verdict is Verdict.FAIL:
        return f": {text} is missed"
    what = " requests" if objective.metric == "itl" else ""
    more = f"; about {share.needed}{what} would be needed" if share.needed else ""
    return f": not enough to tell whether {text}{more}"


def judge_rate(objective: Objective, batches: Sequence[float], confidence: float) -> Judged:
    """Judge a rate by the means of equal stretches of time, with Student's t."""
    mean, lower, upper = mean_interval(batches, confidence)
    if mean is None:
        return _judged(objective, Verdict.ERROR, "nothing was measured", 0)
    name, limit = objective.name, f"{plain(objective.limit, 6)}/s"
    if lower is None or upper is None:
        verdict, why = Verdict.INCONCLUSIVE, "the run is too short for an interval"
    elif lower >= objective.limit:
        verdict, why = Verdict.PASS, f"at least {plain(lower, 4)}/s where {limit} is wanted"
    elif upper < objective.limit:
        verdict, why = Verdict.FAIL, f"at most {plain(upper, 4)}/s where {limit} is wanted"
    else:
        between = f"between {plain(lower, 4)} and {plain(upper, 4)}/s"
        why = f"{between}, around {limit}: a longer run would tell"
        verdict = Verdict.INCONCLUSIVE
    reason = f"{name} {plain(mean, 4)}/s ({why})"
    return _judged(objective, verdict, reason, len(batches), mean, lower, upper)


def _judged(
    objective: Objective,
    verdict: Verdict,
    reason: str,
    n: int,
    *numbers: float | None,
) -> Judged:
    """Return the verdict; `numbers` are value, lower and upper, as far as they are known."""
    return Judged(objective.name, objective.text, verdict, reason, n, objective.limit, *numbers)


def seconds(value: float) -> str:
    """Return a time as people read it."""
    return f"{plain(value * 1000)} ms" if value < 0.9995 else f"{plain(value)} s"


def plain(number: float, digits: int = 3) -> str:
    """Return a number with so many significant digits, and never with an exponent."""
    if not number:
        return "0"
    places = max(digits - 1 - math.floor(math.log10(abs(number))), 0)
    text = f"{number:.{places}f}"
    return text.rstrip("0").rstrip(".") if places else text


def _percent(share: float) -> str:
    return f"{plain(share * 100)} %"
