"""The page's sections about one load profile."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_llmdeploy.reports.html.bars import bar
from pytest_llmdeploy.reports.html.latency_chart import NAMES, latency_chart
from pytest_llmdeploy.reports.html.markup import Column, Html, badge, facts, join, table, tag
from pytest_llmdeploy.reports.html.numbers import (
    NONE,
    moment,
    of_metric,
    rate,
    seconds,
    share,
    short,
    whole,
)
from pytest_llmdeploy.reports.html.search_parts import capacity_part, comparison_part
from pytest_llmdeploy.reports.html.summary import Generator, Percentiles, Summary
from pytest_llmdeploy.reports.html.timeline_chart import timeline_chart
from pytest_llmdeploy.reports.result import Event
from pytest_llmdeploy.verdicts import Verdict, worst

_OURS = frozenset({"cancelled"})
"""Ends of requests that are no failure of the service's."""
_COLUMNS = ("p50", "p90", "p95", "p99", "max", "mean")


def profile_name(summary: Summary | str, items: Sequence[Event]) -> str:
    """Return what the profile is called, also where its summary is lost."""
    if isinstance(summary, str):
        return str(items[0]["name"]).partition("::")[0]
    return summary.name


def profile(summary: Summary | str, items: Sequence[Event], anchor: str) -> Html:
    """Return the section of one profile, or why there is nothing to show of it."""
    verdict = badge(worst(Verdict(event["verdict"]) for event in items))
    shown = [tag("li", badge(event["verdict"]), f" {event['name']}") for event in items]
    names = tag("ul", *shown, class_="items")
    if isinstance(summary, str):
        missing = tag("p", f"No measurements to show: {summary}.", class_="note")
        title = _title(profile_name(summary, items), verdict)
        return tag("section", title, names, missing, id=anchor)
    parts = [
        _title(summary.name, verdict),
        names,
        _error(summary),
        *(tag("p", note, class_="note") for note in summary.notes),
        _about(summary),
        _objectives(summary),
        _latencies(summary),
        timeline_chart(summary),
        tag("div", _ends(summary), _who(summary), class_="pair"),
        _failures(summary),
        _generator(summary.generator),
        capacity_part(summary.capacity),
        comparison_part(summary.comparison),
    ]
    return tag("section", *parts, id=anchor)


def _title(name: str, verdict: Html) -> Html:
    return tag("h2", f"Load: {name} ", verdict)


def _error(summary: Summary) -> Html:
    if summary.error is None:
        return Html()
    told = (
        f"{summary.error}. What follows was measured all the same; it is no verdict on the service."
    )
    return tag("p", told, class_="note")


def _about(summary: Summary) -> Html:
    tokens = summary.tokens
    window = summary.window
    scripted = " (SCRIPTED answers)" if summary.service.scripted else ""
    pairs = [
        ("Traffic", f"{summary.traffic} ({summary.model})"),
        ("Service", f"{summary.service.name}{scripted}"),
        ("Address", summary.service.url or NONE),
        ("Environment", summary.environment or NONE),
        ("Started", moment(summary.started)),
        ("Duration", seconds(summary.duration)),
        ("Judged window", f"{seconds(window[0])} to {seconds(window[1])}" if window else NONE),
        ("Requests intended", whole(summary.intended)),
        ("Sent", whole(summary.sent)),
        ("Judged", whole(summary.judged)),
        ("Intended rate", rate(summary.rates.intended)),
        ("Answered rate", rate(summary.rates.ok)),
        ("Tokens", f"{rate(summary.rates.tokens)}, {whole(tokens.completion)} in all"),
        ("Prompt tokens (cached)", f"{whole(tokens.prompt)} ({whole(tokens.cached)})"),
    ]
    return facts(pairs)


def _objectives(summary: Summary) -> Html:
    columns = (
        Column("Objective"),
        Column("Verdict"),
        Column("Value", "n"),
        Column("Interval", "n"),
        Column("Limit", "n"),
        Column("n", "n"),
        Column("Reason", "w"),
    )
    rows = []
    for each in summary.objectives:
        infinite = "∞" if each.n else NONE
        bounded = (each.lower, each.upper) != (None, None)
        low, high = of_metric(each.name, each.lower), of_metric(each.name, each.upper, missing="∞")
        bounds = f"{low} … {high}" if bounded else NONE
        value = of_metric(each.name, each.value, missing=infinite)
        limit = of_metric(each.name, each.limit)
        text = tag("code", each.text)
        rows.append((text, badge(each.verdict), value, bounds, limit, whole(each.n), each.reason))
    if not rows:
        return tag("p", "No objective was judged.", class_="note")
    return join([tag("h3", "Objectives"), table(columns, rows, "What had to hold, and what did")])


