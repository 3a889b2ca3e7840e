"""How far two versions are apart, at every look: bounds of a difference and of a ratio.

Both versions are judged together. e(c) is the martingale of `sequential` for a value c of the
canary, e(s) for a value s of the stable version; then e(c) * (1 + e(s)) / 2 is a martingale at the
true pair, and by Ville's inequality ever reaches 1 / alpha with a probability of at most alpha. The
pairs at which it has not are a confidence sequence of the pair, and how far apart they get bounds
the distance. Two sequences with half of alpha each need up to two fifths more requests for the same
bound, as they allow for bad luck on both sides at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from pytest_llmdeploy.verdicts.sequences import Distribution, check_quantile
from pytest_llmdeploy.verdicts.sequential import check_alpha

_STEPS = 50
_LEVELS = 32
"""Ranks of the stable version that are tried; fewer give wider bounds, never wrong ones."""
_Log = Callable[[float], float]


def difference_bounds(
    stable: tuple[float, float], canary: tuple[float, float], alpha: float
) -> tuple[float, float]:
    """Return bounds of the canary's share less the stable version's, each as (bad, n).

    `alpha` is for both bounds together, at all looks at once. The counts may be fractions: those
    that are expected later. Raises ValueError for impossible counts and an alpha outside (0, 1).
    """
    for bad, n in (stable, canary):
        if not 0 <= bad <= n < math.inf:
            raise ValueError(f"{bad} bad requests of {n} cannot be")
    check_alpha(alpha)
    most = math.log(2 / alpha)
    good = [_Share(n - bad, n) for bad, n in (stable, canary)]
    return -_largest(good[0], good[1], most), _largest(_Share(*stable), _Share(*canary), most)


class _Share:
    """The logarithm of the martingale of a share, and where it has a given slope."""

    def __init__(self, bad: float, n: float) -> None:
        self.bad, self.good, self.n = bad, n - bad, n
        self._mixture = _log_mixture(bad, n)

    @property
    def observed(self) -> float:
        return self.bad / self.n if self.n else 0.0

    def log_e(self, share: float) -> float:
        if (self.bad and share <= 0) or (self.good and share >= 1):
            return math.inf
        bad = self.bad * math.log(share) if self.bad else 0.0
        return self._mixture - bad - (self.good * math.log1p(-share) if self.good else 0.0)

    def slope(self, share: float) -> float:
        """Return the derivative of `log_e`."""
        good = self.good / (1 - share) if self.good else 0.0
        return good - (self.bad / share if self.bad else 0.0)

    def at_slope(self, slope: float) -> float:
        """Return the share above the observed one where `log_e` has that slope, above 0.

        Solves ``slope * p**2 + (n - slope) * p - bad == 0``.
        """
        if not self.good:
            return 1.0
        rest = self.n - slope
        root = math.sqrt(rest * rest + 4 * slope * self.bad)
        return 2 * self.bad / (rest + root) if rest > 0 else (root - rest) / (2 * slope)


def _largest(stable: _Share, canary: _Share, most: float) -> float:
    """Return the largest canary's share less stable version's where the martingale is below `most`.

    At the maximum both logarithms have the same slope. From the observed shares outwards, cost and
    slope grow, so the stable version's share is found by bisection.
    """

    def opposite(share: float) -> tuple[float, float]:
        """Return the canary's share that belongs to the stable version's, and what both cost."""
        log_e = stable.log_e(share)
        slope = -stable.slope(share) / (1 + math.exp(-log_e))
        own = canary.at_slope(slope) if slope > 0 else canary.observed
        return own, canary.log_e(own) + _softplus(log_e)

    if not stable.bad or (not stable.good and opposite(1.0)[1] >= most):
        # The observed share is at the end of what there is, and stays there.
        left = most - _softplus(stable.log_e(stable.observed))
        return _edge(canary, left) - stable.observed
    kept, out, own = stable.observed, 0.0, 1.0
    for _ in range(_STEPS):
        middle = (kept + out) / 2
        there, cost = opposite(middle)
        if cost < most:
            kept = middle
        else:
            out, own = middle, there
    return own - out


def _edge(side: _Share, most: float) -> float:
    """Return the share above the observed one where the logarithm reaches `most`; just out."""
    kept, out = side.observed, 1.0
    for _ in range(_STEPS if side.good else 0):
        middle = (kept + out) / 2
        kept, out = (middle, out) if side.log_e(middle) < most else (kept, middle)
    return out


def ratio_bounds(
    stable: Distribution, canary: Distribution, q: float, alpha: float, *, factor: float = 1.0
) -> tuple[float | None, float | None]:
    """Return bounds of the canary's q-quantile over the stable version's.

    `alpha` is for both bounds together, at all looks at once. None where a bound is not known.
    `factor` stands for so many times as many values, distributed as these. Raises ValueError for a
    q or an alpha outside (0, 1).
    """
    check_quantile(q)
    check_alpha(alpha)
    if not stable.total or not canary.total:
        return None, None
    n_stable, n_canary = round(factor * stable.total), round(factor * canary.total)
    log_stable, log_canary = _of_rank(n_stable, q), _of_rank(n_canary, q)
    middle_stable, middle_canary = round(q * n_stable), round(q * n_canary)
    most = math.log(2 / alpha)
    least = most - log_canary(middle_canary)
    # The more the stable version's rank costs, the nearer to its middle is the canary's.
    low, high, rank = math.inf, 0.0, n_canary
    for outer, cheapest in _levels(log_stable, middle_stable, 0, least):
        rank = _last(log_canary, middle_canary, rank, most - _softplus(log_stable(cheapest)))
        below = stable.lower(outer / factor)
        high = max(high, canary.upper((rank + 1) / factor) / below if below else math.inf)
    rank = 0
    for outer, cheapest in _levels(log_stable, middle_stable, n_stable, least):
        rank = _last(log_canary, middle_canary, rank, most - _softplus(log_stable(cheapest)))
        low = min(low, canary.lower(rank / factor) / stable.upper((outer + 1) / factor))
    return low, high if math.isfinite(high) else None


def _levels(log_e: _Log, middle: int, end: int, most: float) -> list[tuple[int, int]]:
    """Return ranges of ranks from the middle to the last that may be, as (outer, cheapest)."""
    last = _last(lambda rank: _softplus(log_e(rank)), middle, end, most)
    ranks = sorted({middle + round((last - middle) * i / _LEVELS) for i in range(_LEVELS + 1)})
    if end < middle:
        ranks.reverse()
    return list(zip(ranks[1:], ranks, strict=False)) or [(middle, middle)]


def _last(log_e: _Log, middle: int, end: int, most: float) -> int:
    """Return the rank farthest from the middle towards `end` where `log_e` is below `most`."""
    kept, out = middle, end + (1 if end >= middle else -1)
    while abs(out - kept) > 1:
        between = (kept + out) // 2
        kept, out = (between, out) if log_e(between) < most else (kept, between)
    return kept


def _of_rank(n: int, q: float) -> _Log:
    """Return the logarithm of the martingale of q, of the number of values up to the quantile."""
    constant = math.lgamma(n + 1) + math.log(math.pi)
    below, above = math.log(q), math.log1p(-q)

    def log_e(rank: float) -> float:
        mixture = math.lgamma(rank + 0.5) + math.lgamma(n - rank + 0.5) - constant
        return mixture - rank * below - (n - rank) * above

    return log_e


def _log_mixture(bad: float, n: float) -> float:
    mixture = math.lgamma(bad + 0.5) + math.lgamma(n - bad + 0.5) - math.lgamma(n + 1)
    return mixture - math.log(math.pi)


def _softplus(x: float) -> float:
    """Return ``log(1 + exp(x))``."""
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))
