"""Bounds that hold at every look: of a share, and of a quantile.

A confidence sequence is what the martingale of `sequential` has not yet refuted: all values at
which its e-value has stayed below 1 / alpha. However often one looks, the probability that the true
value is ever outside is at most alpha, both sides together (Howard, Ramdas, McAuliffe and Sekhon,
"Time-uniform, nonparametric, nonasymptotic confidence sequences", Annals of Statistics 49, 2021).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate

from pytest_llmdeploy.verdicts.sequential import check_alpha, log_e_value

Buckets = tuple[tuple[float, int], ...]
"""A distribution: upper edge (the last may be infinite) and number of values above the edge before
and up to this one; edges grow."""
_PRECISION = 1e-12


def share_bounds(bad: float, n: float, alpha: float) -> tuple[float, float]:
    """Return bounds of a share of which `bad` of `n` were seen, at all n at once.

    `alpha` is for both sides together. (0, 1) for n = 0. The counts may be fractions: those that
    are expected later. Raises ValueError for impossible counts and an alpha outside (0, 1).
    """
    if not 0 <= bad <= n < math.inf:
        raise ValueError(f"{bad} bad requests of {n} cannot be")
    check_alpha(alpha)
    if not n:
        return 0.0, 1.0
    most = -math.log(alpha)

    def refuted(share: float) -> bool:
        return log_e_value(bad, n, share) >= most

    observed = bad / n
    low = _edge(refuted, observed, 0.0) if bad else 0.0
    high = _edge(refuted, observed, 1.0) if bad < n else 1.0
    return low, high


def _edge(refuted: Callable[[float], bool], kept: float, out: float) -> float:
    """Return where `refuted` begins between a share that is kept and one that is out; just out."""
    while abs(out - kept) > _PRECISION:
        middle = (kept + out) / 2
        if middle in (kept, out):
            break
        kept, out = (kept, middle) if refuted(middle) else (middle, out)
    return out


@dataclass(frozen=True, slots=True)
class Distribution:
    """Buckets, prepared so that a rank is found by bisection."""

    edges: tuple[float, ...]
    upto: tuple[int, ...]
    """Number of values up to each edge."""

    @classmethod
    def of(cls, buckets: Buckets) -> Distribution:
        """Check and add up; raise ValueError for edges that do not grow, NaN, negative counts."""
        edges = tuple(edge for edge, _ in buckets)
        if any(not low < high for low, high in zip((-math.inf, *edges), edges, strict=False)):
            raise ValueError("the edges of buckets must be numbers that grow")
        if any(count < 0 for _, count in buckets):
            raise ValueError("the counts of buckets must not be negative")
        return cls(edges, tuple(accumulate(count for _, count in buckets)))

    @property
    def total(self) -> int:
        """Number of all values."""
        return self.upto[-1] if self.upto else 0

    def lower(self, rank: float) -> float:
        """Return what the value of a rank, from 1, is above: the lower edge of its bucket."""
        bucket = bisect_left(self.upto, rank)
        return max(0.0, self.edges[bucket - 1]) if bucket else 0.0

    def upper(self, rank: float) -> float:
        """Return what it does not exceed: the upper edge; infinite beyond all values."""
        bucket = bisect_left(self.upto, rank)
        return self.edges[bucket] if bucket < len(self.edges) else math.inf


def quantile_of(buckets: Buckets, q: float) -> float | None:
    """Return the q-quantile, by linear interpolation in its bucket.

    The upper edge's neighbour where that is infinite; None without values, and where all that is
    known is that it lies above 0.
    """
    check_quantile(q)
    known = Distribution.of(buckets)
    if not known.total:
        return None
    rank = q * known.total
    low, high = known.lower(rank or 1), known.upper(rank or 1)
    if math.isinf(high):
        return low or None
    bucket = bisect_left(known.upto, rank)
    before = known.upto[bucket - 1] if bucket else 0
    inside = known.upto[bucket] - before
    return low + (high - low) * ((rank - before) / inside if inside else 1.0)


def quantile_bounds(buckets: Buckets, q: float, alpha: float) -> tuple[float | None, float | None]:
    """Return bounds of the q-quantile of values of one distribution, at all looks at once.

    A value is at or below the true quantile with probability q, so the number of values up to it
    behaves as that of a share of q, and ranks that do not are refuted. `alpha` is for both sides
    together. The lower bound is the lower edge of its bucket, 0 in the first; the upper bound the
    upper edge of its own. None where that is not known: no values, or an infinite edge. A bound is
    as fine as the buckets. Raises ValueError for what is no distribution, and for a q or an alpha
    outside (0, 1).
    """
    known = Distribution.of(buckets)
    ranks = rank_bounds(known.total, q, alpha)
    if not known.total:
        return None, None
    high = known.upper(ranks[1] + 1)
    return known.lower(ranks[0]), high if math.isfinite(high) else None


def rank_bounds(n: int, q: float, alpha: float) -> tuple[int, int]:
    """Return the least and largest number of n values, up to the q-quantile, not refuted."""
    check_quantile(q)
    check_alpha(alpha)
    most = -math.log(alpha)
    centre = round(q * n)

    def refuted(rank: int) -> bool:
        return log_e_value(rank, n, q) >= most

    low, high = -1, centre
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if refuted(middle) else (low, middle)
    first, low, high = high, centre, n + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if refuted(middle) else (middle, high)
    return first, low


def check_quantile(q: float) -> None:
    """Raise ValueError for what is not strictly between 0 and 1."""
    if not 0 < q < 1:
        raise ValueError(f"a quantile must lie between 0 and 1, not {q}")
