"""Distributions by upper edges: made, added up, and read at a quantile. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from pytest_llmdeploy.ports import Buckets
from pytest_llmdeploy.verdicts.histogram import BUCKETS_PER_OCTAVE, Histogram

QUANTILES = {
    "latency_p50": ("latency", 0.50),
    "latency_p95": ("latency", 0.95),
    "latency_p99": ("latency", 0.99),
    "ttft_p50": ("ttft", 0.50),
    "ttft_p95": ("ttft", 0.95),
    "itl_p95": ("itl", 0.95),
}
"""By signal: the distribution, and where it is read."""


def from_histogram(histogram: Histogram) -> Buckets:
    """Return a histogram's counts by the upper edges of its buckets."""
    return tuple(
        (float(2 ** ((key + 1) / BUCKETS_PER_OCTAVE)), count)
        for key, count in sorted(histogram.counts.items())
    )


def from_cumulative(counts: Mapping[float, float], factor: float = 1.0) -> Buckets:
    """Return what each bucket alone has, of counts that are "up to this edge", as Prometheus' are.

    Edges are multiplied by `factor`, counts rounded to whole numbers as sums, so that rounding does
    not add up. A count below the one before (replicas scraped at different moments) adds none.
    """
    buckets, before = [], 0
    for edge in sorted(counts):
        so_far = max(before, round(counts[edge]))
        buckets.append((edge * factor, so_far - before))
        before = so_far
    return tuple(buckets)


def number(buckets: Iterable[tuple[float, int]]) -> int:
    """Return how many values there are."""
    return sum(count for _, count in buckets)


def quantile(buckets: Buckets, q: float) -> float | None:
    """Return a quantile, interpolated within its bucket as PromQL's histogram_quantile does it.

    None where there is no value, and where the quantile lies above the last finite edge: the
    highest edge would be a guess that flatters.
    """
    total = number(buckets)
    if not total:
        return None
    rank, seen, lower = q * total, 0, 0.0
    for edge, count in buckets:
        if count and seen + count >= rank:
            if math.isinf(edge):
                return None
            return lower + (edge - lower) * max(0.0, rank - seen) / count
        seen, lower = seen + count, edge
    return None
