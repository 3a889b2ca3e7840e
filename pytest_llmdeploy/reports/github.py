"""GitHub Actions: outputs of the step and its summary page."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from pytest_llmdeploy.reports.canary_record import phase_of
from pytest_llmdeploy.reports.canary_words import requests, what_decided
from pytest_llmdeploy.reports.result import RunResult, gate_name, is_gate
from pytest_llmdeploy.verdicts import Verdict

MOST_SHOWN = 50
LONGEST_CELL = 300
_MARKUP = re.compile(r"[^\w\s.,:;()='\"%/+…-]|_")


def write_github(result: RunResult, variables: Mapping[str, str] = os.environ) -> None:
    """Append to $GITHUB_OUTPUT and $GITHUB_STEP_SUMMARY where the variables are set."""
    if output := variables.get("GITHUB_OUTPUT"):
        rate = "" if result.pass_rate is None else f"{result.pass_rate:.4f}"
        _append(output, f"pass_rate={rate}\noverall_status={result.overall_status}\n")
    if summary := variables.get("GITHUB_STEP_SUMMARY"):
        _append(summary, step_summary(result))


def _append(path: str, text: str) -> None:
    with Path(path).open("a", encoding="utf-8", errors="replace") as file:
        file.write(text)


def step_summary(result: RunResult) -> str:
    """Return the summary page: the verdict, gates, phases of canaries, what needs attention."""
    lines = [f"## llmdeploy: {result.verdict}", ""]
    if result.gates:
        lines += ["| gate | verdict | reason |", "|---|---|---|"]
        lines += [_row(gate_name(gate), gate["verdict"], gate["reason"]) for gate in result.gates]
        lines.append("")
    lines += _flips(result)
    phases = [phase for event in result.events if (phase := phase_of(event)) is not None]
    if phases:
        lines += ["| canary | verdict | requests | what decided |", "|---|---|---|---|"]
        lines += [
            _row(each.name, each.verdict, requests(each), what_decided(each)) for each in phases
        ]
        lines.append("")
    passed = {gate["gate"] for gate in result.gates if gate["verdict"] == Verdict.PASS}
    bad = [
        event
        for event in result.events
        if event["verdict"] != Verdict.PASS
        and not is_gate(event)
        and not (event["counted"] and event["gate"] in passed)
    ]
    if bad:
        lines += ["| needs attention | verdict | reason |", "|---|---|---|"]
        lines += [
            _row(f"{event['stage']}::{event['name']}", event["verdict"], event["reason"])
            for event in bad[:MOST_SHOWN]
        ]
        if len(bad) > MOST_SHOWN:
            lines.append(f"| … and {len(bad) - MOST_SHOWN} more | | see report.json |")
        lines.append("")
    return "\n".join(lines) + "\n"


def _flips(result: RunResult) -> list[str]:
    """Return the cases that the baseline passed and this run fails, and the other way round."""
    rows = [
        _row(f"{gate_name(gate)}::{entry['case']}", word, entry.get("reason", ""))
        for gate in result.gates
        for word in ("regressed", "fixed")
        for entry in (gate["detail"].get("baseline") or {}).get(word, ())
    ]
    if not rows:
        return []
    more = [f"| … and {len(rows) - MOST_SHOWN} more | | |"] if len(rows) > MOST_SHOWN else []
    head = ["| beside the baseline | | reason |", "|---|---|---|"]
    return [*head, *rows[:MOST_SHOWN], *more, ""]


def _row(*cells: str) -> str:
    return "| " + " | ".join(map(_cell, cells)) + " |"


def _cell(text: str) -> str:
    """Return text that stays inside its table cell and is no markup: answers are untrusted."""
    text = " ".join(text.split())
    if len(text) > LONGEST_CELL:
        text = text[:LONGEST_CELL] + "…"
    return _MARKUP.sub(lambda found: f"&#{ord(found[0])};", text)
