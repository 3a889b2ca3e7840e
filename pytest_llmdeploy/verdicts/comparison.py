"""Compare a percentile of two versions: the ratio, and how far chance could have moved it.

Requests that follow each other share a queue, so the bootstrap resamples whole blocks of them
(Künsch, "The jackknife and the bootstrap for general stationary observations", Annals of Statistics
17, 1989). Percentile intervals of few blocks are too narrow; they are expanded as Hesterberg does,
"What Teachers Should Know About the Bootstrap", The American Statistician 69 (2015).
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import mul
from statistics import NormalDist

from pytest_llmdeploy.verdicts.histogram import Histogram
from pytest_llmdeploy.verdicts.intervals import check_confidence, student_quantile
from pytest_llmdeploy.verdicts.verdict import Verdict

FEWEST_BLOCKS = 5
"""Blocks a side, below which there is no interval."""
FEWEST_BEYOND = 5
"""Requests a side expected beyond the quantile, below which there is no interval."""


@dataclass(frozen=True, slots=True)
class Block:
    """Requests that came one after the other."""

    histogram: Histogram
    failed: int
    """Requests without a value: they rank after all that have one."""

    @property
    def total(self) -> int:
        """All requests of the block."""
        return self.histogram.total + self.failed


@dataclass(frozen=True, slots=True)
class Ratio:
    """A quantile of side a and of side b, and b over a."""

    a: float | None
    """Infinite when too many requests failed; None when there was none."""
    b: float | None
    ratio: float | None
    """None when it is not comparable: no request, or infinite on both sides."""
    low: float | None
    """The true ratio is at least this, with the confidence given; None without an interval."""
    high: float | None
    """The true ratio is at most this, with the confidence given; may be infinite."""


def quantile_ratio(
    a_blocks: Sequence[Block],
    b_blocks: Sequence[Block],
    q: float,
    *,
    confidence: float,
    resamples: int,
    seed: int,
    paired: bool = False,
) -> Ratio:
    """Return the ratio of the q-quantiles, b over a, with one-sided bootstrap bounds.

    Blocks are resampled on each side, or in pairs when `paired`: the n-th of a with the n-th of b,
    as interleaved sides are. Blocks (pairs) without requests are left out. There are no bounds for
    fewer than `FEWEST_BLOCKS` blocks or `FEWEST_BEYOND` expected requests beyond the quantile on
    either side. Raises ValueError for pairs of unequal number, a q or confidence out of range, and
    fewer than 100 resamples.
    """
    check_confidence(confidence)
    if not 0 < q < 1:
        raise ValueError(f"a quantile must lie between 0 and 1, not {q}")
    if resamples < 100:
        raise ValueError(f"{resamples} resamples are too few, 100 the least")
    if paired:
        pairs = zip(a_blocks, b_blocks, strict=True)
        complete = [(a, b) for a, b in pairs if a.total and b.total]
        a_blocks, b_blocks = [a for a, _ in complete], [b for _, b in complete]
    a_side, b_side = _Side(a_blocks, q), _Side(b_blocks, q)
    a, b = a_side.observed(), b_side.observed()
    ratio = None if a is None or b is None else _ratio(a, b)
    if ratio is None or not (a_side.enough and b_side.enough):
        return Ratio(a, b, ratio, None, None)
    chance = random.Random(seed)  # noqa: S311 - a simulation, not a secret
    lows, highs = [], []
    for _ in range(resamples):
        a_weights = a_side.draw(chance)
        b_weights = a_weights if paired else b_side.draw(chance)
        drawn = _ratio(a_side.quantile(a_weights), b_side.quantile(b_weights))
        lows.append(0.0 if drawn is None else drawn)
        highs.append(math.inf if drawn is None else drawn)
    rank = _rank(confidence, min(a_side.blocks, b_side.blocks), resamples)
    return Ratio(a, b, ratio, sorted(lows)[rank - 1], sorted(highs)[-rank])


def judge_ratio(ratio: Ratio, max_increase: float) -> Verdict:
    """Judge whether b is at most ``1 + max_increase`` times a.

    PASS when the ratio's upper bound is not above that, FAIL when its lower bound is, else, and
    without an interval, INCONCLUSIVE. Raises ValueError for a max_increase of -1 or below, and one
    that is not finite.
    """
    if not -1 < max_increase < math.inf:
        raise ValueError(f"max_increase must be finite and above -1, not {max_increase}")
    if ratio.low is None or ratio.high is None:
        return Verdict.INCONCLUSIVE
    if ratio.low > 1 + max_increase:
        return Verdict.FAIL
    return Verdict.PASS if ratio.high <= 1 + max_increase else Verdict.INCONCLUSIVE


class _Side:
    """The blocks of a side, prepared so that a weighted quantile costs a binary search."""

    def __init__(self, blocks: Sequence[Block], q: float) -> None:
        used = [block for block in blocks if block.total]
        keys = sorted({key for block in used for key in block.histogram.counts})
        counts = ([block.histogram.counts.get(key, 0) for key in keys] for block in used)
        self._upto = list(zip(*map(accumulate, counts), strict=True))
        self._values = [Histogram.value_of(key) for key in keys]
        self._totals = [block.total for block in used]
        self._q = q
        self.blocks = len(used)
        self.enough = (
            self.blocks >= FEWEST_BLOCKS
            and sum(self._totals) * min(q, 1 - q) >= FEWEST_BEYOND - 1e-9
        )

    def observed(self) -> float | None:
        """Return the quantile of all requests; None when there was none."""
        return self.quantile([1] * self.blocks) if self.blocks else None

    def draw(self, chance: random.Random) -> list[int]:
        """Return how often each block comes in a resample of as many."""
        weights = [0] * self.blocks
        for block in chance.choices(range(self.blocks), k=self.blocks):
            weights[block] += 1
        return weights

    def quantile(self, weights: Sequence[int]) -> float:
        """Return the value at rank ``ceil(q * total)``; infinite where it is a failure."""
        total = sum(map(mul, weights, self._totals))
        rank = max(1, math.ceil(self._q * total - 1e-9))
        low, high = 0, len(self._values)
        while low < high:
            middle = (low + high) // 2
            if sum(map(mul, weights, self._upto[middle])) >= rank:
                high = middle
            else:
                low = middle + 1
        return self._values[low] if low < len(self._values) else math.inf


def _ratio(a: float, b: float) -> float | None:
    """Return b over a; None when both are infinite."""
    if math.isinf(a):
        return None if math.isinf(b) else 0.0
    return b / a


def _rank(confidence: float, blocks: int, resamples: int) -> int:
    """Return the rank, from either end, of the resample that bounds the ratio."""
    reach = student_quantile(confidence, blocks - 1) * math.sqrt(blocks / (blocks - 1))
    return max(1, math.floor(NormalDist().cdf(-reach) * (resamples + 1)))
