"""The page's sections about the run as a whole."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from pytest_llmdeploy.reports.html.markup import Column, Html, badge, facts, join, table, tag
from pytest_llmdeploy.reports.html.numbers import NONE, moment, seconds, share
from pytest_llmdeploy.reports.result import (
    Event,
    RunResult,
    counts,
    deciding,
    gate_name,
    is_gate,
)
from pytest_llmdeploy.verdicts import Verdict, worst

_ITEMS = (Column("Item"), Column("Verdict"), Column("Reason", "w"))


def banner(result: RunResult) -> Html:
    """Return the verdict, then why."""
    labels = [badge(result.verdict)]
    if result.interrupted:
        labels.append(badge("INTERRUPTED"))
    if any(event["scripted"] for event in result.events):
        labels.append(badge("SCRIPTED"))
    first, *more = _reasons(result)
    return tag(
        "section",
        *labels,
        tag("p", first, class_="first"),
        *(tag("p", reason) for reason in more),
        class_=f"banner is-{result.verdict.lower()}",
        aria_label="Verdict",
    )


def _reasons(result: RunResult) -> list[str]:
    """Return why the run has its verdict, what weighs most first."""
    events = deciding(result.events)
    reasons = []
    if result.interrupted:
        reasons.append("The run was interrupted: what follows is not the whole.")
    if result.not_collected:
        reasons.append("Not everything could be collected, so it was not asked.")
    if result.verdict is not Verdict.PASS:
        alike = [event for event in events if event["verdict"] == result.verdict]
        if alike:
            worst_one = f"{_full_name(alike[0])}: {alike[0]['reason']}"
            # A failure outweighs the interruption that is told beside it.
            reasons.insert(0 if result.verdict is Verdict.FAIL else len(reasons), worst_one)
    if result.others_failed:
        reasons.append("Tests without a verdict of llmdeploy failed too.")
    if not result.events:
        reasons.append("Nothing was asked, so nothing was measured.")
    if len(events) > 1 and result.verdict is not Verdict.PASS:
        reasons.append(f"Of {_items(len(events))} that decide: {_numbers(events)}.")
    if not reasons:
        reasons.append(
            "The only item passed."
            if len(events) == 1
            else f"All {len(events)} items that decide passed."
        )
    if result.verdict is Verdict.PASS and result.exit_code:
        reasons.insert(0, f"pytest itself ended with exit code {result.exit_code}.")
    if any(event["scripted"] for event in result.events):
        reasons.append("SCRIPTED answers: no model was judged.")
    return reasons


def _items(number: int) -> str:
    return "1 item" if number == 1 else f"{number} items"


def _numbers(events: Sequence[Event]) -> str:
    return ", ".join(f"{number} {name}" for name, number in counts(events).items())


def run_facts(result: RunResult) -> Html:
    """Return which run it was, and of what."""
    asked = [event for event in result.events if event["environment"]]
    started = datetime.fromtimestamp(result.started, UTC).isoformat()
    pairs = [
        ("Environment", _unique(event["environment"] for event in asked)),
        ("Service", _unique(event["service"] for event in asked)),
        ("Version", _unique(event["version"] or "unknown" for event in asked)),
        ("Run", result.run_id),
        ("Started", moment(started)),
        ("Duration", seconds(result.duration)),
        ("Exit code", str(result.exit_code)),
    ]
    return facts(pairs)


def _unique(values: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(map(str, values))) or NONE


def stages(result: RunResult) -> Html:
    """Return a row for each stage that was asked."""
    rows = []
    for stage, events in result.stages().items():
        found = deciding(events)
        verdict = worst(Verdict(event["verdict"]) for event in found)
        told = _numbers(found)
        if len(found) < len(events):
            decides = {id(event) for event in found}
            counted = [event for event in events if id(event) not in decides]
            told += f"; counted by a gate: {_numbers(counted)}"
        rows.append((stage, badge(verdict), told))
    if not rows:
        return Html()
    columns = (Column("Stage"), Column("Verdict"), Column("Items", "w"))
    return _section("Stages", table(columns, rows, "In the order of a release"))


def attention(result: RunResult) -> Html:
    """Return every item that did not pass, those that decide before those a gate counts."""
    decides = {id(event) for event in deciding(result.events)}
    missed = [event for event in result.events if event["verdict"] != Verdict.PASS]
    first = [event for event in missed if id(event) in decides]
    counted = [event for event in missed if id(event) not in decides]
    parts = []
    if first:
        parts.append(table(_ITEMS, _rows(first), "Did not pass"))
    if counted:
        title = f"{_items(len(counted))} that did not pass and that a gate counts"
        rows = table(_ITEMS, _rows(counted), "The gate decides, not the single case")
        parts.append(tag("details", tag("summary", title), rows))
    return _section("Needs attention", *parts) if parts else Html()


def _rows(events: Sequence[Event]) -> list[tuple[str, str, str]]:
    return [(_full_name(event), badge(event["verdict"]), event["reason"]) for event in events]


def gates(result: RunResult) -> Html:
    """Return each gate with its pass rate and what it wanted."""
    if not result.gates:
        return Html()
    columns = (
        Column("Gate"),
        Column("Verdict"),
        Column("Pass rate", "n"),
        Column("At least", "n"),
        Column("Passed", "n"),
        Column("Failed", "n"),
        Column("Errors", "n"),
        Column("Reason", "w"),
    )
    return _section("Gates", table(columns, map(_gate, result.gates), "Quality gates"))


def _gate(gate: Event) -> tuple[str, ...]:
    detail = gate["detail"]
    numbers = [str(detail.get(name, NONE)) for name in ("passed", "failed", "errors")]
    return (
        gate_name(gate),
        badge(gate["verdict"]),
        share(detail.get("pass_rate")),
        share(detail.get("min_pass_rate")),
        *numbers,
        gate["reason"],
    )


def _full_name(event: Event) -> str:
    return f"{event['stage']}::{event['name']}{' (gate)' if is_gate(event) else ''}"


def _section(title: str, *content: str) -> Html:
    return tag("section", tag("h2", title), join(content))
