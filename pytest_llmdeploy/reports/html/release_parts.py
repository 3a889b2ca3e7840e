"""The page's sections about releases: steps, way back, and what became of every request."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_llmdeploy.reports.html.axes import Axis, linear, rounded
from pytest_llmdeploy.reports.html.markup import Column, Html, badge, facts, join, table, tag
from pytest_llmdeploy.reports.html.numbers import NONE, moment, seconds, whole
from pytest_llmdeploy.reports.html.release_result import Back, Requests, Result, Step, results
from pytest_llmdeploy.reports.html.summary import Marked
from pytest_llmdeploy.reports.html.svg import Panel, chart, key_area
from pytest_llmdeploy.reports.html.timeline_chart import event_labels

RECORDS = "records/blue_green"
ROW = 14
"""Pixels of a row of labels above a chart."""
_HEIGHT = 150
_BANDS = (
    ("lost", "badarea", "failed or lost"),
    ("old", "oldarea", "answered by the former version"),
    ("new", "newarea", "answered by the new version"),
    ("unknown", "okarea", "answered, by whom is not known"),
)
"""From the bottom: key of the timeline, style, words."""
_MOMENTS = {
    "deploy": "deploy",
    "switch": "switch",
    "converged": "converged",
    "back": "goes back",
    "safe": "safe",
}


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page that links lead to."""

    anchor: str
    title: str
    content: Html


def releases(output: Path) -> list[Section]:
    """Return a section for each release of the run, by the results in its folder."""
    return [
        section(f"release-{number}", f"Release: {path.parent.name}", result, _parts)
        for number, (path, result) in enumerate(results(output / RECORDS), 1)
    ]


def section(
    anchor: str, title: str, result: Result | str, parts: Callable[[Result], Sequence[Html]]
) -> Section:
    """Return the section of a release: how it ended, then its parts; or why it cannot be shown."""
    if isinstance(result, str):
        note = tag("p", result, class_="note")
        return Section(anchor, title, tag("section", tag("h2", title), note, id=anchor))
    content = [
        tag("h2", f"{title} ", outcome(result)),
        tag("p", result.error, class_="note") if result.error else "",
        *parts(result),
    ]
    return Section(anchor, title, tag("section", *content, id=anchor))


def outcome(result: Result) -> Html:
    """Return how the release ended."""
    if result.success:
        return badge("PASS")
    if result.rollback is not None and result.rollback.succeeded:
        return badge("ROLLED BACK")
    if result.rollback is None and result.steps[-1:] and result.steps[-1].verdict == "INCONCLUSIVE":
        return badge("HELD")
    return badge("FAIL")


def _parts(result: Result) -> list[Html]:
    return [
        facts(_facts(result)),
        steps_table(result.steps),
        _chart(result.traffic),
        _phases(result.traffic),
        commands(result.rollback),
    ]


def _facts(result: Result) -> list[tuple[str, str]]:
    traffic = result.traffic
    return [
        *versions(result),
        ("Requests", whole(traffic.n)),
        ("Lost", whole(traffic.lost)),
        ("Longest gap", seconds(traffic.longest_gap)),
        ("Open at the switch", whole(sum(traffic.straddling.values()))),
        *way_back(result.rollback, "the switch"),
    ]


def versions(result: Result) -> list[tuple[str, str]]:
    """Return from where to where, and when."""
    return [
        ("Before", f"{result.previous_color or NONE} ({result.previous_image or NONE})"),
        ("New", f"{result.new_color} ({result.image})"),
        ("Began", moment(result.timestamp)),
        ("Duration", seconds(result.duration)),
    ]


def way_back(back: Back | None, since: str) -> list[tuple[str, str]]:
    """Return what the way back did and cost; nothing without one."""
    if back is None:
        return []
    pairs = [("Way back", f"{'done' if back.succeeded else 'FAILED'}: {back.reason}")]
    if back.time_to_detect is not None:
        pairs += [("Failure seen", f"{seconds(back.time_to_detect)} after {since}")]
    if back.time_to_safe is not None:
        pairs += [("Safe", f"{seconds(back.time_to_safe)} after {since}")]
    if back.requests_exposed is not None:
        pairs += [("Requests exposed", whole(back.requests_exposed))]
    return pairs


