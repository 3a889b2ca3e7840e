"""What one target said at each scrape, with resets of its counters taken out. Pure.

The increase of a counter is the difference of two of its samples: nothing is extrapolated to the
span's ends, as PromQL's increase() does, for that makes counts larger than what was counted. And a
series that was not there at an earlier scrape of its target began at 0: increase() leaves out its
first value, so that the first errors of a version would not be seen.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

Key = tuple[str, tuple[tuple[str, str], ...]]
"""A series of a target: its name, and its labels in order."""
SLACK = 1.0
"""Seconds by which a sample may lie before a span and still be its beginning."""
MOST_SCRAPES = 20_000
"""Beyond, every second one of the older half is forgotten: spans that begin there begin later."""


class Between(NamedTuple):
    """The samples at a span's beginning and end."""

    first: int
    last: int
    begin: float
    end: float

    @property
    def seconds(self) -> float:
        """Seconds between the two."""
        return self.end - self.begin


class History:
    """The scrapes of one target."""

    def __init__(self, gauges: Collection[str] = ()) -> None:
        """Names in `gauges` go up and down; all others are counters."""
        self._gauges = frozenset(gauges)
        self._times: list[float] = []
        self._values: list[dict[Key, float]] = []
        self._raw: dict[Key, float] = {}
        self._now: dict[Key, float] = {}
        self._latest: float | None = None
        self._strange: list[tuple[float, frozenset[Key]]] = []

    @property
    def latest(self) -> float | None:
        """The time of the latest scrape that had a series; None where none had."""
        return self._latest

    def add(self, when: float, values: Mapping[Key, float]) -> None:
        """Take a scrape, later than those before; NaN and infinity hold for this one only."""
        strange = {}
        for key, value in values.items():
            if not math.isfinite(value):
                strange[key] = value
            elif key[0] in self._gauges:
                self._now[key] = value
            else:
                before = self._raw.get(key, 0.0)
                # Less than before: the process was restarted and has counted this since.
                added = value - before if value >= before else value
                self._now[key] = self._now.get(key, 0.0) + added
                self._raw[key] = value
        self._times.append(when)
        if values:
            self._latest = when
        self._values.append({**self._now, **strange})
        if strange:
            self._strange.append((when, frozenset(strange)))
        if len(self._times) > MOST_SCRAPES:
            half = len(self._times) // 2
            del self._times[1:half:2], self._values[1:half:2]

    def between(self, since: float, until: float) -> Between | None:
        """Return the samples of a span: the first at its beginning or after, and the last in it.

        None where the span has none.
        """
        first = bisect_left(self._times, since - SLACK)
        # Of those within the slack the last, for what lies before the span is not asked for.
        while first + 1 < len(self._times) and self._times[first + 1] <= since:
            first += 1
        last = bisect_right(self._times, until) - 1
        if first > last:
            return None
        return Between(first, last, self._times[first], self._times[last])

    def increases(self, span: Between) -> Iterator[tuple[Key, float]]:
        """Yield by how much each counter grew; NaN where any of its samples in between was none."""
        begin, end = self._values[span.first], self._values[span.last]
        strange = set[Key]().union(
            *(keys for when, keys in self._strange if span.begin <= when <= span.end)
        )
        for key, value in end.items():
            if key in strange:
                yield key, math.nan
            elif key[0] not in self._gauges:
                yield key, value - begin.get(key, 0.0)

    def gauges(self, span: Between) -> Iterator[tuple[Key, float]]:
        """Yield each gauge's latest value."""
        for key, value in self._values[span.last].items():
            if key[0] in self._gauges:
                yield key, value
