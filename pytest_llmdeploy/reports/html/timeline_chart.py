"""The run over time: what was intended and what came of it, in flight, latencies, events."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pytest_llmdeploy.reports.html.axes import Axis, linear, rounded, times
from pytest_llmdeploy.reports.html.markup import Html, join
from pytest_llmdeploy.reports.html.numbers import rate, seconds, short
from pytest_llmdeploy.reports.html.summary import Marked, Summary, Timeline
from pytest_llmdeploy.reports.html.svg import Panel, Point, chart, key, key_area, stripe, words_at

MOST_GROUPS = 100
"""Longer timelines are drawn with several bins a point, so that the page stays small."""
MOST_EVENTS = 40
MOST_ROWS = 4
LONGEST_LABEL = 28
_HEIGHT = 110
_NARROW = 280
"""Pixels of a chart on a phone, for which labels are kept apart."""
_CHARACTER = 6.6
_ROW = 14


@dataclass(frozen=True, slots=True)
class Group:
    """One or more bins, drawn as one; rates per second, times in seconds."""

    start: float
    end: float
    intended: float
    ok: float
    failed: float
    in_flight: float | None
    ttft_p50: float | None
    ttft_p95: float | None
    e2e_p95: float | None

    @property
    def middle(self) -> float:
        """The time at which the group is drawn."""
        return (self.start + self.end) / 2


def grouped(line: Timeline, most: int = MOST_GROUPS) -> list[Group]:
    """Return the bins in at most `most` groups: mean rates, and the worst of everything else.

    Rows of different lengths end with the longest; what is missing counts as nothing.
    """
    counts = (line.intended, line.ok, line.failed)
    bins = max(map(len, counts))
    size = max(1, -(-bins // most))
    groups = []
    for first in range(0, bins, size):
        taken = slice(first, min(first + size, bins))
        span = (taken.stop - first) * line.bin
        start = line.start + first * line.bin
        rates = [sum(row[taken]) / span for row in counts]
        rest = [
            max((value for value in row[taken] if value is not None), default=None)
            for row in (line.in_flight, line.ttft_p50, line.ttft_p95, line.e2e_p95)
        ]
        groups.append(Group(start, start + span, *rates, *rest))
    return groups


def timeline_chart(summary: Summary) -> Html:
    """Return the three panels over one time axis; nothing without a timeline."""
    groups = grouped(summary.timeline)
    if not groups:
        return Html()
    x = linear("time since the run's start (s)", groups[-1].end, groups[0].start)
    events = sorted(summary.events, key=lambda event: event.at)[:MOST_EVENTS]
    labels, rows = event_labels(events, x)
    panels = _panels(groups, x, rows * _ROW)
    begin, end = summary.window or (x.low, x.high)
    asides = [(left, right) for left, right in ((x.low, begin), (end, x.high)) if right > left]
    for panel in panels:
        for left, right in asides:
            panel.stretch(left, right, "aside", "not judged")
        for event in events:
            panel.vertical(event.at, "event", f"{seconds(event.at)}: {event.label}")
    size = round((groups[0].end - groups[0].start) / summary.timeline.bin)
    about = f"Each point is {seconds(groups[0].end - groups[0].start)}"
    about += ": mean rates, and the worst of its times." if size > 1 else "."
    if asides:
        about += f" Grey is not judged: only {seconds(begin)} to {seconds(end)} is."
    if events:
        told = "; ".join(f"{seconds(event.at)} {event.label}" for event in events)
        about += f" Marked: {told}."
    keys = [
        key("want", "intended"),
        key_area("okarea", "ok"),
        key_area("badarea", "failed"),
        key("s1", "in flight, TTFT p50"),
        key("s2", "TTFT p95"),
        key("s3", "E2E p95"),
    ]
    last = panels[-1]
    content = [*labels, *(panel.render() for panel in panels), *_hits(groups, x, panels)]
    return chart("Timeline", about, last.bottom, *content, keys=join(keys))


def _panels(groups: Sequence[Group], x: Axis, top: float) -> list[Panel]:
    most = max(max(g.intended, g.ok + g.failed) for g in groups)
    rates = Panel(x, rounded("requests by intended start (/s)", most), _HEIGHT, top=top, last=False)
    failing = [(g.start, g.end, g.failed) for g in groups]
    answered = [(g.start, g.end, g.ok + g.failed) for g in groups]
    rates.columns(answered, "okarea", "ok, above what failed")
    rates.columns(failing, "badarea", "failed")
    rates.curve([(g.middle, g.intended) for g in groups], "want", "intended")
    flying = [g.in_flight for g in groups if g.in_flight is not None]
    y = rounded("requests in flight", max(flying, default=0))
    flight = Panel(x, y, _HEIGHT, top=rates.bottom, last=False)
    flight.curve([(g.end, g.in_flight) for g in groups], "s1", "in flight")
    series: tuple[tuple[Callable[[Group], float | None], str, str], ...] = (
        (lambda g: g.ttft_p50, "s1", "TTFT p50"),
        (lambda g: g.ttft_p95, "s2", "TTFT p95"),
        (lambda g: g.e2e_p95, "s3", "E2E p95"),
    )
    known = [value for of, _, _ in series for g in groups if (value := of(g)) is not None]
    latency = Panel(x, times("latency", known), _HEIGHT, top=flight.bottom)
    for of, style, name in series:
        points: list[Point] = [(g.middle, of(g)) for g in groups]
        latency.curve(points, style, name)
    return [rates, flight, latency]


def _hits(groups: Sequence[Group], x: Axis, panels: Sequence[Panel]) -> list[Html]:
    """Return invisible stripes that tell all values of a group when pointed at."""
    stripes = []
    for g in groups:
        told = f"{short(g.start)} to {short(g.end)} s: intended {rate(g.intended)}, ok {rate(g.ok)}"
        if g.failed:
            told += f", failed {rate(g.failed)}"
        if g.in_flight is not None:
            told += f", {short(g.in_flight)} in flight"
        for name, value in (
            ("TTFT p50", g.ttft_p50),
            ("TTFT p95", g.ttft_p95),
            ("E2E p95", g.e2e_p95),
        ):
            told += f", {name} {seconds(value)}" if value is not None else ""
        left, right = x.at(g.start), x.at(g.end)
        stripes.append(stripe(told, left, right, panels))
    return stripes


def event_labels(events: Sequence[Marked], x: Axis) -> tuple[list[Html], int]:
    """Return the labels in rows that keep them apart on a phone, and the number of rows.

    What finds no room in the rows is told in the chart's text only.
    """
    taken: list[list[tuple[float, float]]] = []
    placed: list[tuple[float, int, str]] = []
    for event in events:
        label = (
            event.label
            if len(event.label) <= LONGEST_LABEL
            else (event.label[: LONGEST_LABEL - 1] + "…")
        )
        at = x.at(event.at)
        width = (len(label) * _CHARACTER + 10) / _NARROW
        span = (at - width, at) if at > 0.6 else (at, at + width)
        for number in range(MOST_ROWS):
            if number == len(taken):
                taken.append([])
            if all(span[1] < left or right < span[0] for left, right in taken[number]):
                taken[number].append(span)
                placed.append((at, number, label))
                break
    labels = [words_at(at, number * _ROW + 12, label, "strong") for at, number, label in placed]
    return labels, len(taken)
