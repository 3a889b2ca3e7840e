"""Held against an earlier run: what a user blesses, changes, and is told."""

from __future__ import annotations

import json

import pytest

from pytest_llmdeploy.commands import main
from tests.plugin.conftest import Project
from tests.plugin.test_verdicts_and_exit_codes import ECHO

CHECKS = """
from pathlib import Path

def right(output, context):
    return output not in Path(__file__).with_name("wrong.txt").read_text().split()
"""


def write(project: Project, words: list[str], wrong: str, decision: str = "rule: point") -> None:
    project.config(
        ECHO + "    cases: cases.jsonl\n    assert: ['python: checks:right']\n"
        "    min_pass_rate: 0.5\n    decision: {"
        + decision
        + "}\n    baseline: {max_regression: 0.1}\n"
    )
    rows = [json.dumps({"id": word, "vars": {"word": word}}) for word in words]
    project.write("cases.jsonl", "\n".join(rows))
    project.write("checks.py", CHECKS)
    project.write("wrong.txt", wrong)


def test_a_change_beside_what_was_blessed(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"w{n}" for n in range(60)]
    write(project, words, "w3")
    first = project.run("-n", "2")
    assert first.code == 0, first.out
    kept = project.path / "llmdeploy-baseline.json"
    assert main(["bless", str(first.reports[0].parent), "--to", str(kept)]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "gate echo: 59 of 60 cases pass"

    # Stopping early would leave cases out of the comparison, so that it does not apply.
    write(project, [*words[:-1], "new"], "w4", "rule: point, stop_early: true")
    same = project.run("--llmdeploy-baseline", "llmdeploy-baseline.json")
    (gate,) = same.report["gates"]
    assert gate["verdict"] == "PASS", same.out
    told = gate["baseline"]
    assert [entry["case"] for entry in told["regressed"]] == ["w4"]
    assert told["regressed"][0]["then"] == told["regressed"][0]["now"] == ["w4"]
    assert [entry["case"] for entry in told["fixed"]] == ["w3"]
    assert told["not_comparable"] == {"not in the baseline": ["new"], "no longer there": ["w59"]}
    assert [finding["name"] for finding in gate["findings"]] == ["pass rate", "baseline"]

    write(project, words, " ".join(words[:20]))
    worse = project.run("--llmdeploy-baseline", str(first.reports[0]))
    (gate,) = worse.report["gates"]
    assert (worse.code, gate["verdict"]) == (1, "FAIL")
    assert gate["reason"].startswith(
        "baseline: of 60 cases 19 passed with the baseline only and 0 with this run only:"
    )
    assert "  regressed w0: python: expected the answer to satisfy checks:right" in worse.out


def test_a_baseline_that_cannot_be_read_is_no_verdict(project: Project) -> None:
    write(project, ["a"], "")
    project.write("b.json", "{}")
    done = project.run("--llmdeploy-baseline", "b.json")
    assert done.code == 10
    assert "b.json is no baseline: expected a run's report.json" in done.out
    missing = project.run("--llmdeploy-baseline", "none.json")
    assert missing.code == 4
    assert (
        "--llmdeploy-baseline: there is no 'none.json': give a run's report.json, what"
        " `llmdeploy bless` wrote, or git:REF"
    ) in missing.out