def steps_table(steps: Sequence[Step]) -> Html:
    """Return a row for each step."""
    columns = (Column("Step"), Column("Outcome"), Column("Took", "n"), Column("Reason", "w"))
    rows = [
        (
            step.name,
            badge("not done") if step.skipped else badge(step.verdict),
            NONE if step.skipped else seconds(step.duration),
            step.reason + (f"; evidence: {step.evidence}" if step.evidence else ""),
        )
        for step in steps
    ]
    return table(columns, rows, "Steps, in order")


@dataclass(frozen=True, slots=True)
class Stacks:
    """Requests per second by who answered, each on top of those before it."""

    span: float
    """Seconds of one column."""
    end: float
    """Seconds since the traffic began."""
    bands: tuple[tuple[str, str, tuple[float, ...]], ...]
    """Style, words, and the tops of the columns."""

    def panel(self, x: Axis, height: int, *, top: float, last: bool = True) -> Panel:
        """Return a panel with the columns."""
        highest = max(self.bands[-1][2])
        y = rounded("requests by their end (/s)", highest)
        panel = Panel(x, y, height, top=top, last=last)
        for style, words, tops in reversed(self.bands):  # each stands on those before it
            spans = [(i * self.span, (i + 1) * self.span, top) for i, top in enumerate(tops)]
            panel.columns(spans, style, words)
        return panel

    def keys(self) -> list[Html]:
        """Return the entries of the legend."""
        return [key_area(style, words) for style, words, _ in self.bands]


def stacked(traffic: Requests) -> Stacks | None:
    """Return the requests over time; None without any."""
    width = traffic.timeline.get("bin")
    rows = {key: row for key, row in traffic.timeline.items() if isinstance(row, list)}
    if not isinstance(width, float) or width <= 0 or not any(map(any, rows.values())):
        return None
    bins = max(map(len, rows.values()))
    step = max(1, -(-bins // 200))
    span = width * step
    below = [0.0] * -(-bins // step)
    bands: list[tuple[str, str, tuple[float, ...]]] = []
    for key, style, words in _BANDS:
        row = rows.get(key, [])
        sums = [sum(row[at : at + step]) / span for at in range(0, bins, step)]
        below = [low + high for low, high in zip(below, sums, strict=True)]
        if any(sums):
            bands.append((style, words, tuple(below)))
    return Stacks(span, bins * width, tuple(bands)) if bands else None


def _chart(traffic: Requests) -> Html:
    """Return the requests over time, by who answered; nothing without any."""
    stacks = stacked(traffic)
    if stacks is None:
        return Html()
    x = linear("time since the traffic began (s)", stacks.end)
    marks = [
        Marked(at=at, label=_MOMENTS[name])
        for name, at in traffic.moments.items()
        if at is not None and name in _MOMENTS
    ]
    labels, lines = event_labels(sorted(marks, key=lambda each: each.at), x)
    panel = stacks.panel(x, _HEIGHT, top=lines * ROW)
    for mark in marks:
        panel.vertical(mark.at, "event", f"{seconds(mark.at)}: {mark.label}")
    told = "; ".join(f"{seconds(mark.at)} {mark.label}" for mark in marks)
    about = f"Each column is {seconds(stacks.span)}." + (f" Marked: {told}." if told else "")
    content = [*labels, panel.render()]
    keys = join(stacks.keys())
    return chart("Every request through the release", about, panel.bottom, *content, keys=keys)


def _phases(traffic: Requests) -> Html:
    if not traffic.phases:
        return Html()
    columns = (Column("Intended"), Column("Requests", "n"), Column("Lost", "n"), Column("How", "w"))
    rows = []
    for name, ends in traffic.phases.items():
        count = sum(ends.values())
        told = ", ".join(f"{number} {end}" for end, number in ends.items())
        rows.append((name, whole(count), whole(count - ends.get("ok", 0)), told))
    return table(columns, rows, "Requests by the phase in which they were intended")


def commands(back: Back | None) -> Html:
    """Return what a person has to run where the way back failed."""
    if back is None or not back.commands:
        return Html()
    text = "\n".join(back.commands)
    return join([tag("p", "To bring the former state back:", class_="note"), tag("pre", text)])
