"""What decides a gate, as a user meets it: rules, tags, warnings before anything is asked."""

from __future__ import annotations

import json
from typing import Any

from tests.plugin.conftest import Outcome, Project
from tests.plugin.test_verdicts_and_exit_codes import ECHO


def cases(project: Project, right: int, wrong: int, **fields: Any) -> None:
    """Write cases that the echoing service answers as wanted, then some that it does not."""
    rows = [
        {
            "id": f"c{number}",
            "vars": {"word": f"w{number}", "document": f"d{number % 3}"},
            "assert": [f"equals: {f'w{number}' if number < right else 'other'}"],
            **(fields if number == 0 else {}),
        }
        for number in range(right + wrong)
    ]
    project.write("cases.jsonl", "\n".join(json.dumps(row) for row in rows))


def gate(done: Outcome) -> dict[str, Any]:
    """Return the report's item of the gate."""
    (item,) = [item for item in done.report["items"] if item["judges_gate"]]
    found: dict[str, Any] = item
    return found


def test_so_few_cases_are_warned_of_and_show_nothing(project: Project) -> None:
    project.config(ECHO + "    cases: cases.jsonl\n    min_pass_rate: 0.9\n")
    cases(project, 20, 0)
    done = project.run("-n", "2")
    warning = (
        "GateWarning: gate echo: 20 cases can never show min_pass_rate 0.9 at 95 % confidence"
        " (wilson): at least 25 are needed, all passing"
    )
    assert done.out.count(warning) == 1, done.out  # not once a worker
    assert "llmdeploy.yaml:8: GateWarning" in done.out, done.out
    assert done.code == 11
    item = gate(done)
    assert item["verdict"] == "INCONCLUSIVE"
    assert item["reason"] == (
        "pass rate 1.00 (20 of 20), between 0.88 and 1.00 with 95 % confidence (wilson), around"
        " min_pass_rate 0.90; 20 cases can never show it: at least 25 are needed, all passing"
    )
    assert item["detail"]["warnings"] == [warning.removeprefix("GateWarning: gate echo: ")]
    (finding,) = item["detail"]["findings"]
    assert (finding["name"], finding["rule"], finding["smallest_n"]) == ("pass rate", "wilson", 25)


def test_one_case_that_must_pass_fails_a_gate_that_allows_misses(project: Project) -> None:
    project.config(
        ECHO
        + "    cases: cases.jsonl\n    min_pass_rate: 0.5\n    must_pass: [safety]\n"
        + "    tags: {safety: {min_pass_rate: 0.1}}\n    repeats: 3\n    k_of_n: 2\n"
    )
    cases(project, 0, 1, tags=["safety"])
    project.write(
        "cases.jsonl",
        (project.path / "cases.jsonl").read_text(encoding="utf-8")
        + '\n{"id": "x", "vars": {"word": "y"}, "assert": ["equals: y"]}',
    )
    done = project.run("-W", "error")
    item = gate(done)
    assert (done.code, item["verdict"]) == (1, "FAIL"), done.out
    assert item["reason"] == (
        "tag safety: pass rate 0.00 (0 of 1) < min_pass_rate 0.10;"
        " must_pass safety: 1 of 1 cases failed: c0"
    )
    assert [(each["name"], each["verdict"]) for each in item["detail"]["findings"]] == [
        ("pass rate", "PASS"),
        ("tag safety", "FAIL"),
        ("must_pass safety", "FAIL"),
    ]


def test_a_policy_that_the_cases_do_not_fit_is_an_error_before_anything_is_asked(
    project: Project,
) -> None:
    project.config(
        ECHO
        + "    cases: cases.jsonl\n    must_pass: [saftey]\n    decision: {cluster_by: documents}\n"
    )
    cases(project, 2, 0, tags=["safety"])
    done = project.run()
    assert done.code == 2
    assert (
        "llmdeploy.yaml:12: gates.echo.must_pass[0]: no case of the gate has the tag 'saftey',"
        " did you mean 'safety'?; its tags: safety"
    ) in done.out
    assert (
        "llmdeploy.yaml:13: gates.echo.decision.cluster_by: case 'c0' (cases.jsonl:1) and 1 more"
        " have no variable 'documents', did you mean 'document'?"
    ) in done.out
