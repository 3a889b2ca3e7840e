"""Judge a share of bad requests against a limit, by exact binomial bounds.

A percentile is a share: "p95 <= 0.8 s" says that at most 5 % of the requests take longer than
0.8 s. Error rate and goodput are shares as they stand. Bounds are those of Clopper and Pearson,
"The use of confidence or fiducial limits illustrated in the case of the binomial", Biometrika 26
(1934), one-sided: each holds with the confidence given, whatever the true share.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from pytest_llmdeploy.verdicts.intervals import (
    beta_quantile,
    check_confidence,
    incomplete_beta,
    student_quantile,
)
from pytest_llmdeploy.verdicts.verdict import Verdict

MOST_REQUESTS = 1_000_000_000
"""Where the search for the number of requests that would decide gives up."""


@dataclass(frozen=True, slots=True)
class ShareVerdict:
    """What a share of bad requests says about its limit."""

    verdict: Verdict
    share: float | None
    """The observed share; None when there was nothing to observe."""
    lower: float
    """The true share is at least this, with the confidence given."""
    upper: float
    """The true share is at most this, with the confidence given."""
    needed: int | None
    """Requests in all, those made among them, at which it could PASS if the share stays as it is.

    None when decided, when the share is not below the limit, and above `MOST_REQUESTS`.
    """


@dataclass(slots=True)
class ClusterSums:
    """Sums over clusters, such as requests, of bad and all items in them, such as token gaps."""

    clusters: int = 0
    x: int = 0
    """Bad items."""
    m: int = 0
    """Items."""
    xx: int = 0
    xm: int = 0
    mm: int = 0

    def add(self, bad: int, size: int) -> None:
        """Count a cluster; one without items says nothing and is left out."""
        if not 0 <= bad <= size:
            raise ValueError(f"{bad} bad items of {size} are no cluster")
        if size:
            self.clusters += 1
            self.x += bad
            self.m += size
            self.xx += bad * bad
            self.xm += bad * size
            self.mm += size * size

    def merge(self, other: ClusterSums) -> None:
        """Add the sums of other clusters."""
        self.clusters += other.clusters
        self.x += other.x
        self.m += other.m
        self.xx += other.xx
        self.xm += other.xm
        self.mm += other.mm


def lower_bound(k: float, n: float, confidence: float) -> float:
    """Return the share that k bad of n exceed with `confidence`; 0 when none was bad.

    k and n may be fractions (effective sample sizes). Raises ValueError unless 0 <= k <= n.
    """
    _check_counts(k, n)
    check_confidence(confidence)
    return beta_quantile(1 - confidence, k, n - k + 1) if k > 0 else 0.0


def upper_bound(k: float, n: float, confidence: float) -> float:
    """Return the share that k bad of n stay below with `confidence`; 1 when all were bad.

    k and n may be fractions (effective sample sizes). Raises ValueError unless 0 <= k <= n.
    """
    _check_counts(k, n)
    check_confidence(confidence)
    if k >= n:
        return 1.0
    if k == 0:
        return -math.expm1(math.log1p(-confidence) / n)
    return beta_quantile(confidence, k + 1, n - k)


def smallest_n(limit: float, confidence: float) -> int | None:
    """Return how many requests PASS when none is bad; None for limit 0, which no number shows.

    Raises ValueError for a limit outside [0, 1).
    """
    _check_limit(limit)
    check_confidence(confidence)
    if limit == 0:
        return None
    n = max(1, math.floor(math.log1p(-confidence) / math.log1p(-limit)))
    return n if upper_bound(0, n, confidence) <= limit else n + 1


def judge_share(bad: int, n: int, limit: float, confidence: float) -> ShareVerdict:
    """Judge whether the share of bad requests is at most `limit`.

    PASS when its upper bound is not above the limit, FAIL when its lower bound is, each wrong with
    a probability of at most ``1 - confidence``; else INCONCLUSIVE. No request decides nothing. A
    limit of 0 can FAIL by one bad request and never PASS: no sample shows that nothing is ever bad.
    Raises ValueError for a limit outside [0, 1) and for counts that cannot be.
    """
    lower, upper = lower_bound(bad, n, confidence), upper_bound(bad, n, confidence)
    verdict = _decide(lower, upper, limit, bad)
    needed = _needed(bad, n, limit, confidence) if verdict is Verdict.INCONCLUSIVE else None
    return ShareVerdict(verdict, bad / n if n else None, lower, upper, needed)


def judge_clustered(sums: ClusterSums, limit: float, confidence: float) -> ShareVerdict:
    """Judge the share of bad items when the items of one cluster are not independent.

    The variance is that of a ratio estimator (Taylor linearisation, Cochran, "Sampling Techniques",
    chapter 6). The bounds are Clopper and Pearson's at the effective sample size, adjusted for the
    degrees of freedom (Korn and Graubard, "Confidence intervals for proportions with small expected
    number of positive counts", Survey Methodology 24, 1998). Besides, the upper bound is never
    below that of as many clusters without one bad: a kind of cluster too rare to have come up could
    be bad throughout, and no variance shows it. `needed` counts clusters. Otherwise as
    `judge_share`.

    This is an approximation. In simulations at 95 % (8 to 400 clusters of 60 items, shares of 1 to
    20 %, correlations within a cluster up to 0.4) an upper bound was wrong in up to 11 % of the
    samples, where items taken as independent were wrong in up to 86 %; lower bounds held.
    """
    if not sums.clusters:
        return judge_share(0, 0, limit, confidence)
    share = sums.x / sums.m
    size = _effective_size(sums, confidence)
    bad = min(share * size, size)
    lower = lower_bound(bad, size, confidence)
    upper = max(upper_bound(bad, size, confidence), upper_bound(0, sums.clusters, confidence))
    verdict = _decide(lower, upper, limit, sums.x)
    needed = None
    if verdict is Verdict.INCONCLUSIVE:
        unseen = _needed(0, sums.clusters, limit, confidence)
        effective = _needed(bad, size, limit, confidence)
        if unseen is not None and effective is not None:
            needed = max(unseen, math.ceil(effective * (sums.clusters / size)))
    return ShareVerdict(verdict, share, lower, upper, needed)


def order_statistic_ranks(n: int, q: float, confidence: float) -> tuple[int | None, int | None]:
    """Return the ranks, from 1, of the sorted values that bound the q-quantile from either side.

    Each bound holds with `confidence` for any continuous distribution (David and Nagaraja, "Order
    Statistics", 7.1). None where n values are too few to have one.
    """
    check_confidence(confidence)
    if not 0 < q < 1:
        raise ValueError(f"a quantile must lie between 0 and 1, not {q}")
    low, high = 0, n + 1
    while high - low > 1:
        rank = (low + high) // 2
        at_least = incomplete_beta(rank, n - rank + 1, q)
        low, high = (rank, high) if at_least >= confidence else (low, rank)
    lower = low
    low, high = 0, n + 1
    while high - low > 1:
        rank = (low + high) // 2
        below = incomplete_beta(n - rank + 1, rank, 1 - q)
        low, high = (low, rank) if below >= confidence else (rank, high)
    return lower or None, high if high <= n else None


def _decide(lower: float, upper: float, limit: float, bad: int) -> Verdict:
    _check_limit(limit)
    if lower > limit or (limit == 0 and bad > 0):
        return Verdict.FAIL
    return Verdict.PASS if upper <= limit else Verdict.INCONCLUSIVE


def _needed(bad: float, n: float, limit: float, confidence: float) -> int | None:
    """Return the number of requests at which the share seen so far would PASS."""
    if bad == 0:
        return smallest_n(limit, confidence)
    share = bad / n
    if share >= limit:
        return None
    low, high = math.floor(n), 2 * math.ceil(n)
    while not _passes(share, high, limit, confidence):
        if high > MOST_REQUESTS:
            return None
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        passes = _passes(share, middle, limit, confidence)
        low, high = (low, middle) if passes else (middle, high)
    return high


def _passes(share: float, n: int, limit: float, confidence: float) -> bool:
    """Tell whether the upper bound of a share of n is not above the limit."""
    return incomplete_beta(share * n + 1, n - share * n, limit) >= confidence


def _effective_size(sums: ClusterSums, confidence: float) -> float:
    """Return how many independent items would be worth as much as these."""
    c, x, m = sums.clusters, sums.x, sums.m
    squares = sums.xx * m * m - 2 * x * m * sums.xm + x * x * sums.mm
    if c < 2 or squares == 0 or x in (0, m):
        return float(c)
    variance = squares / m**4 * (c / (c - 1))
    size = min(m, x * (m - x) / (m * m) / variance)
    if m <= c:
        return size
    quantiles = [student_quantile(confidence, freedom) for freedom in (m - 1, c - 1)]
    return size * (quantiles[0] / quantiles[1]) ** 2


def _check_limit(limit: float) -> None:
    if not 0 <= limit < 1:
        raise ValueError(f"the limit of a share must be at least 0 and below 1, not {limit}")


def _check_counts(k: float, n: float) -> None:
    if not 0 <= k <= n < math.inf:
        raise ValueError(f"{k} bad requests of {n} cannot be")
