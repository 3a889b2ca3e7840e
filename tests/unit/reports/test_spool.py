"""Details of cases that wait on the disk for the reports."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_llmdeploy.reports.json_report import report, write_report
from pytest_llmdeploy.reports.result import RunResult
from pytest_llmdeploy.reports.spool import Kept, Spool


@pytest.fixture
def spool() -> Iterator[Spool]:
    made = Spool()
    yield made
    made.close()


def _event(
    name: str,
    detail: dict[str, Any],
    *,
    gate: str | None = "llmdeploy.yaml::gates::g",
    judges: bool = False,
) -> dict[str, Any]:
    return {
        "nodeid": f"llmdeploy.yaml::gates::g::{name}",
        "stage": "gates",
        "name": f"g::{name}",
        "verdict": "PASS",
        "reason": "as expected",
        "duration": 0.1,
        "environment": "local",
        "service": "s",
        "version": None,
        "gate": gate,
        "judges_gate": judges,
        "counted": False,
        "scripted": False,
        "detail": detail,
    }


def _result(folder: Path, events: list[dict[str, Any]]) -> RunResult:
    return RunResult("r", folder, 0.0, 1.0, events, 0, False, False, False)


def test_a_kept_detail_reads_as_the_detail(spool: Spool) -> None:
    details = [{"samples": [{"text": f"Grüße {n}"}], "hash": str(n)} for n in range(3)]
    kept = [spool.slim(_event(str(n), detail))["detail"] for n, detail in enumerate(details)]
    assert all(isinstance(each, Kept) for each in kept)
    assert [dict(each) for each in reversed(kept)] == details[::-1]
    assert [kept[1]["hash"], kept[1].get("nothing"), len(kept[1])] == ["1", None, 2]


def test_only_cases_of_gates_are_kept_on_the_disk(spool: Spool) -> None:
    for event in (
        _event("gate", {"total": 1}, judges=True),
        _event("c", {"body": "x"}, gate=None),
        _event("c", {}),
    ):
        assert spool.slim(event) is event


def test_without_room_on_the_disk_a_detail_stays_in_memory(
    monkeypatch: pytest.MonkeyPatch, spool: Spool
) -> None:
    def full() -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    event = _event("c", {"hash": "1"})
    assert spool.slim(event) is event


def test_the_report_is_the_same_with_details_in_memory_and_on_the_disk(
    tmp_path: Path, spool: Spool
) -> None:
    events = [
        _event("a", {"samples": [{"text": 'say "hi"\n{}'}]}),
        _event("b", {"samples": [{"text": "half a pair: \ud83d"}]}),
        _event("gate", {"total": 2, "passed": 2, "failed": 0}, judges=True),
    ]
    written = []
    for folder, told in (("memory", events), ("disk", [spool.slim(event) for event in events])):
        (tmp_path / folder).mkdir()
        write_report(_result(tmp_path / folder, told))
        written.append((tmp_path / folder / "report.json").read_text(encoding="utf-8"))
    assert written[0] == written[1]
    whole = json.loads(written[1])
    assert [item["detail"] for item in whole["items"]][::2] == [
        events[0]["detail"],
        events[2]["detail"],
    ]
    assert whole["items"][1]["detail"]["samples"][0]["text"] == "half a pair: ?"
    in_memory = report(_result(tmp_path, [spool.slim(events[0]), events[2]]))
    assert [item["detail"] for item in in_memory["items"]] == [
        events[0]["detail"],
        events[2]["detail"],
    ]


def test_a_report_without_items_is_whole_too(tmp_path: Path) -> None:
    write_report(_result(tmp_path, []))
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["items"] == []
