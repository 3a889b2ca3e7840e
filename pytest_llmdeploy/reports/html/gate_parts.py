"""The page's section about one gate: what decided, what changed, and what the model said."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pytest_llmdeploy.reports.html.axes import Axis
from pytest_llmdeploy.reports.html.markup import Column, Html, badge, facts, join, table, tag
from pytest_llmdeploy.reports.html.numbers import NONE, seconds, share, short, whole
from pytest_llmdeploy.reports.html.release_parts import Section
from pytest_llmdeploy.reports.html.svg import percent
from pytest_llmdeploy.reports.result import Event, RunResult, gate_name, is_gate
from pytest_llmdeploy.verdicts import Verdict

MOST_CASES = 50
"""Cases that did not pass are shown with their answers up to this number."""
_ALL = Axis("pass rate", 0.0, 1.0, ())
_FINDINGS = (
    Column("What decided", "k"),
    Column("Verdict"),
    Column("Between 0 and 100 %", "f"),
    Column("Reason", "w"),
)
_DIFFERENT = (Column("Case"), Column("Then", "f"), Column("Now", "f"), Column("Reason", "f"))


def gate_sections(result: RunResult) -> list[Section]:
    """Return a section for each gate that was judged."""
    cases: dict[str | None, list[Event]] = {}
    for event in result.events:
        if event["stage"] == "gates" and not is_gate(event):
            cases.setdefault(event["gate"], []).append(event)
    return [
        Section(
            f"gate-{number}",
            f"Gate: {gate_name(gate)}",
            _section(f"gate-{number}", gate, cases.get(gate["gate"], [])),
        )
        for number, gate in enumerate(result.gates, 1)
    ]


def _section(anchor: str, gate: Event, cases: Sequence[Event]) -> Html:
    detail = gate["detail"]
    parts = [
        tag("p", badge(gate["verdict"]), " ", gate["reason"]),
        facts(_facts(detail)),
        _findings(detail.get("findings") or ()),
        _baseline(detail.get("baseline")),
        _imported(detail.get("imported")),
        _metrics(detail.get("metrics") or {}),
        _judges(detail.get("judges") or ()),
        _missed(cases),
    ]
    return tag("section", tag("h2", f"Gate: {gate_name(gate)}"), join(parts), id=anchor)


def _facts(detail: Mapping[str, Any]) -> list[tuple[str, str]]:
    pairs = [
        ("Pass rate", share(detail.get("pass_rate"))),
        ("At least", share(detail.get("min_pass_rate"))),
    ]
    usage = detail.get("usage") or {}
    latency = detail.get("latency") or {}
    known = {
        "Answers": usage.get("answers"),
        "Prompt tokens": usage.get("prompt_tokens"),
        "Answer tokens": usage.get("completion_tokens"),
        "Replayed answers": detail.get("replayed") or None,
        "Not asked": detail.get("not_asked") or None,
    }
    pairs += [(name, whole(number)) for name, number in known.items() if number is not None]
    if usage.get("dollars") is not None:
        pairs.append(("Dollars", short(usage["dollars"])))
    pairs += [(f"Latency {name}", seconds(latency[name])) for name in ("p50", "p95") if latency]
    return pairs


def _findings(findings: Sequence[Mapping[str, Any]]) -> Html:
    if not findings:
        return Html()
    rows = [
        (each["name"], badge(each["verdict"]), _interval(each), each["reason"]) for each in findings
    ]
    about = "The line: what the cases leave open; the dot: their pass rate; the bar: what is asked"
    return table(_FINDINGS, rows, about)


def _interval(finding: Mapping[str, Any]) -> str:
    """Return a pass rate with its bounds and its limit on a line from 0 to 100 %."""
    rate, limit = finding.get("pass_rate"), finding.get("min_pass_rate")
    if rate is None or limit is None:
        return NONE
    low, high = finding.get("lower"), finding.get("upper")
    at = percent(_ALL.at(limit))
    parts = [tag("line", x1=at, x2=at, y1=0, y2=24, class_="limit")]
    told = f"pass rate {share(rate)}, at least {share(limit)}"
    if low is not None and high is not None:
        left, right = percent(_ALL.at(low)), percent(_ALL.at(high))
        parts.append(tag("line", x1=left, x2=right, y1=12, y2=12, class_="range"))
        parts += [tag("line", x1=x, x2=x, y1=8, y2=16, class_="range") for x in (left, right)]
        told += f", between {share(low)} and {share(high)}"
    parts.append(tag("circle", cx=percent(_ALL.at(rate)), cy=12, r=5, class_="dot"))
    return tag("svg", tag("title", told), *parts, class_="forest", role="img", aria_label=told)


def _baseline(detail: Mapping[str, Any] | None) -> Html:
    if not detail:
        return Html()
    parts: list[str] = [tag("h3", f"Beside {detail['baseline']} (run {detail['baseline_run']})")]
    for key, title in (
        ("regressed", "Passed then, fails now"),
        ("fixed", "Failed then, passes now"),
    ):
        if entries := detail.get(key):
            parts.append(table(_DIFFERENT, map(_both, entries), f"{title}: {len(entries)}"))
    if others := detail.get("not_comparable"):
        rows = [(why, str(len(cases)), ", ".join(cases)) for why, cases in others.items()]
        columns = (Column("Not comparable"), Column("Cases", "n"), Column("Which", "w"))
        parts.append(table(columns, rows, "Left out of the comparison"))
    return join(parts)


def _both(entry: Mapping[str, Any]) -> tuple[str, ...]:
    answers = ("\n".join(entry.get(when, ())) or NONE for when in ("then", "now"))
    return (entry["case"], *answers, entry.get("reason", "the answers are in report.json"))


def _imported(imported: Mapping[str, Any] | None) -> Html:
    if not imported:
        return Html()
    rows = [
        (label, why, str(count))
        for key, label in (
            ("unsupported", badge("ERROR")),
            ("vacuous", "passes whatever the answer"),
        )
        for why, count in imported.get(key, {}).items()
    ]
    rows += [("has no effect here", warning, NONE) for warning in imported.get("warnings", ())]
    title = tag("h3", f"Compatibility with {imported['format']}")
    if not rows:
        return join([title, tag("p", "Every row was judged as its own tool judges it.")])
    columns = (Column("Rows that"), Column("Why", "w"), Column("Rows", "n"))
    return join([title, table(columns, rows, "What was not judged as its own tool judges it")])


def _metrics(metrics: Mapping[str, Mapping[str, float]]) -> Html:
    if not metrics:
        return Html()
    rows = [(name, short(each["mean"]), whole(int(each["n"]))) for name, each in metrics.items()]
    return table((Column("Metric"), Column("Mean", "n"), Column("Scores", "n")), rows, "Metrics")


def _judges(judges: Sequence[Mapping[str, Any]]) -> Html:
    if not judges:
        return Html()
    rows = [
        (each["type"], each["judge"], each["prompt_sha256"][:16], str(each["verdicts"]))
        for each in judges
    ]
    columns = (Column("Assertion"), Column("Judge"), Column("Prompt"), Column("Verdicts", "n"))
    return table(columns, rows, "Who judged, and the hash of what it was asked")


def _missed(cases: Iterable[Event]) -> Html:
    """Return the cases that did not pass, with what was asked and what came."""
    missed = [event for event in cases if event["verdict"] != Verdict.PASS]
    if not missed:
        return Html()
    rows = [_case(event) for event in missed[:MOST_CASES]]
    columns = (
        Column("Case"),
        Column("Verdict"),
        Column("Asked", "f"),
        Column("Answered", "f"),
        Column("Reason", "f"),
    )
    more = f", the first {MOST_CASES}; all are in report.json" if len(missed) > MOST_CASES else ""
    shown = table(columns, rows, f"Did not pass{more}")
    return tag("details", tag("summary", f"{len(missed)} cases that did not pass"), shown)


def _case(event: Event) -> tuple[str, ...]:
    detail = event["detail"]
    asked = [str(message.get("content", "")) for message in detail.get("messages", ())]
    came = [str(sample.get("text", "")) for sample in detail.get("samples", ()) if "text" in sample]
    return (
        str(event["name"]).partition("::")[2],
        badge(event["verdict"]),
        "\n".join(asked) or NONE,
        "\n".join(came) or NONE,
        event["reason"],
    )
