"""A canary over time: weights and requests; both versions side by side; the evidence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from pytest_llmdeploy.reports.canary_record import ALL
from pytest_llmdeploy.reports.html.axes import Axis, linear, logarithmic, rounded, times
from pytest_llmdeploy.reports.html.canary_series import CANARY, STABLE, Group, Series
from pytest_llmdeploy.reports.html.markup import Html, join
from pytest_llmdeploy.reports.html.numbers import seconds, short, whole
from pytest_llmdeploy.reports.html.release_parts import ROW, stacked
from pytest_llmdeploy.reports.html.release_result import Result
from pytest_llmdeploy.reports.html.summary import Marked
from pytest_llmdeploy.reports.html.svg import Panel, chart, key, stripe
from pytest_llmdeploy.reports.html.timeline_chart import event_labels

_WEIGHTS = 64
_HEIGHT = 130
_SHOWN_EVIDENCE = 1e9
"""Larger e-values are drawn at the edge."""
_LEAST_EVIDENCE = 0.1
_TIME = "time since the traffic began (s)"
_VERSIONS = ((STABLE, "old", "running version"), (CANARY, "new", "new version"))


@dataclass(frozen=True, slots=True)
class Clock:
    """When the traffic of a release began, and when what shall be shown ends."""

    zero: float
    """Seconds since the epoch."""
    end: float
    """Seconds since then."""

    @property
    def axis(self) -> Axis:
        """The axis of time."""
        return linear(_TIME, self.end)

    def at(self, epoch: float) -> float:
        """Return a time since the traffic began."""
        return max(0.0, epoch - self.zero)


def clock_of(result: Result, series: Series) -> Clock | None:
    """Return the clock that all charts of a canary share; None where nothing was measured."""
    deploy, told = result.step("deploy"), result.traffic.moments.get("deploy")
    if deploy is not None and told is not None:
        zero = deploy.started - told  # the one moment that both clocks know
    elif series.groups:
        zero = series.groups[0].start
    else:
        return None
    stacks = stacked(result.traffic)
    ends = [group.end - zero for group in series.groups]
    end = max([*ends, stacks.end if stacks is not None else 0.0])
    return Clock(zero, end) if end > 0 else None


def timeline(result: Result, clock: Clock) -> Html:
    """Return the weights, and below them every request by who answered it."""
    stacks = stacked(result.traffic)
    marks = _marks(result, clock)
    x = clock.axis
    labels, rows = event_labels([mark for mark in marks if not mark.label.endswith("proven")], x)
    weights = _weights(result, clock, x, rows * ROW, last=stacks is None)
    panels = [weights]
    if stacks is not None:
        panels.append(stacks.panel(x, _HEIGHT, top=weights.bottom))
    for panel in panels:
        for shift in result.canary.shifts:
            if shift.converged is not None:
                span = clock.at(shift.at), clock.at(shift.converged)
                panel.stretch(*span, "aside", f"{shift.made} % set, not yet proven")
        for mark in marks:
            panel.vertical(mark.at, "event", f"{seconds(mark.at)}: {mark.label}")
    told = "; ".join(f"{seconds(mark.at)} {mark.label}" for mark in marks)
    about = f"Marked: {told}." if told else "Nothing was changed."
    if stacks is not None:
        about = f"Each column is {seconds(stacks.span)}. {about}"
    keys = [key("new95", "weight of the new version"), *(stacks.keys() if stacks else [])]
    content = [*labels, *(panel.render() for panel in panels)]
    return chart("Weights and requests", about, panels[-1].bottom, *content, keys=join(keys))


def _marks(result: Result, clock: Clock) -> list[Marked]:
    found: list[tuple[float, str]] = []
    promoted = result.step("promote")
    for name in ("deploy", "route"):
        step = result.step(name)
        if step is not None and not step.skipped:
            found.append((clock.at(step.started), name))
    for shift in result.canary.shifts:
        last = promoted is not None and not promoted.skipped and shift.at > promoted.started - 0.1
        what = "promote" if last else f"{shift.weight} %"
        found.append((clock.at(shift.at), what))
        if shift.converged is not None:
            found.append((clock.at(shift.converged), f"{what} proven"))
    for name, words in (("back", "goes back"), ("safe", "safe")):
        moment = result.traffic.moments.get(name)
        if moment is not None:
            found.append((moment, words))
    return [Marked(at=at, label=label) for at, label in sorted(found)]


def _weights(result: Result, clock: Clock, x: Axis, top: float, *, last: bool) -> Panel:
    ticks = tuple((part * ALL, f"{part * ALL:g}") for part in (0.0, 0.5, 1.0))
    panel = Panel(x, Axis("weight (%)", 0.0, ALL, ticks), _WEIGHTS, top=top, last=last)
    points: list[tuple[float, float | None]] = [(0.0, 0.0)]
    weight = 0
    changes = [(clock.at(shift.at), shift.made) for shift in result.canary.shifts]
    back = result.traffic.moments.get("back")
    if back is not None:
        changes.append((back, 0))
    for at, made in sorted(changes):
        points += [(at, weight), (at, made)]
        weight = made
    panel.curve([*points, (clock.end, weight)], "new95", "weight of the new version")
    return panel


Read = Callable[[str, Group], float | None]
"""Reads a value of a version, by its role."""
Curve = tuple[str, str, Read]
"""How thick, what it shows, and its values."""
_QS = (0.5, 0.95)


def versions_chart(series: Series, clock: Clock) -> Html:
    """Return error rates, latencies and times to the first token of both versions."""
    if not series.groups:
        return Html()
    x, top = clock.axis, 0.0
    drawn = _drawn(series)
    panels = []
    for number, (y, curves) in enumerate(drawn, 1):
        panel = Panel(x, y, _HEIGHT, top=top, last=number == len(drawn))
        for role, style, who in _VERSIONS:
            for thickness, words, read in curves:
                points = [(clock.at(at), value) for at, value in series.of(partial(read, role))]
                panel.curve(points, style + thickness, f"{words}, {who}")
        panels.append(panel)
        top = panel.bottom
    keys = join([
        key("old95", "running version: failed, p95"),
        key("old50", "p50"),
        key("new95", "new version: failed, p95"),
        key("new50", "p50"),
    ])  # fmt: skip
    content = [*(panel.render() for panel in panels), *_hits(series, clock, x, panels)]
    about = (
        f"{series.looks} looks, {len(series.groups)} points: each is of the requests that ended "
        "since the one before it, so few requests make it jump. The verdicts rest on all "
        "requests of a phase."
    )
    return chart("Both versions", about, panels[-1].bottom, *content, keys=keys)


def _drawn(series: Series) -> list[tuple[Axis, list[Curve]]]:
    """Return the y axis and the curves of each panel; none without values but for the first."""
    highest = max(_values(series, _rate), default=0.0)
    drawn: list[tuple[Axis, list[Curve]]] = [
        (rounded("failed (%)", max(highest, 0.01), 100.0), [("95", "failed", _rate)])
    ]
    for which, words in (("latency", "latency"), ("ttft", "time to first token")):
        curves: list[Curve] = [
            (f"{100 * q:.0f}", f"{words} p{100 * q:.0f}", partial(_quantile, which, q)) for q in _QS
        ]
        known = [value for _, _, read in curves for value in _values(series, read)]
        if known:
            drawn.append((times(words, known), curves))
    return drawn


def _values(series: Series, read: Read) -> list[float]:
    found = (read(role, group) for group in series.groups for role, _, _ in _VERSIONS)
    return [value for value in found if value is not None]


def _rate(role: str, group: Group) -> float | None:
    point = group.versions.get(role)
    return point.error_rate if point is not None else None


def _quantile(which: str, q: float, role: str, group: Group) -> float | None:
    point = group.versions.get(role)
    return point.quantile(which, q) if point is not None else None


def _hits(series: Series, clock: Clock, x: Axis, panels: Sequence[Panel]) -> list[Html]:
    """Return invisible stripes that tell all values of a point when pointed at."""
    stripes = []
    for group in series.groups:
        told = f"{group.phase}, until {short(clock.at(group.end))} s"
        for role, _, who in _VERSIONS:
            point = group.versions.get(role)
            if point is None:
                told += f"; {who}: no figures"
                continue
            told += f"; {who}: {whole(point.errors)} of {whole(point.requests)} failed"
            for which, words in (("latency", "latency"), ("ttft", "TTFT")):
                p50, p95 = (point.quantile(which, q) for q in _QS)
                if p50 is not None:
                    told += f", {words} p50 {seconds(p50)}, p95 {seconds(p95)}"
        left, right = x.at(clock.at(group.start)), x.at(clock.at(group.end))
        stripes.append(stripe(told, left, right, panels))
    return stripes


def evidence_chart(series: Series, clock: Clock, threshold: float | None) -> Html:
    """Return the e-values of the error rates with the line that ends a canary."""
    known = [group.e_value for group in series.groups if group.e_value is not None]
    if not known or threshold is None:
        return Html()
    high = min(max([*known, 3 * threshold]), _SHOWN_EVIDENCE)
    low = max(min([*known, 1.0]), _LEAST_EVIDENCE)
    panel = Panel(clock.axis, logarithmic("e-value (log scale)", low, high), _HEIGHT)
    panel.curve(
        [(clock.at(at), value) for at, value in series.of(lambda group: group.e_value)],
        "new95",
        "evidence that the new version fails more often",
    )
    level = panel.level(threshold)
    panel.curve([(0.0, threshold), (clock.end, threshold)], "limit", f"{short(threshold)}")
    panel.words(0.0, level - 5, f"{short(threshold)}: shown to fail more often")
    highest = max(known)
    about = (
        f"How much the failures speak against the new version: it is shown to fail more often at "
        f"{short(threshold)}, the highest was {short(highest)}. "
        "Each phase begins anew; one may look as often as one likes."
    )
    keys = join([key("new95", "e-value"), key("limit", "threshold")])
    return chart("Evidence of more failures", about, panel.bottom, panel.render(), keys=keys)
