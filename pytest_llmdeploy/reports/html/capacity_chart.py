"""The search for the highest rate: what each probe found."""

from __future__ import annotations

from pytest_llmdeploy.reports.html.axes import rounded, shares, times
from pytest_llmdeploy.reports.html.markup import Html, join, tag
from pytest_llmdeploy.reports.html.numbers import INFINITE, rate, seconds, share
from pytest_llmdeploy.reports.html.summary import Capacity, Probe
from pytest_llmdeploy.reports.html.svg import Panel, chart, key, key_area

_HEIGHT = 140
_SIGNS = {"PASS": "disk: PASS", "FAIL": "cross: FAIL", "INCONCLUSIVE": "ring: INCONCLUSIVE"}


def capacity_chart(capacity: Capacity) -> Html:
    """Return share of good requests and p95 latencies over the rate; nothing without probes."""
    probes = sorted(capacity.probes, key=lambda probe: probe.rate)
    if not probes:
        return Html()
    x = rounded("arrivals per second", max(probe.rate for probe in probes) * 1.02)
    good = Panel(x, shares("good requests (%)"), _HEIGHT, top=16, last=False)
    known = [v for probe in probes for v in (probe.ttft_p95, probe.e2e_p95) if v is not None]
    latency = Panel(x, times("p95 latency", known), _HEIGHT, top=good.bottom)
    for panel in (good, latency):
        _found(panel, capacity)
    good.curve([(probe.rate, probe.good) for probe in probes], "s1", "share of good requests")
    latency.curve([(probe.rate, probe.ttft_p95) for probe in probes], "s1", "TTFT p95")
    latency.curve([(probe.rate, probe.e2e_p95) for probe in probes], "s2", "E2E p95")
    for probe in probes:
        good.mark(probe.rate, probe.good or 0.0, probe.verdict, _told(probe))
        for name, value, style in (("TTFT", probe.ttft_p95, "dot"), ("E2E", probe.e2e_p95, "dot2")):
            if value is not None:
                about = f"{rate(probe.rate)}: {name} p95 {seconds(value)}"
                latency.dot(probe.rate, value, about, style)
        if known and probe.verdict == "FAIL" and None in (probe.ttft_p95, probe.e2e_p95):
            latency.words(probe.rate, latency.top + 12, f"p95 {INFINITE}", "strong")
    if capacity.rate is not None:
        good.words(capacity.rate, 12, f"capacity {rate(capacity.rate)}", "strong")
    keys = [
        tag("span", _signs(probes)),
        key("s1", "good, TTFT p95"),
        key("s2", "E2E p95"),
        key_area("span", "interval"),
    ]
    return chart(
        "Probes by rate",
        _about(capacity),
        latency.bottom,
        good.render(),
        latency.render(),
        keys=join(keys),
    )


def _found(panel: Panel, capacity: Capacity) -> None:
    if capacity.low is not None and capacity.high is not None:
        about = f"the highest rate lies between {rate(capacity.low)} and {rate(capacity.high)}"
        panel.stretch(capacity.low, capacity.high, "span", about)
    if capacity.rate is not None:
        panel.vertical(capacity.rate, "event", f"capacity {rate(capacity.rate)}")


def _signs(probes: list[Probe]) -> str:
    seen = {str(probe.verdict) for probe in probes}
    return ", ".join(words for verdict, words in _SIGNS.items() if verdict in seen)


def _told(probe: Probe) -> str:
    return f"{rate(probe.rate)}: {probe.verdict}, good {share(probe.good)}, n {probe.n}"


def _about(capacity: Capacity) -> str:
    if capacity.rate is None:
        return f"No rate was found in {len(capacity.probes)} probes."
    interval = (
        f", between {rate(capacity.low)} and {rate(capacity.high)}"
        if capacity.low is not None and capacity.high is not None
        else ""
    )
    return f"Highest rate {rate(capacity.rate)}{interval}, by {len(capacity.probes)} probes."
