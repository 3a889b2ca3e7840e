"""Counts of positive numbers in logarithmic buckets: quantiles of any number of them, flat memory.

Buckets are 1/512 of an octave wide, so a quantile is right to 0.07 % either way. Recording one
number costs a logarithm and a dict entry; the well-kept hdrhistogram package takes seven times as
long for it, which shows at thousands of token gaps a second.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

BUCKETS_PER_OCTAVE = 512
SMALLEST = 1e-7
"""What is below, zero among it, is counted as this."""


class Histogram:
    """Counts by bucket; buckets are ordered as their values are."""

    __slots__ = ("counts", "highest", "sum", "total")

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}
        self.total = 0
        self.sum = 0.0
        self.highest = 0.0

    def add(self, value: float, count: int = 1) -> None:
        """Count a number `count` times; raise an ArithmeticError or ValueError for NaN, inf."""
        key = math.floor(math.log2(SMALLEST if value <= SMALLEST else value) * BUCKETS_PER_OCTAVE)
        self.counts[key] = self.counts.get(key, 0) + count
        self.total += count
        self.sum += value * count
        self.highest = max(self.highest, value)

    def merge(self, other: Histogram) -> None:
        """Add the counts of another histogram."""
        for key, count in other.counts.items():
            self.counts[key] = self.counts.get(key, 0) + count
        self.total += other.total
        self.sum += other.sum
        self.highest = max(self.highest, other.highest)

    @property
    def mean(self) -> float | None:
        """The exact mean; None where nothing was counted."""
        return self.sum / self.total if self.total else None

    def quantile(self, q: float, total: int | None = None) -> float | None:
        """Return the value at rank ``ceil(q * total)``; None where there is none.

        `total` is above the number counted where some had no finite value: those rank last.
        """
        return self.at_rank(max(1, math.ceil(q * (self.total if total is None else total) - 1e-9)))

    def at_rank(self, rank: int) -> float | None:
        """Return the value at a rank, from 1, of the sorted numbers; None beyond all."""
        if rank > self.total:
            return None
        seen = 0
        for key in sorted(self.counts):
            seen += self.counts[key]
            if seen >= rank:
                return self.value_of(key)
        return None

    @staticmethod
    def value_of(key: int) -> float:
        """Return the middle of a bucket."""
        return float(2 ** ((key + 0.5) / BUCKETS_PER_OCTAVE))

    def to_json(self) -> dict[str, float]:
        """Return builtins that JSON can hold."""
        counts: dict[str, float] = {str(key): count for key, count in self.counts.items()}
        return counts | {"sum": self.sum, "highest": self.highest}

    @classmethod
    def from_json(cls, data: Mapping[str, float]) -> Histogram:
        """Rebuild a histogram of `to_json`."""
        histogram = cls()
        histogram.sum, histogram.highest = data["sum"], data["highest"]
        for key, count in data.items():
            if key not in ("sum", "highest"):
                histogram.counts[int(key)] = int(count)
        histogram.total = sum(histogram.counts.values())
        return histogram
