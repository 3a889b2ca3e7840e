"""Axes: from a range of values to positions between 0 and 1, with round ticks."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

MOST_TICKS = 6
NOTHING = 1e-9
"""Smaller values are drawn as 0."""
LOG_FROM = 20.0
"""Ratio of the largest to the smallest value above which an axis of times is logarithmic."""
_ALL = (0.0, 0.25, 0.5, 0.75, 0.9, 1.0)


@dataclass(frozen=True, slots=True)
class Axis:
    """One direction of a chart."""

    label: str
    """What is measured, with its unit."""
    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    log: bool = False

    def at(self, value: float) -> float:
        """Return the position of a value from 0 to 1; what lies outside comes to the edge."""
        low, high = self.low, self.high
        if self.log:
            value, low, high = math.log(max(value, low)), math.log(low), math.log(high)
        return min(max((value - low) / (high - low), 0.0), 1.0)


def linear(label: str, high: float, low: float = 0.0, scale: float = 1.0) -> Axis:
    """Return an axis with ticks at multiples of 1, 2 or 5; it ends at `high` exactly.

    `scale` turns values into what the ticks say, such as 1000 for milliseconds.
    """
    if high <= low:
        high = low + 1.0
    step = _step((high - low) * scale)
    first = math.ceil(low * scale / step - 1e-9)
    last = math.floor(high * scale / step + 1e-9)
    ticks = tuple((k * step / scale, _plain(k * step)) for k in range(first, last + 1))
    return Axis(label, low, high, ticks)


def rounded(label: str, high: float, scale: float = 1.0) -> Axis:
    """Return a linear axis from 0 to the first tick at or above `high`."""
    if high * scale <= NOTHING:
        return linear(label, 1.0 / scale, 0.0, scale)
    step = _step(high * scale)
    return linear(label, math.ceil(high * scale / step - 1e-9) * step / scale, 0.0, scale)


def logarithmic(label: str, low: float, high: float, scale: float = 1.0) -> Axis:
    """Return an axis from a round number below `low` to one above `high`; both above 0."""
    start = 10.0 ** math.floor(math.log10(low * scale))
    found = [factor * start * 10.0**k for k in range(20) for factor in (1, 2, 5)]
    below = max(value for value in found if value <= low * scale * (1 + 1e-9))
    above = min((value for value in found if value >= high * scale / (1 + 1e-9)), default=found[-1])
    if above <= below:
        above = 10 * below
    inside = [value for value in found if below <= value <= above]
    if len(inside) > MOST_TICKS + 1:
        decades = [value for value in inside if _mantissa(value) == 1]
        every = math.ceil(len(decades) / MOST_TICKS)
        inside = decades[::every] if len(decades) > 2 else [inside[0], *decades, inside[-1]]
    ticks = tuple((value / scale, _plain(value)) for value in dict.fromkeys(inside))
    return Axis(label, below / scale, above / scale, ticks, log=True)


def times(what: str, values: Iterable[float]) -> Axis:
    """Return an axis of seconds or milliseconds for the values, log where they range widely."""
    given = [value for value in values if value > NOTHING]
    low, high = min(given, default=0.0), max(given, default=1.0)
    scale, unit = (1000.0, "ms") if high < 1 else (1.0, "s")
    if low and high / low > LOG_FROM:
        low = max(low, high * NOTHING)
        return logarithmic(f"{what} ({unit}, log scale)", low, high, scale)
    return rounded(f"{what} ({unit})", high, scale)


def shares(label: str) -> Axis:
    """Return an axis from 0 to 100 %."""
    return Axis(label, 0.0, 1.0, tuple((value, f"{100 * value:g}") for value in _ALL))


def _step(length: float) -> float:
    rough = length / MOST_TICKS
    base = 10.0 ** math.floor(math.log10(rough))
    return next(base * factor for factor in (1, 2, 5, 10) if base * factor >= rough * (1 - 1e-9))


def _plain(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _mantissa(value: float) -> int:
    return round(value / 10.0 ** math.floor(math.log10(value) + 1e-9))