def _latencies(summary: Summary) -> Html:
    charts = [latency_chart(summary, metric) for metric in summary.cdf]
    rows = []
    for metric, found in summary.latencies.items():
        if found is None or not found.n:
            continue
        name = NAMES.get(metric, metric)
        rows.append(_latency_row(name, found))
        if found.from_sent is not None:
            rows.append(_latency_row(f"{name}, from sending", found.from_sent))
    if not rows and not any(charts):
        return tag("p", "No latency was measured.", class_="note")
    columns = [Column("Latency"), *(Column(name, "n") for name in _COLUMNS), Column("n", "n")]
    caption = "From the intended start, where it says nothing else; ∞: too many failed"
    numbers = table(columns, rows, caption) if rows else Html()
    return join([tag("h3", "Latencies"), tag("div", *charts, class_="pair"), numbers])


def _latency_row(name: str, found: Percentiles) -> list[str]:
    return [name, *(seconds(getattr(found, column)) for column in _COLUMNS), whole(found.n)]


def _ends(summary: Summary) -> Html:
    """Return how the requests ended, as bars."""
    total = sum(summary.classes.values())
    order = sorted(summary.classes.items(), key=lambda entry: (entry[0] != "ok", -entry[1]))
    rows = []
    for name, number in order:
        style = "ok" if name == "ok" else "aside" if name in _OURS else "bad"
        part = share(number / total) if total else NONE
        picture = bar(number, total, style, f"{name}: {number} of {total}")
        rows.append((name, whole(number), part, picture))
    columns = (Column("End"), Column("Requests", "n"), Column("Share", "n"), Column("", "w"))
    return tag(
        "div", tag("h3", "How requests ended"), table(columns, rows, "All intended requests")
    )


def _who(summary: Summary) -> Html:
    parts = []
    if summary.versions:
        total = sum(summary.versions.values())
        rows = [
            (name, whole(number), share(number / total) if total else NONE,
             bar(number, total, "ok", f"{name}: {number} of {total}"))
            for name, number in summary.versions.items()
        ]  # fmt: skip
        columns = (Column("Version"), Column("Answers", "n"), Column("Share", "n"), Column("", "w"))
        parts += [tag("h3", "Who answered"), table(columns, rows, "By the version header")]
    if summary.clients:
        clients = [
            (name, whole(each.intended), whole(each.ok),
             share(each.ok / each.intended) if each.intended else NONE)
            for name, each in summary.clients.items()
        ]  # fmt: skip
        heads = [Column("Client"), *(Column(name, "n") for name in ("Intended", "ok", "Share"))]
        parts += [tag("h3", "Who asked"), table(heads, clients, "Kinds of clients")]
    return tag("div", *parts)


def _failures(summary: Summary) -> Html:
    if not summary.failures:
        return Html()
    columns = (Column("End"), Column("Requests", "n"), Column("Detail", "w"))
    rows = [(each.class_, whole(each.count), each.detail) for each in summary.failures]
    return join([tag("h3", "Failures"), table(columns, rows, "The most frequent first")])


def _generator(generator: Generator) -> Html:
    """Return whether the load generator itself kept up."""
    memory = generator.memory_mb
    pairs = [
        ("Verdict", badge(generator.verdict) if generator.verdict else NONE),
        ("Dispatch lag p50", _time(generator.dispatch_lag_p50)),
        ("Dispatch lag p99", _time(generator.dispatch_lag_p99)),
        ("Loop lag p99", _time(generator.loop_lag_p99)),
        ("CPU of the busiest process", share(generator.cpu)),
        ("Processes", whole(generator.processes)),
        ("Memory", NONE if memory is None else f"{short(memory)} MB"),
    ]
    if check := generator.check:
        verdict = badge(check.verdict) if check.verdict else NONE
        pairs += [
            ("Self-check against a mock", join([verdict, f" at {rate(check.rate)}"])),
            ("Self-check: TTFT error", share(check.ttft_error)),
            ("Self-check: dispatch lag p99", _time(check.dispatch_lag_p99)),
        ]
    else:
        pairs.append(("Self-check against a mock", "not made"))
    reason = tag("p", generator.reason, class_="note") if generator.reason else Html()
    return join([tag("h3", "Load generator"), reason, facts(pairs)])


def _time(value: float | None) -> str:
    return NONE if value is None else seconds(value)
