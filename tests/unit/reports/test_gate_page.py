"""A gate's section of the page: findings, what changed, what was said, and nothing that acts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pytest_llmdeploy.reports.github import step_summary
from pytest_llmdeploy.reports.html_report import page
from pytest_llmdeploy.verdicts import Verdict
from tests.unit.reports.samples import event, run
from tests.unit.reports.test_html_report import Page

HOSTILE = "</td><script>alert(1)</script><img src=x onerror=alert(1)>"
GATE = "llmdeploy.yaml::gates::capitals"
DETAIL: dict[str, Any] = {
    "pass_rate": 0.95,
    "min_pass_rate": 0.9,
    "passed": 38,
    "failed": 2,
    "errors": 0,
    "total": 40,
    "not_asked": 3,
    "findings": [
        {
            "name": "all cases",
            "verdict": "INCONCLUSIVE",
            "reason": "between 0.84 and 0.99",
            "pass_rate": 0.95,
            "min_pass_rate": 0.9,
            "lower": 0.84,
            "upper": 0.99,
        },
        {"name": "must pass: safety", "verdict": "FAIL", "reason": f"peru: {HOSTILE}"},
    ],
    "baseline": {
        "baseline": "main.json",
        "baseline_run": "r1",
        "regressed": [
            {"case": "peru", "then": ["Lima"], "now": [HOSTILE], "reason": "not Lima"},
            {"case": "chile"},
        ],
        "fixed": [],
        "not_comparable": {"changed": ["japan", HOSTILE]},
    },
    "imported": {
        "format": "promptfoo",
        "unsupported": {"webhook needs a network": 2},
        "vacuous": {"no assertion": 1},
        "warnings": ["the provider's own address"],
    },
    "usage": {"answers": 40, "prompt_tokens": 1234, "completion_tokens": None, "dollars": 0.0125},
    "latency": {"p50": 0.5, "p95": 1.25},
    "metrics": {"tone": {"mean": 0.75, "n": 40}},
    "judges": [{"type": "llm-rubric", "judge": "j", "prompt_sha256": "ab" * 32, "verdicts": 40}],
    "replayed": 40,
}


def seen(tmp_path: Path) -> Page:
    missed = event(
        "gates",
        "capitals::peru",
        Verdict.FAIL,
        "not Lima",
        gate=GATE,
        counted=True,
        detail={
            "messages": [{"role": "user", "content": "Capital of Peru?"}],
            "samples": [{"text": HOSTILE}, {"error": "no answer"}],
        },
    )
    gate = event(
        "gates", "capitals::gate", Verdict.FAIL, "why", gate=GATE, judges_gate=True, detail=DETAIL
    )
    return Page(page(run(tmp_path, [missed, gate])))


def test_what_decided_and_what_changed(tmp_path: Path) -> None:
    found = seen(tmp_path)
    assert [row[:2] + row[3:] for row in found.rows("What decided")] == [
        ["all cases", "? INCONCLUSIVE", "between 0.84 and 0.99"],
        ["must pass: safety", "✗ FAIL", f"peru: {HOSTILE}"],
    ]
    different = next(each for each in found.tables if each[0][:2] == ["Case", "Then"])
    assert different[1:] == [
        ["peru", "Lima", HOSTILE, "not Lima"],
        ["chile", "\u2013", "\u2013", "the answers are in report.json"],
    ]
    assert found.rows("Not comparable") == [["changed", "2", f"japan, {HOSTILE}"]]
    assert found.rows("Rows that") == [
        ["! ERROR", "webhook needs a network", "2"],
        ["passes whatever the answer", "no assertion", "1"],
        ["has no effect here", "the provider's own address", "\u2013"],
    ]
    assert found.rows("Metric") == [["tone", "0.75", "40"]]
    assert found.rows("Assertion") == [["llm-rubric", "j", "ab" * 8, "40"]]
    missed = next(each for each in found.tables if each[0] == list(MISSED))
    assert missed[1:] == [["peru", "✗ FAIL", "Capital of Peru?", HOSTILE, "not Lima"]]


MISSED = ("Case", "Verdict", "Asked", "Answered", "Reason")


def test_its_facts(tmp_path: Path) -> None:
    found = seen(tmp_path)
    facts = dict(zip(found.texts["dt"], found.texts["dd"], strict=True))
    wanted = {
        "Pass rate": "95 %",
        "At least": "90 %",
        "Answers": "40",
        "Prompt tokens": "1\u202f234",
        "Replayed answers": "40",
        "Not asked": "3",
        "Dollars": "0.0125",
        "Latency p50": "500 ms",
        "Latency p95": "1.25 s",
    }
    assert {name: facts[name] for name in wanted} == wanted
    assert "Answer tokens" not in facts


def test_answers_do_nothing(tmp_path: Path) -> None:
    found = seen(tmp_path)
    assert not {"script", "img"} & set(found.tags)
    assert not [each for each in found.attributes if each[1].startswith("on")]


def test_github_tells_what_changed(tmp_path: Path) -> None:
    gate = event("gates", "capitals::gate", gate=GATE, judges_gate=True, detail=DETAIL)
    lines = step_summary(run(tmp_path, [gate])).splitlines()
    assert "| capitals::peru | regressed | not Lima |" in lines
    assert "| capitals::chile | regressed |  |" in lines
