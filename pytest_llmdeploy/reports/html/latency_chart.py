"""The distribution of a latency, from the intended start and from sending."""

from __future__ import annotations

import re

from pytest_llmdeploy.reports.html.axes import shares, times
from pytest_llmdeploy.reports.html.markup import Html, join
from pytest_llmdeploy.reports.html.numbers import seconds, share
from pytest_llmdeploy.reports.html.summary import ObjectiveResult, Points, Summary
from pytest_llmdeploy.reports.html.svg import Panel, Point, chart, key

NAMES = {
    "ttft": "Time to first token",
    "ttfr": "Time to first reasoning",
    "e2e": "Time to the end of the answer",
    "tpot": "Time per output token",
    "itl": "Gap between pieces",
    "itl_per_token": "Gap by token",
    "queueing": "Wait before sending",
}
HEIGHT = 220
MOST_POINTS = 160
_DRAWN = (0.5, 0.9, 0.95, 0.99)
_PERCENTILE = re.compile(r"_p(\d{1,2}(?:\.\d{1,3})?)")


def latency_chart(summary: Summary, metric: str) -> Html:
    """Return the chart of a metric's two distributions; nothing where it was not measured."""
    curves = summary.cdf.get(metric)
    if curves is None or not (curves.intended or curves.sent):
        return Html()
    limits = [found for each in summary.objectives if (found := _limit(each, metric))]
    values = [x for points in (curves.intended, curves.sent) for x, _ in points]
    name = NAMES.get(metric, metric)
    axis = times(name, [*values, *(limit for _, limit in limits)])
    panel = Panel(axis, shares("share of all judged requests (%)"), HEIGHT)
    reached = max((y for _, y in curves.intended or curves.sent), default=0.0)
    lost = max(0.0, 1 - reached)
    if lost > 0.0005:
        about = f"{share(lost)} of the judged requests have no latency: they failed"
        panel.stretch(axis.low, axis.high, "lost", about, bottom=reached)
    for points, style, since in (
        (curves.intended, "s1", "from the intended start"),
        (curves.sent, "s2", "from sending"),
    ):
        panel.curve(thinned(points), style, f"{name} {since}")
    for quantile in _DRAWN:
        for points, style, since in (
            (curves.intended, "dot", "from the intended start"),
            (curves.sent, "dot2", "from sending"),
        ):
            if (value := _value_at(points, quantile)) is not None:
                panel.dot(value, quantile, f"p{quantile * 100:g} {since}: {seconds(value)}", style)
    for row, (told, limit) in enumerate(limits):
        panel.vertical(limit, "limit", told)
        panel.words(limit, panel.level(0) - 8 - 14 * row, told)
    keys = join([key("s1", "from the intended start"), key("s2", "from sending")])
    if limits:
        keys = join([keys, key("limit", "limit of an objective")])
    return chart(
        name, _about(curves.intended, curves.sent, lost), panel.bottom, panel.render(), keys=keys
    )


def thinned(points: Points, most: int = MOST_POINTS) -> list[Point]:
    """Return at most about `most` of the points, the first and the last among them."""
    every = max(1, -(-len(points) // most))
    kept: list[Point] = list(points[::every])
    if points and kept[-1] != points[-1]:
        kept.append(points[-1])
    return kept


def _limit(objective: ObjectiveResult, metric: str) -> tuple[str, float] | None:
    found = _PERCENTILE.fullmatch(objective.name.removeprefix(metric))
    if not found or objective.limit is None:
        return None
    return f"p{found[1]} ≤ {seconds(objective.limit)}", objective.limit


def _value_at(points: Points, quantile: float) -> float | None:
    return next((x for x, y in points if y >= quantile - 1e-9), None)


def _about(intended: Points, sent: Points, lost: float) -> str:
    told = [
        f"p{quantile * 100:g} {since} {seconds(_value_at(points, quantile))}"
        for points, since in ((intended, "from the intended start"), (sent, "from sending"))
        for quantile in (0.5, 0.95)
        if points
    ]
    end = (
        f" The hatched part is failure: {share(lost)} of the judged requests have no latency."
        if lost > 0.0005
        else ""
    )
    return f"{', '.join(told)}.{end}"
