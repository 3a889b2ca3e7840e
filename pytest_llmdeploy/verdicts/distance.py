"""How far two versions are apart, at every look: bounds of a difference and of a ratio.

Each version has a confidence sequence of its own with half of alpha; what both allow together
bounds the distance.
"""

from __future__ import annotations

import math

from pytest_llmdeploy.verdicts.sequences import Distribution, rank_bounds, share_bounds


def difference_bounds(
    stable: tuple[float, float], canary: tuple[float, float], alpha: float
) -> tuple[float, float]:
    """Return bounds of the canary's share less the stable version's, each as (bad, n).

    `alpha` is for both sides together, at all looks at once. The counts may be fractions.
    Raises ValueError for impossible counts and an alpha outside (0, 1).
    """
    s_low, s_high = share_bounds(*stable, alpha / 2)
    c_low, c_high = share_bounds(*canary, alpha / 2)
    return c_low - s_high, c_high - s_low


def ratio_bounds(
    stable: Distribution, canary: Distribution, q: float, alpha: float, *, factor: float = 1.0
) -> tuple[float | None, float | None]:
    """Return bounds of the canary's q-quantile over the stable version's.

    `alpha` is for both sides together, at all looks at once. None where one is not known. `factor`
    stands for so many times as many values, distributed as these. Raises ValueError for a q or an
    alpha outside (0, 1).
    """
    s_low, s_high = _bounds(stable, q, alpha / 2, factor)
    c_low, c_high = _bounds(canary, q, alpha / 2, factor)
    if not stable.total or not canary.total:
        return None, None
    high = c_high / s_low if s_low else math.inf
    return c_low / s_high, high if math.isfinite(high) else None


def _bounds(side: Distribution, q: float, alpha: float, factor: float) -> tuple[float, float]:
    first, last = rank_bounds(round(factor * side.total), q, alpha)
    return side.lower(first / factor), side.upper((last + 1) / factor)
