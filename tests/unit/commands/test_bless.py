"""``llmdeploy bless``: what becomes a baseline, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pytest_llmdeploy.commands import main
from pytest_llmdeploy.gates.baseline import read_baseline
from pytest_llmdeploy.verdicts import Verdict


def item(case: str, verdict: str = "PASS", **detail: Any) -> dict[str, Any]:
    return {
        "stage": "gates",
        "name": f"facts::{case}",
        "gate": "llmdeploy.yaml::gates::facts",
        "judges_gate": False,
        "verdict": verdict,
        "detail": {"hash": case, "samples": [{"text": "yes"}], **detail},
    }


def report(folder: Path, *items: dict[str, Any], gates: dict[str, str] | None = None) -> Path:
    verdicts = {"facts": "PASS"} if gates is None else gates
    content = {
        "run": {"id": "r1"},
        "gates": [{"name": name, "verdict": verdict} for name, verdict in verdicts.items()],
        "items": list(items),
    }
    (folder / "report.json").write_text(json.dumps(content))
    return folder


def bless(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    code = main(["bless", *map(str, arguments)])
    told = capsys.readouterr()
    return code, told.out, told.err


def test_a_run_becomes_a_baseline(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = report(tmp_path, item("b", "FAIL"), item("a"))
    to = tmp_path / "kept.json"
    code, out, _ = bless(capsys, folder, "--to", to)
    assert code == 0
    assert out.splitlines() == [
        "gate facts: 1 of 2 cases pass",
        f"written to {to}: commit it, and run with --llmdeploy-baseline {to}",
    ]
    kept = read_baseline(to.read_text(), "kept")
    assert {case: old.verdict for case, old in kept.gates["facts"].items()} == {
        "a": Verdict.PASS,
        "b": Verdict.FAIL,
    }
    assert not list(tmp_path.glob("*.partial"))


def test_a_failing_run_is_blessed_on_demand_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = report(tmp_path, item("a"), gates={"facts": "FAIL"})
    to = tmp_path / "kept.json"
    code, _, err = bless(capsys, folder, "--to", to)
    assert code == 2
    assert err == (
        f"llmdeploy: {folder / 'report.json'}: not every gate passed (facts FAIL): bless a run"
        " that did, or add --whatever-verdict\n"
    )
    assert not to.exists()
    assert bless(capsys, folder, "--to", to, "--whatever-verdict")[0] == 0


@pytest.mark.parametrize(
    ("items", "gates", "message"),
    [
        ([item("a")], {}, "the run decided no gate, so there is nothing to bless"),
        ([item("a", hash=None)], None, "it is of an older version; run the gates again"),
    ],
)
def test_what_cannot_be_blessed(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    items: list[dict[str, Any]],
    gates: dict[str, str] | None,
    message: str,
) -> None:
    code, _, err = bless(capsys, report(tmp_path, *items, gates=gates))
    assert code == 2
    assert err.endswith(f"{message}\n")


def test_what_is_no_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "report.json").write_text("{")
    code, _, err = bless(capsys, tmp_path)
    assert code == 2
    assert err.startswith(f"llmdeploy: {tmp_path / 'report.json'} is no report of a run: Expecting")
