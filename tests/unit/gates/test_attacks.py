"""What a config of a stranger's tries: to pass unseen, to hang the run, or to break it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_llmdeploy.errors import ConfigError, NotMeasuredError
from pytest_llmdeploy.gates.baseline import read_baseline
from pytest_llmdeploy.gates.promptfoo import matrix
from pytest_llmdeploy.gates.promptfoo.grading import unsupported
from tests.unit.gates.promptfoo.configs import HEAD, rows

FINE = "{type: contains, value: a}"


@pytest.mark.parametrize(
    ("test", "problem"),
    [
        (
            f"assert: ['equals: zzz', {FINE}]",
            "assert: expected a mapping with a type, got 'equals: zzz'",
        ),
        (f"assert: [null, {FINE}]", "assert: expected a mapping with a type, got nothing"),
        (
            f"assert: [{{type: assert-set, assert: ['equals: b', {FINE}]}}]",
            "assert: expected a mapping with a type, got 'equals: b'",
        ),
        (f"threshold: '0', assert: [{FINE}]", "threshold: expected a number, got '0'"),
        (f"threshold: true, assert: [{FINE}]", "threshold: expected a number, got true"),
        (
            "assert: [{type: contains, value: a, weight: '0'}]",
            "contains: the weight must be a number",
        ),
    ],
)
def test_a_row_is_not_judged_without_what_cannot_be_read(
    tmp_path: Path, test: str, problem: str
) -> None:
    (planned,) = rows(tmp_path, HEAD + f"tests: [{{vars: {{x: a}}, {test}}}]\n")
    assert unsupported(planned.row) == problem


@pytest.mark.parametrize("kind", ["batch", "slice"])
def test_a_filter_makes_no_more_items_than_a_list_may_have(tmp_path: Path, kind: str) -> None:
    prompt = f"prompts: ['{{{{ [1] | {kind}(100001, 1) | length }}}}']\n"
    (planned,) = rows(tmp_path, f"providers: [echo]\n{prompt}tests: [{{vars: {{x: a}}}}]\n")
    assert planned.problem == ("the prompt cannot be filled in: a list has more than 100000 items")


def test_a_pattern_does_not_walk_the_disk(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    text = HEAD + "tests: ['file://*/../../**/none.yaml']\n"
    with pytest.raises(ConfigError) as raised:
        rows(tmp_path, text)
    assert [problem.message for problem in raised.value.problems] == [
        "the pattern */../../**/none.yaml has '..' after its first '*', '?' or '['"
    ]


def test_rows_that_no_prompt_is_for_are_counted_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matrix, "MOST_ROWS", 5)
    text = (
        "providers: [{id: echo, prompts: []}]\n"
        "prompts: [a]\n"
        "tests: [{vars: {x: [a, b, c, d, e, f, g, h, i, j, k]}, options: {repeat: 5}}]\n"
    )
    with pytest.raises(ConfigError) as raised:
        rows(tmp_path, text)
    assert [problem.message for problem in raised.value.problems] == [
        "the config combines more than 50 things"
    ]


def test_a_baseline_that_is_nested_without_end_is_none() -> None:
    with pytest.raises(NotMeasuredError, match=r"^b\.json is no baseline: .*RecursionError"):
        read_baseline("[" * 200_000, "b.json")
