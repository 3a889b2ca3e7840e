"""What a calibration found, for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

_STYLES = {"caught": "green", "inconclusive": "yellow", "error": "yellow", "promoted": "red"}
NONE = "\u2013"


def print_table(console: Console, data: Mapping[str, Any]) -> None:
    """Print cases, advice and notes of `calibration.json`."""
    speed, figures = data["speed"], data["figures"]
    title = f"{data['service']} in {data['environment']}: what this policy would catch"
    table = Table(title=title, title_justify="left", pad_edge=False, show_lines=False)
    measured = "measured" if speed == 1 else f"measured, times / {speed:g}"
    for name in ("case", "policy says"):
        table.add_column(name)
    table.add_column(measured)
    for name in ("after", "exposed"):
        table.add_column(name, justify="right")
    for name in ("simulated: caught", "inconclusive", "promoted", "median", "exposed"):
        table.add_column(name, justify="right")
    for case in data["cases"]:
        held = "" if case["held"] else " [bold red]✗[/]"
        table.add_row(
            escape(case["name"]) + held,
            _says(case["says"]),
            *_measured(case["measured"], case["says"]),
            *_simulated(case["simulated"], case["says"]),
        )
    console.print(table)
    if figures is not None:
        behind = f"from {figures['requests']} requests of a-a" if figures["requests"] else "given"
        console.print(
            f"measured: real canaries; simulated: the same judge, drawn looks, with figures "
            f"{behind}: {figures['rate']:.3g} requests/s, {100 * figures['error_rate']:.3g} % "
            "fail. [ ]: 95 % intervals.",
            markup=False,
            highlight=False,
        )
    if data["left_out"]:
        told = ", ".join(data["left_out"])
        console.print(f"not simulated, for nothing tells it: {told}", markup=False)
    for text in data["advice"]:
        console.print(f"• {text}", markup=False, highlight=False)
    for text in data["notes"]:
        console.print(text, markup=False, highlight=False)
    if data["interrupted"]:
        console.print("interrupted: what was under way has been taken back", markup=False)


def _says(says: str) -> str:
    return {"catch": "must be caught", "tolerate": "tolerates", "promote": "must pass"}.get(
        says, says
    )


def _measured(runs: list[Mapping[str, Any]], says: str) -> tuple[str, str, str]:
    if not runs:
        return NONE, NONE, NONE
    lines = []
    for each in runs:
        good = each["outcome"] == "promoted" and says == "promote"
        style = "green" if good else _STYLES[each["outcome"]]
        if says in ("tolerate", "not judged") and each["outcome"] == "promoted":
            style = "yellow"
        word = each["outcome"].upper() if each["outcome"] == "promoted" else each["outcome"]
        where = (
            f" at {each['weight']} %" if each["weight"] and each["outcome"] != "promoted" else ""
        )
        by = f" by {escape(each['by'])}" if each["by"] else ""
        lines.append(f"[{style}]{word}[/]{by}{where}")
    after = [NONE if r["seconds"] is None else f"{r['seconds']:.1f} s" for r in runs]
    exposed = [NONE if r["exposed"] is None else str(r["exposed"]) for r in runs]
    return "\n".join(lines), "\n".join(after), "\n".join(exposed)


def _simulated(found: Mapping[str, Any] | None, says: str) -> tuple[str, str, str, str, str]:
    if found is None:
        return (NONE,) * 5
    caught, seconds, exposed = found["caught"], found["seconds"], found["exposed"]
    rate = f"{_percent(caught['share'])} [{100 * caught['low']:.1f} {100 * caught['high']:.1f}]"
    style = "red" if says == "promote" and caught["low"] > 0.05 else ""
    held = _percent(found["inconclusive"]["share"] + found["error"]["share"])
    return (
        f"[{style}]{escape(rate)}[/]" if style else escape(rate),
        held,
        _percent(found["promoted"]["share"]),
        NONE if seconds is None else f"{seconds['median']:.3g} s",
        NONE if exposed is None else f"{exposed['median']:.0f}",
    )


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %" if share == 1 or share < 0.995 else "> 99 %"
