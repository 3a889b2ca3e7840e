"""The end of the terminal output: the verdict first, then only what needs attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from pytest_llmdeploy.config.text import display_path
from pytest_llmdeploy.reports.canary_record import Phase, phase_of
from pytest_llmdeploy.reports.canary_words import requests, what_decided
from pytest_llmdeploy.reports.result import Event, RunResult, counts, deciding, gate_name, is_gate
from pytest_llmdeploy.verdicts import Verdict, worst

MOST_SHOWN = 20
LONGEST_REASON = 160
"""Characters; the whole reason is in the report."""
RELEASE_ENDS = ("zero-loss", "final-state")
"""Steps of a release whose reasons are always shown: what was lost, and what is left."""
_STYLES = {
    Verdict.PASS: "green",
    Verdict.FAIL: "red",
    Verdict.ERROR: "bright_red",
    Verdict.INCONCLUSIVE: "yellow",
}


def write_summary(terminalreporter: Any, result: RunResult, warnings: Sequence[str]) -> None:
    """Write the section; colours only where pytest's own output has them.

    `warnings` tells what went wrong at the end of the run, such as a report that was not written.
    """
    writer = terminalreporter._tw
    console = Console(
        width=writer.fullwidth,
        force_terminal=bool(writer.hasmarkup),
        color_system="standard" if writer.hasmarkup else None,
        no_color=not writer.hasmarkup,
        highlight=False,
        emoji=False,
        markup=False,
    )
    terminalreporter.section(f"llmdeploy: {result.verdict}", **{_colour(result.verdict): True})
    with console.capture() as capture:
        for part in (*_parts(result), *(Text(f"WARNING: {text}") for text in warnings)):
            console.print(part)
    terminalreporter.write(capture.get())


def _colour(verdict: Verdict) -> str:
    return {"bright_red": "red"}.get(_STYLES[verdict], _STYLES[verdict])


def _parts(result: RunResult) -> list[Any]:
    parts: list[Any] = [_about(result)]
    if result.events:
        parts.append(_stages(result))
    attention = [  # gates have their line above
        event
        for event in deciding(result.events)
        if event["verdict"] != Verdict.PASS and not is_gate(event)
    ]
    if attention:
        parts.append(_attention(attention))
    parts.append(Text(f"report: {display_path(result.output / 'report.json')}"))
    return parts


def _about(result: RunResult) -> Text:
    about = {_whom(event) for event in result.events if event["environment"]}
    state = ", INTERRUPTED: what follows is not the whole" if result.interrupted else ""
    if result.not_collected:
        state += ", not everything could be collected: see the errors above"
    return Text(
        f"{'; '.join(sorted(about)) or 'nothing was asked'}, {result.duration:.1f} s{state}"
    )


def _whom(event: Event) -> str:
    version = event["version"] or "(version unknown)"
    scripted = " — SCRIPTED answers, no model was judged" if event["scripted"] else ""
    return f"environment {event['environment']}, {event['service']} {version}{scripted}"


def _stages(result: RunResult) -> Table:
    table = Table.grid(padding=(0, 2))
    for stage, events in result.stages().items():
        gates = [event for event in events if is_gate(event)]
        if gates:
            for gate in gates:
                name = f"gate {gate_name(gate)}"
                findings = _findings(gate)
                reason = "" if findings else _first_line(gate)  # they say it one by one
                table.add_row(Text(name), _verdict(gate), Text(reason))
                for finding in findings:
                    table.add_row(
                        Text(f"  {finding['name']}"),
                        _verdict(finding),
                        Text(_shortened(finding["reason"])),
                    )
        else:
            numbers = ", ".join(f"{count} {verdict}" for verdict, count in counts(events).items())
            verdict = worst(Verdict(event["verdict"]) for event in events)
            table.add_row(Text(stage), _styled(verdict), Text(numbers))
            for event in events:
                if (phase := phase_of(event)) is not None:
                    table.add_row(Text(f"  {phase.name}"), _verdict(event), _phase(phase))
                elif event["name"] in RELEASE_ENDS:
                    table.add_row(Text(""), Text(""), Text(_first_line(event)))
    return table


def _findings(gate: Event) -> list[Event]:
    """Return what else than the whole gate did not hold; a gate of one finding is told already."""
    findings = gate["detail"].get("findings") or ()
    if len(findings) < 2:
        return []
    return [each for each in findings if each["verdict"] != Verdict.PASS][:MOST_SHOWN]


def _phase(phase: Phase) -> Text:
    return Text(_shortened(f"{requests(phase)}: {what_decided(phase)}"))


def _attention(events: Sequence[Event]) -> Group:
    """Return two lines for all events of one verdict and reason: which they are, and why."""
    alike: dict[tuple[str, str], list[Event]] = {}
    for event in events:
        alike.setdefault((event["verdict"], _first_line(event)), []).append(event)
    lines: list[Text] = []
    for (_, reason), group in list(alike.items())[:MOST_SHOWN]:
        first = group[0]
        more = f" and {len(group) - 1} more" if len(group) > 1 else ""
        name = Text(f"{first['stage']}::{first['name']}{more}", style="bold")
        lines += [Text(" ").join([_verdict(first), name]), Text(f"  {reason}")]
    if len(alike) > MOST_SHOWN:
        lines.append(Text(f"… and {len(alike) - MOST_SHOWN} more in the report"))
    return Group(*lines)


def _first_line(event: Event) -> str:
    """Return the reason's first line, shortened."""
    return _shortened(str(event["reason"]).partition("\n")[0])


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST_REASON else text[: LONGEST_REASON - 1] + "…"


def _verdict(event: Event) -> Text:
    return _styled(Verdict(event["verdict"]))


def _styled(verdict: Verdict) -> Text:
    return Text(str(verdict), style=_STYLES[verdict])
