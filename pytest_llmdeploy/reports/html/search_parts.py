"""The page's sections about a search for capacity, and about a comparison."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pytest_llmdeploy.reports.html.bars import forest, ratio_axis
from pytest_llmdeploy.reports.html.capacity_chart import capacity_chart
from pytest_llmdeploy.reports.html.markup import Column, Html, badge, join, table, tag
from pytest_llmdeploy.reports.html.numbers import (
    NONE,
    of_metric,
    rate,
    seconds,
    share,
    short,
    whole,
)
from pytest_llmdeploy.reports.html.summary import (
    Capacity,
    Comparison,
    Confirmation,
    Metric,
    Probe,
)

_STABLE = {True: "yes", False: "no", None: NONE}


def capacity_part(capacity: Capacity | None) -> Html:
    """Return the highest rate with its probes."""
    if capacity is None:
        return Html()
    columns = (
        Column("Rate", "n"),
        Column("Verdict"),
        Column("Good", "n"),
        Column("TTFT p95", "n"),
        Column("E2E p95", "n"),
        Column("In flight", "n"),
        Column("Stable"),
        Column("Requests", "n"),
        Column("Reason", "w"),
    )
    rows = [_probe(probe) for probe in sorted(capacity.probes, key=lambda probe: probe.rate)]
    probes = table(columns, rows, "Probes by their rate") if rows else Html()
    parts = [_heading("Capacity", capacity), capacity_chart(capacity), probes]
    return join([*parts, _confirmations(capacity.confirmations)])


def _confirmations(runs: Sequence[Confirmation]) -> Html:
    if not runs:
        return Html()
    columns = (
        Column("Rate", "n"),
        Column("Expected"),
        Column("Verdict"),
        Column("Requests", "n"),
        Column("Reason", "w"),
    )
    rows = [
        (rate(run.rate), badge(run.expected), badge(run.verdict), whole(run.n), run.reason)
        for run in runs
    ]
    return table(columns, rows, "Whole runs just below and just above what was found")


def _heading(name: str, judged: Capacity | Comparison) -> Html:
    reason = tag("p", judged.reason) if judged.reason else Html()
    return join([tag("h3", f"{name} ", badge(judged.verdict)), reason])


def _probe(probe: Probe) -> tuple[str, ...]:
    slope = probe.in_flight_slope
    latency: Callable[[float | None], str] = seconds if probe.n else lambda _: NONE
    return (
        rate(probe.rate),
        badge(probe.verdict),
        share(probe.good),
        latency(probe.ttft_p95),
        latency(probe.e2e_p95),
        NONE if slope is None else f"{slope:+.2f}/s",
        _STABLE[probe.stable],
        whole(probe.n),
        probe.reason,
    )


def comparison_part(comparison: Comparison | None) -> Html:
    """Return the ratios with their intervals on one scale."""
    if comparison is None:
        return Html()
    axis = ratio_axis(comparison.metrics)
    columns = (
        Column("Metric"),
        Column("Verdict"),
        Column("Before", "n"),
        Column("Now", "n"),
        Column("Ratio", "n"),
        Column("Interval", "n"),
        Column("Limit", "n"),
        Column(f"{short(axis.low)} … 1 … {short(axis.high)} (log scale)", "f"),
        Column("Reason"),
    )
    rows = [
        (
            tag("code", each.name),
            badge(each.verdict),
            of_metric(each.name, each.a, missing="∞"),
            of_metric(each.name, each.b, missing="∞"),
            NONE if each.ratio is None else short(each.ratio),
            _interval(each),
            NONE if each.max_increase is None else short(1 + each.max_increase),
            forest(each, axis),
            each.reason,
        )
        for each in comparison.metrics
    ]
    kind = f"Kind: {comparison.kind}; solid line: no change, dotted line: the limit"
    return join([_heading("Comparison", comparison), table(columns, rows, kind) if rows else ""])


def _interval(metric: Metric) -> str:
    if metric.low is None or metric.high is None:
        return NONE
    return f"{short(metric.low)} … {short(metric.high)}"
