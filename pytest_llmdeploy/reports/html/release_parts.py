"""The page's sections about releases: steps, way back, and what became of every request."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from pytest_llmdeploy.reports.html.axes import linear, rounded
from pytest_llmdeploy.reports.html.markup import Column, Html, badge, facts, join, table, tag
from pytest_llmdeploy.reports.html.numbers import NONE, moment, seconds, whole
from pytest_llmdeploy.reports.html.summary import Marked
from pytest_llmdeploy.reports.html.svg import Panel, chart, key_area
from pytest_llmdeploy.reports.html.timeline_chart import event_labels

RECORDS = "records/blue_green"
_HEIGHT = 150
_ROW = 14
_BANDS = (
    ("lost", "badarea", "lost"),
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


class _Part(BaseModel):
    """A part of a result; further keys are for machines."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Step(_Part):
    """One step."""

    name: str
    verdict: str
    reason: str
    duration: float
    skipped: bool = False
    evidence: str | None = None


class Back(_Part):
    """The way back."""

    succeeded: bool
    reason: str
    time_to_detect: float | None = None
    time_to_safe: float | None = None
    requests_exposed: int | None = None
    commands: tuple[str, ...] = ()


class Requests(_Part):
    """What became of the requests."""

    n: int = 0
    lost: int = 0
    phases: dict[str, dict[str, int]] = {}
    longest_gap: float = 0.0
    straddling: dict[str, int] = {}
    moments: dict[str, float | None] = {}
    timeline: dict[str, float | list[int]] = {}


class Result(_Part):
    """``result.json`` of a release."""

    success: bool
    previous_color: str | None
    new_color: str
    previous_image: str | None
    image: str
    duration: float
    timestamp: str
    steps: tuple[Step, ...]
    error: str | None = None
    rollback: Back | None = None
    traffic: Requests = Requests()


def releases(output: Path) -> list[Html]:
    """Return a section for each release of the run, by the results in its folder."""
    found = sorted((output / RECORDS).glob("*/result.json"), key=lambda path: path.stat().st_mtime)
    return [_section(path, number) for number, path in enumerate(found, 1)]


def _section(path: Path, number: int) -> Html:
    name = path.parent.name
    anchor = f"release-{number}"
    try:
        result = Result.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        note = tag("p", f"{path.name} cannot be read: {error}", class_="note")
        return tag("section", tag("h2", f"Release: {name}"), note, id=anchor)
    outcome = badge("PASS") if result.success else badge("ROLLED BACK")
    if not result.success and (result.rollback is None or not result.rollback.succeeded):
        outcome = badge("FAIL")
    parts = [
        tag("h2", f"Release: {name} ", outcome),
        tag("p", result.error, class_="note") if result.error else "",
        _facts(result),
        _steps(result.steps),
        _chart(result.traffic),
        _phases(result.traffic),
        _commands(result.rollback),
    ]
    return tag("section", *parts, id=anchor)


def _facts(result: Result) -> Html:
    traffic, back = result.traffic, result.rollback
    pairs = [
        ("Before", f"{result.previous_color or NONE} ({result.previous_image or NONE})"),
        ("New", f"{result.new_color} ({result.image})"),
        ("Began", moment(result.timestamp)),
        ("Duration", seconds(result.duration)),
        ("Requests", whole(traffic.n)),
        ("Lost", whole(traffic.lost)),
        ("Longest gap", seconds(traffic.longest_gap)),
        ("Open at the switch", whole(sum(traffic.straddling.values()))),
    ]
    if back is not None:
        told = "done" if back.succeeded else "FAILED"
        pairs += [("Way back", f"{told}: {back.reason}")]
        if back.time_to_detect is not None:
            pairs += [("Failure seen", f"{seconds(back.time_to_detect)} after the switch")]
        if back.time_to_safe is not None:
            pairs += [("Safe", f"{seconds(back.time_to_safe)} after the switch")]
        if back.requests_exposed is not None:
            pairs += [("Requests exposed", whole(back.requests_exposed))]
    return facts(pairs)


def _steps(steps: Sequence[Step]) -> Html:
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


def _chart(traffic: Requests) -> Html:
    """Return the requests over time, by who answered; nothing without any."""
    width = traffic.timeline.get("bin")
    rows = {key: row for key, row in traffic.timeline.items() if isinstance(row, list)}
    if not isinstance(width, float) or not any(rows.values()):
        return Html()
    bins = max(map(len, rows.values()))
    step = max(1, -(-bins // 200))
    span = width * step
    x = linear("time since the traffic began (s)", bins * width)
    marks = [
        Marked(at=at, label=_MOMENTS[name])
        for name, at in traffic.moments.items()
        if at is not None and name in _MOMENTS
    ]
    labels, lines = event_labels(sorted(marks, key=lambda each: each.at), x)
    below = [0.0] * -(-bins // step)
    stacks: list[tuple[str, str, list[float]]] = []
    for key, style, words in _BANDS:
        row = rows.get(key, [])
        sums = [sum(row[at : at + step]) / span for at in range(0, bins, step)]
        below = [low + high for low, high in zip(below, sums, strict=True)]
        if any(sums):
            stacks.append((style, words, list(below)))
    y = rounded("requests by their end (/s)", max(below))
    panel = Panel(x, y, _HEIGHT, top=lines * _ROW)
    for style, words, tops in reversed(stacks):  # each stands on those before it
        spans = [(at * span, (at + 1) * span, top) for at, top in enumerate(tops)]
        panel.columns(spans, style, words)
    for mark in marks:
        panel.vertical(mark.at, "event", f"{seconds(mark.at)}: {mark.label}")
    told = "; ".join(f"{seconds(mark.at)} {mark.label}" for mark in marks)
    about = f"Each column is {seconds(span)}." + (f" Marked: {told}." if told else "")
    keys = join(key_area(style, words) for style, words, _ in stacks)
    content = [*labels, panel.render()]
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


def _commands(back: Back | None) -> Html:
    if back is None or not back.commands:
        return Html()
    text = "\n".join(back.commands)
    return join([tag("p", "To bring the former state back:", class_="note"), tag("pre", text)])
