"""How much cases are worth that share a document, a template or a conversation.

Such cases pass or fail together, so they say less than as many that have nothing in common. The
variance is the clustered one of Miller, "Adding error bars to evals" (arXiv 2411.00640), with the
factor C / (C - 1) for C clusters, for weighted cases too; Student's t instead of the normal
distribution comes in as the smaller sample that would have the same effect (Korn and Graubard,
"Confidence intervals for proportions with small expected number of positive counts", Survey
Methodology 24, 1998).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import NamedTuple

from pytest_llmdeploy.verdicts.intervals import student_quantile
from pytest_llmdeploy.verdicts.proportions import effective_number


class Worth(NamedTuple):
    """What clustered cases are worth, in independent cases of one weight."""

    size: float
    """For the variance that was seen; at most the number of the cases."""
    clusters: float
    """The clusters themselves, by their weights: no variance shows a kind that has not come up."""


def worth(
    values: Sequence[float],
    weights: Sequence[float],
    clusters: Sequence[Hashable],
    confidence: float,
) -> Worth:
    """Return how many independent cases these are worth.

    Where no difference between clusters was seen, only the clusters count: that they agree may be
    chance. One cluster is worth one case. Raises ValueError for lists of different lengths.
    """
    total = math.fsum(weights)
    n = len(values)
    mean = _mean(values, weights, total)
    sums: dict[Hashable, list[float]] = {}
    own: dict[Hashable, list[float]] = {}
    alone = []
    for value, weight, cluster in zip(values, weights, clusters, strict=True):
        excess = weight / total * (value - mean)
        alone.append(excess * excess)
        sums.setdefault(cluster, []).append(excess)
        own.setdefault(cluster, []).append(weight)
    c = len(sums)
    number = effective_number(math.fsum(each) for each in own.values())
    size = effective_number(weights)
    if c < 2:
        return Worth(min(1.0, size), number)
    independent = n / (n - 1) * math.fsum(alone)
    clustered = c / (c - 1) * math.fsum(math.fsum(each) ** 2 for each in sums.values())
    # Sums that cancel out but for rounding are no variance.
    if clustered <= 1e-24 or independent <= 1e-24:
        return Worth(number, number)
    size = min(size, size * independent / clustered)
    if c < n:
        size *= (student_quantile(confidence, n - 1) / student_quantile(confidence, c - 1)) ** 2
    return Worth(size, number)


def _mean(values: Sequence[float], weights: Sequence[float], total: float) -> float:
    parts = (value * weight / total for value, weight in zip(values, weights, strict=True))
    return min(1.0, math.fsum(parts))
