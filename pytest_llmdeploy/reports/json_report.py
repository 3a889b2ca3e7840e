"""``report.json``: the run for machines. Its shape is in report.schema.json beside this module."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pytest_llmdeploy.reports.result import Event, RunResult, counts, gate_name
from pytest_llmdeploy.reports.spool import Kept
from pytest_llmdeploy.verdicts import Verdict, worst

SCHEMA_VERSION = "1.1"
_GATE_KEYS = (
    *("pass_rate", "min_pass_rate", "passed", "failed", "errors", "total", "not_asked"),
    *("findings", "baseline", "imported", "usage", "latency", "metrics", "judges", "replayed"),
)
SCHEMA_PATH = Path(__file__).with_name("report.schema.json")


def report(result: RunResult) -> dict[str, Any]:
    """Return the report as builtins."""
    items = [{**event, "detail": dict(event["detail"])} for event in result.events]
    return {**_head(result), "items": items}


def _head(result: RunResult) -> dict[str, Any]:
    """Return all but the items."""
    return {
        "schema_version": SCHEMA_VERSION,
        "run": {
            "id": result.run_id,
            "started": datetime.fromtimestamp(result.started, UTC).isoformat(),
            "duration_seconds": result.duration,
            "exit_code": result.exit_code,
            "interrupted": result.interrupted,
            "plugin_version": version("pytest-llmdeploy"),
            "python_version": sys.version.split()[0],
        },
        "verdict": str(result.verdict),
        "overall_status": result.overall_status,
        "pass_rate": result.pass_rate,
        "others_failed": result.others_failed,
        "not_collected": result.not_collected,
        "services": _services(result),
        "stages": {
            stage: {"verdict": str(worst(_verdicts(events))), "counts": counts(events)}
            for stage, events in result.stages().items()
        },
        "gates": [
            {
                "name": gate_name(gate),
                "verdict": gate["verdict"],
                "reason": gate["reason"],
                **{key: gate["detail"].get(key) for key in _GATE_KEYS},
            }
            for gate in result.gates
        ],
    }


def _verdicts(events: Any) -> list[Verdict]:
    return [Verdict(event["verdict"]) for event in events if not event["counted"]]


def _services(result: RunResult) -> list[dict[str, Any]]:
    """Return each service that was judged, once."""
    keys = ("environment", "service", "version", "scripted")
    unique = {tuple(event[key] for key in keys): None for event in result.events}
    return [dict(zip(keys, values, strict=True)) for values in unique]


def write_report(result: RunResult) -> None:
    """Write report.json into the output folder, whole or not at all.

    An item is a line, written by itself: the items of a large gate are more than memory should
    hold once again.
    """
    path = result.output / "report.json"
    partial = path.with_suffix(".partial")
    head = json.dumps(_head(result), ensure_ascii=False, indent=1, allow_nan=False)
    # A test's message can hold half a surrogate pair, which no file can.
    with partial.open("w", encoding="utf-8", errors="replace") as file:
        file.write(head.removesuffix("\n}") + ',\n "items": [')
        for number, event in enumerate(result.events):
            file.write((",\n  " if number else "\n  ") + _item(event))
        file.write("\n ]\n}\n")
    partial.replace(path)


def _item(event: Event) -> str:
    detail = event["detail"]
    if not isinstance(detail, Kept):
        return json.dumps(dict(event), ensure_ascii=False, allow_nan=False)
    others = {key: value for key, value in event.items() if key != "detail"}
    text = json.dumps(others, ensure_ascii=False, allow_nan=False)
    return f'{text[:-1]}, "detail": {detail.text}}}'
