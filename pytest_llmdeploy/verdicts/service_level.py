"""Judge the latest points of a signal against its limit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from pytest_llmdeploy.verdicts.verdict import Verdict


@dataclass(frozen=True, slots=True)
class PointsVerdict:
    """What the latest points of a signal say about its limit."""

    verdict: Verdict
    mean: float | None
    """Mean of the points that were judged; None where they were not."""
    n: int
    """Usable points among the latest."""
    reason: str


def judge_points(
    points: Sequence[float | None], limit: float, *, at_most: bool, wanted: int
) -> PointsVerdict:
    """Judge the mean of the last `wanted` points; None stands for a point that is not there.

    At the limit is within it, whichever side it is on (`at_most`, or at least). Numbers are
    compared as the decimals that they are written as. Fewer points, one that is not there, and one
    that is not finite: INCONCLUSIVE. Raises ValueError for a limit that is not finite and for
    fewer than one wanted point.
    """
    if not math.isfinite(limit):
        raise ValueError(f"a limit must be a finite number, not {limit}")
    if wanted < 1:
        raise ValueError(f"at least one point must be wanted, not {wanted}")
    latest = points[-wanted:]
    usable = [point for point in latest if point is not None and math.isfinite(point)]
    if len(usable) < wanted:
        return PointsVerdict(
            Verdict.INCONCLUSIVE, None, len(usable), _missing(latest, len(usable), wanted)
        )
    exact = sum(Fraction(str(float(point))) for point in usable) / wanted
    bound = Fraction(str(float(limit)))
    within = exact <= bound if at_most else exact >= bound
    mean = float(exact)
    sign = ("<=" if within else ">") if at_most else (">=" if within else "<")
    shown = f"{mean:.4g}" if f"{mean:.4g}" != f"{limit:.4g}" else repr(mean)
    return PointsVerdict(
        Verdict.PASS if within else Verdict.FAIL,
        mean,
        wanted,
        f"mean of the last {wanted} points {shown} {sign} {limit:g}",
    )


def _missing(latest: Sequence[float | None], usable: int, wanted: int) -> str:
    absent = sum(point is None for point in latest)
    broken = len(latest) - absent - usable
    parts = [f"{usable} of the {wanted} points wanted are there"]
    if absent:
        parts.append(f"{absent} of the latest had no data")
    if broken:
        parts.append(f"{broken} of the latest not a finite number")
    return ", ".join(parts)
