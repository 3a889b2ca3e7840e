"""JavaScript in a row of promptfoo: what it needs, and what is an error, not a fail."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from pytest_llmdeploy.gates.promptfoo import grading
from tests.unit.gates.promptfoo.configs import rows
from tests.unit.gates.promptfoo.test_grading import judged, problem, row

pytest.importorskip("py_mini_racer")

NOT_ALLOWED = "set allow_code: true for the gate to let the config's code run"
NO_EXTRA = (
    "JavaScript needs the package 'py_mini_racer', which is not installed: "
    "pip install 'pytest-llmdeploy[javascript]'"
)


def script(value: str, kind: str = "javascript", **more: Any) -> dict[str, Any]:
    return {"type": kind, "value": value, **more}


def test_assertions_run_where_code_is_allowed() -> None:
    assert judged(row(script("output === 'x'"), allow_code=True), "x") == (True, 1.0)
    assert judged(row(script("output.length / 4"), allow_code=True), "x") == (True, 0.25)
    assert problem(row(script("true")), "x") == f"javascript: {NOT_ALLOWED}"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "process.env.HOME === ''",
            "process is not available to JavaScript here, which has the language only",
        ),
        ("0 / 0", "the code returned NaN, which is no score"),
        ("1 / 0", "the code returned Infinity, which is no score"),
    ],
)
@pytest.mark.parametrize("kind", ["javascript", "not-javascript"])
def test_what_is_no_verdict_is_an_error(kind: str, source: str, message: str) -> None:
    one = row(script(source, kind), allow_code=True)
    assert problem(one, "x").removeprefix("not-") == f"javascript: {message}"


def test_a_transform_is_refused_before_anything_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    written = {"transform": "output.trim()"}
    assert grading.unsupported(row(options=written)) == f"transform: {NOT_ALLOWED}"
    allowed = row(options=written, allow_code=True)
    assert grading.unsupported(allowed) is None
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert grading.unsupported(allowed) == f"transform: {NO_EXTRA}"


def test_a_prompt_function_needs_leave_to_run(tmp_path: Path) -> None:
    text = "providers: [echo]\nprompts: ['file://p.cjs']\ntests: [{vars: {x: 1}}]\n"
    files = {"p.cjs": "module.exports = ({ vars }) => `made ${vars.x}`;"}
    (planned,) = rows(tmp_path, text, files)
    assert planned.problem == (
        "the prompt cannot be filled in: the prompt function p.cjs is code: "
        "set allow_code: true to run it"
    )
