"""Draws the requests of a version, as its figures and a fault's effect say."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from dataclasses import replace
from itertools import accumulate
from random import Random

from pytest_llmdeploy.ports import Buckets
from pytest_llmdeploy.release.canary.calibration.cases import Effect
from pytest_llmdeploy.release.canary.calibration.figures import Bins, Figures, quantile

_EXACT = 25
"""Numbers up to which a binomial variate is counted one by one."""


def binomial(random: Random, n: int, p: float) -> int:
    """Return how many of `n` happen with probability `p` each; exact, in a logarithmic time.

    The value of the middle rank of n uniform numbers has a Beta distribution; whether it is below
    p leaves half of the numbers to count (Devroye, "Non-Uniform Random Variate Generation", X.4.3).
    """
    found = 0
    while n > _EXACT and 0 < p < 1:
        middle = n // 2 + 1
        value = random.betavariate(middle, n + 1 - middle)
        if value <= p:
            found += middle
            n, p = n - middle, (p - value) / (1 - value)
        else:
            n, p = middle - 1, p / value
    if p <= 0 or p >= 1:
        return found + (n if p >= 1 else 0)
    uniform = random.random
    return found + sum(uniform() < p for _ in range(n))


class Drawn:
    """A distribution to draw from, and what has been drawn."""

    def __init__(self, bins: Bins) -> None:
        self._edges = [high for _, high, _ in bins]
        self._lower = [low for low, _, _ in bins]
        self._cumulative = list(accumulate(part for _, _, part in bins))
        self._places = range(len(bins))
        self.clear()

    def clear(self) -> None:
        """Forget what has been drawn."""
        self.counts = [0] * len(self._edges)
        self.total = 0

    def draw(self, random: Random, n: int) -> Counter[int]:
        """Draw `n` values; return how many came to each bin."""
        if not n or not self._edges:
            return Counter()
        come = Counter(random.choices(self._places, cum_weights=self._cumulative, k=n))
        for place, count in come.items():
            self.counts[place] += count
        self.total += n
        return come

    def buckets(self) -> Buckets:
        """Return what has been drawn, as sources tell it."""
        pairs = zip(self._edges, self.counts, strict=True)
        return tuple((edge, count) for edge, count in pairs if count)

    def around(self, q: float) -> tuple[float, float]:
        """Return the edges of the bin in which the quantile of what was drawn is."""
        if not self.total:
            return 0.0, math.inf
        place = bisect_left(list(accumulate(self.counts)), max(1.0, q * self.total))
        return self._lower[place], self._edges[place]

    def value(self, come: Counter[int], q: float) -> float:
        """Return the quantile of a part of what was drawn, in the middle of its bin."""
        rank, seen = q * come.total(), 0
        for place in sorted(come):
            seen += come[place]
            if seen >= rank:
                high = self._edges[place]
                return (self._lower[place] + high) / 2 if math.isfinite(high) else high
        return math.nan


def worsened(figures: Figures, effect: Effect) -> Figures:
    """Return the figures of a version with that effect."""
    latency, ttft = figures.latency, figures.ttft
    failed = 1 - (1 - figures.error_rate) * (1 - effect.errors) * (1 - effect.truncated)
    if effect.ttft != 1 and ttft:
        later = (effect.ttft - 1) * quantile(ttft, 0.5)
        latency = tuple((low + later, high + later, part) for low, high, part in latency)
        ttft = _scaled(ttft, effect.ttft)
    if effect.slower != 1:
        latency, ttft = _scaled(latency, effect.slower), _scaled(ttft, effect.slower)
    if effect.tail:
        latency, ttft = (_tailed(bins, effect.tail, effect.tail_factor) for bins in (latency, ttft))
    if figures.coarse:
        latency, ttft = _rebinned(latency, figures.latency), _rebinned(ttft, figures.ttft)
    return replace(figures, error_rate=failed, latency=latency, ttft=ttft)


def _scaled(bins: Bins, factor: float) -> Bins:
    return tuple((factor * low, factor * high, part) for low, high, part in bins)


def _tailed(bins: Bins, share: float, factor: float) -> Bins:
    """Return both kinds of answers together, by growing upper edges."""
    quick = [(low, high, (1 - share) * part) for low, high, part in bins]
    slow = [(low, high, share * part) for low, high, part in _scaled(bins, factor)]
    found: dict[float, tuple[float, float]] = {}
    for low, high, part in (*quick, *slow):
        least, before = found.get(high, (low, 0.0))
        found[high] = min(low, least), before + part
    return tuple((low, high, part) for high, (low, part) in sorted(found.items()))


def _rebinned(bins: Bins, like: Bins) -> Bins:
    """Return the same values by other edges; values are spread evenly within a bin."""
    edges = [(low, high) for low, high, _ in like]
    if edges and math.isfinite(edges[-1][1]):
        edges.append((edges[-1][1], math.inf))
    found = [0.0] * len(edges)
    for low, high, part in bins:
        for place, (start, end) in enumerate(edges):
            if not math.isfinite(high) or high <= low:
                share = float(start <= low < end)
            else:
                share = max(0.0, min(high, end) - max(low, start)) / (high - low)
            found[place] += part * share
    return tuple((low, high, part) for (low, high), part in zip(edges, found, strict=True))
