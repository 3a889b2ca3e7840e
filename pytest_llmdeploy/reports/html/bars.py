"""Bars of counts, and ratios with their intervals, small enough for a cell of a table."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pytest_llmdeploy.reports.html.axes import Axis
from pytest_llmdeploy.reports.html.markup import Html, tag
from pytest_llmdeploy.reports.html.numbers import short
from pytest_llmdeploy.reports.html.summary import Metric
from pytest_llmdeploy.reports.html.svg import percent

_LEAST = 0.012
"""Share of the width that is drawn at least: one failure of a million is visible."""
_WIDEST = 16.0
"""Ratios beyond 16 or below 1/16 are drawn at the edge."""


def bar(part: float, whole: float, style: str, about: str) -> Html:
    """Return a bar as long as the part's share of the whole."""
    length = max(part / whole, _LEAST) if part > 0 and whole > 0 else 0.0
    rect = tag("rect", width=percent(min(length, 1.0)), height="100%", class_=style)
    return tag("svg", tag("title", about), rect, class_="bar", role="img", aria_label=about)


def ratio_axis(metrics: Sequence[Metric]) -> Axis:
    """Return one logarithmic axis around 1 for the ratios, their intervals and limits."""
    values = [
        value
        for each in metrics
        for value in (each.ratio, each.low, each.high, 1 + (each.max_increase or 0))
        if value is not None and value > 0
    ]
    reach = max((abs(math.log(value)) for value in values), default=0.1)
    reach = min(max(reach * 1.15, math.log(1.1)), math.log(_WIDEST))
    return Axis("ratio", math.exp(-reach), math.exp(reach), (), log=True)


def forest(metric: Metric, axis: Axis) -> Html:
    """Return a ratio with its interval, the line of no change, and the limit."""
    parts = [_upright(axis, 1.0, "frame")]
    told = f"{metric.name}: "
    if metric.max_increase is not None:
        parts.append(_upright(axis, 1 + metric.max_increase, "limit"))
    if metric.low is not None and metric.high is not None:
        left, right = percent(axis.at(metric.low)), percent(axis.at(metric.high))
        parts.append(tag("line", x1=left, x2=right, y1=12, y2=12, class_="range"))
        parts += [tag("line", x1=x, x2=x, y1=8, y2=16, class_="range") for x in (left, right)]
        told += f"between {short(metric.low)} and {short(metric.high)}, "
    if metric.ratio is None:
        told += "no ratio"
    else:
        at = percent(axis.at(metric.ratio))
        parts.append(tag("circle", cx=at, cy=12, r=5, class_="dot"))
        told += f"ratio {short(metric.ratio)}"
    return tag("svg", tag("title", told), *parts, class_="forest", role="img", aria_label=told)


def _upright(axis: Axis, value: float, style: str) -> Html:
    at = percent(axis.at(value))
    return tag("line", x1=at, x2=at, y1=0, y2=24, class_=style)
