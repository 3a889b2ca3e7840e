"""What a config of a stranger's tries: to pass unseen, to hang the run, or to break it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_llmdeploy.collection.gates import measure_case
from pytest_llmdeploy.errors import ConfigError, NotMeasuredError
from pytest_llmdeploy.gates.baseline import read_baseline
from pytest_llmdeploy.gates.case import Case
from pytest_llmdeploy.gates.openai_evals.graders import read_grader
from pytest_llmdeploy.gates.promptfoo import matrix
from pytest_llmdeploy.gates.promptfoo.grading import unsupported, vacuity
from pytest_llmdeploy.gates.promptfoo.paths import BadPathError, Files
from pytest_llmdeploy.gates.templates import TemplateError, render_text
from pytest_llmdeploy.verdicts import Verdict
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


@pytest.mark.parametrize("answers", ["[null]", "[1]", '"text"', "{}"])
def test_answers_of_a_baseline_are_texts(answers: str) -> None:
    text = '{"run": 1, "gates": {"g": {"a": {"hash": "h", "verdict": "PASS", "answers": %s}}}}'
    with pytest.raises(NotMeasuredError, match="the answers of case 'a' are no list of texts"):
        read_baseline(text % answers, "b.json")


@pytest.mark.parametrize(
    ("operation", "vacuous"),
    [("eq", True), ("like", True), ("ilike", True), ("ne", False)],
)
def test_an_answer_that_is_compared_with_itself_shows_nothing(
    operation: str, vacuous: bool
) -> None:
    text = "{{ sample.output_text }}"
    raw = {
        "type": "string_check",
        "name": "n",
        "input": text,
        "reference": text,
        "operation": operation,
    }
    why = "it compares a text with itself" if vacuous else None
    assert read_grader(raw, 1).passes_anything({}) == why


@pytest.mark.parametrize(
    ("decides", "verdict", "reason"),
    [
        (True, Verdict.PASS, "fine"),
        (
            False,
            Verdict.ERROR,
            "nothing was asserted: the case passes whatever the answer (no assertion)",
        ),
    ],
)
def test_a_case_that_cannot_fail_passes_only_where_its_gate_tells(
    decides: bool, verdict: Verdict, reason: str
) -> None:
    case = Case("a", {}, None, (), (), 1.0, None, 1, "f:1", vacuous="no assertion")
    result = {"verdict": "PASS", "reason": "fine", "messages": [], "samples": []}
    plan: Any = SimpleNamespace(decides=decides, result=lambda _: result)
    measured = measure_case(plan, case)
    assert (measured.verdict, measured.reason) == (verdict, reason)


@pytest.mark.parametrize(
    "expression",
    [
        "'a'|center(1000001)",
        "'a'|indent(width=1000001)",
        "[1]|batch(1000001, 1)|list",
        "[1]|slice(1000001)|list",
        "'%1000001d'|format(1)",
        "'%1000001d' % 1",
        "'{:>1000001}'.format(1)",
        "'{0: >{1}}'.format(1, 1000001)",
        "'%*d' % (1000001, 1)",
        "'a'.ljust(1000001)",
        "'a'.zfill(1000001)",
    ],
)
def test_a_template_of_a_case_makes_no_text_that_fills_the_memory(expression: str) -> None:
    with pytest.raises(TemplateError, match=r"OverflowError: the result of .* is too large$"):
        render_text(f"{{{{ {expression} }}}}", {})


def test_large_numbers_and_texts_are_formatted_as_ever() -> None:
    text = (
        "{{ 'a'|center(3) }}{{ '%2d' % 5000000 }}{{ 'b'.ljust(2) }}{{ '{:,}'.format(5000000) }}"
        "{{ '%d'|format(5000000) }}{{ t.strip() }}{{ t|indent }}{{ '%5.1f%%' % 99.5 }}"
        """{{ '{{"q": {}}} tel:1234567'.format(1) }}"""
    )
    told = "tel:1234567"
    assert render_text(text, {"t": told}) == (
        f" a 5000000b 5,000,0005000000{told}{told} 99.5%" + '{"q": 1} tel:1234567'
    )


def test_a_pattern_follows_no_link_out_of_the_project(tmp_path: Path) -> None:
    inside = tmp_path / "suite"
    (inside / "deep" / "er").mkdir(parents=True)
    for name in ("a.yaml", "deep/b.yaml", "deep/er/c.yaml", "deep/er/d.txt", ".hidden.yaml"):
        (inside / name).write_text("x")
    (inside / "away").symlink_to("/")
    files = Files(inside, inside)

    def matched(pattern: str) -> list[str]:
        return [str(path.relative_to(inside)) for path in files.matches(pattern)]

    assert matched("file://**/*.yaml") == ["a.yaml", "deep/b.yaml", "deep/er/c.yaml"]
    assert matched("*.yaml") == ["a.yaml"]
    assert matched("deep/*.yaml") == ["deep/b.yaml"]
    assert matched("./deep/**/[a-c].yam?") == ["deep/b.yaml", "deep/er/c.yaml"]
    assert matched("deep/**/[!c].*") == ["deep/b.yaml", "deep/er/d.txt"]
    with pytest.raises(BadPathError, match="lies outside the project"):
        files.matches("away/**/x.yaml")


@pytest.mark.parametrize(
    "text",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{{ range(2000000) | length }}",
        "{{ lipsum() }}",
    ],
)
def test_loops_of_a_template_come_to_an_end(text: str) -> None:
    with pytest.raises(TemplateError):
        render_text(text, {})


def test_ranges_of_another_template_do_not_count() -> None:
    for _ in range(3):
        assert render_text("{{ range(900000) | length }}", {}) == "900000"


@pytest.mark.parametrize(
    "assertion",
    [
        "{type: contains-all, value: []}",
        "{type: not-icontains-any, value: []}",
        "{type: rouge-n, value: x, threshold: 0}",
        "{type: levenshtein, value: x, threshold: .inf}",
    ],
)
def test_an_assertion_that_nothing_fails_is_vacuous(tmp_path: Path, assertion: str) -> None:
    def vacuous(assertions: str) -> str | None:
        (planned,) = rows(tmp_path, HEAD + f"tests: [{{vars: {{x: a}}, assert: [{assertions}]}}]\n")
        return vacuity(planned.row)

    assert vacuous(assertion) == "no assertion depends on the answer"
    assert vacuous(assertion + ", {type: equals, value: x}") is None
