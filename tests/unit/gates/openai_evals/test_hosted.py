"""Exports of the hosted service, from the file to the verdict of a row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pytest_llmdeploy.errors import ConfigError
from pytest_llmdeploy.gates.assertions import NotEvaluable
from tests.unit.gates.openai_evals.fakes import Judge, export, judged, lines, read

PARIS = {"question": "Capital of France?", "answer": "Paris"}


def check(operation: str, **fields: str) -> dict[str, str]:
    return {
        "type": "string_check",
        "name": "city",
        "operation": operation,
        "input": "{{ sample.output_text }}",
        "reference": "{{item.answer}}",
        **fields,
    }


def similarity(metric: str, **fields: Any) -> dict[str, Any]:
    return {
        "type": "text_similarity",
        "name": "close",
        "evaluation_metric": metric,
        "input": "{{ sample.output_text }}",
        "reference": "{{item.answer}}",
        **fields,
    }


def graded(kind: str, **fields: Any) -> dict[str, Any]:
    messages = [{"role": "developer", "content": "Judge {{sample.output_text}} by {{item.answer}}"}]
    return {"type": kind, "name": "graded", "model": "gpt-4o", "input": messages, **fields}


def test_a_row_is_asked_as_the_run_says(tmp_path: Path) -> None:
    sampling = {"temperature": 0.5, "max_completion_tokens": 9, "top_p": 1, "unknown": 1}
    path = export(tmp_path, [check("eq")], PARIS, sampling_params=sampling)
    parts = read(tmp_path, path, gate={"parameters": {"temperature": 0}})
    (case,) = parts.cases
    assert parts.messages(case) == [{"role": "user", "content": "Capital of France?"}]
    assert (case.id, case.vars, case.source) == ("row-1", PARIS, f"{tmp_path}/export.json:1")
    assert case.parameters == {"max_completion_tokens": 9, "top_p": 1}
    assert parts.imported is not None
    assert parts.imported.format == "OpenAI Evals (hosted export)"
    assert parts.imported.warnings == ("the gate's endpoint is asked, not gpt-4o",)


@pytest.mark.parametrize(
    ("operation", "said", "passed"),
    [
        ("eq", "Paris", True),
        ("eq", "paris", False),
        ("eq", "Paris ", False),
        ("ne", "Paris", False),
        ("ne", "paris", True),
        ("like", "It is Paris.", True),
        ("like", "It is paris.", False),
        ("like", "Pari", False),
        ("ilike", "It is PARIS.", True),
        ("ilike", "Rome", False),
    ],
)
def test_string_check(tmp_path: Path, operation: str, said: str, passed: bool) -> None:
    parts = read(tmp_path, export(tmp_path, [check(operation)], PARIS))
    assert judged(parts, said).passed is passed


def test_a_string_check_says_what_it_expected(tmp_path: Path) -> None:
    parts = read(tmp_path, export(tmp_path, [check("eq")], PARIS))
    score = judged(parts, "Rome")
    assert score.reason == 'string_check: expected the text to equal "Paris", got "Rome"'


@pytest.mark.parametrize(
    ("metric", "reference", "said", "score"),
    [
        # Longest common subsequence of kitten and sitting is ittn: 2 * 4 / 13.
        ("fuzzy_match", "sitting", "kitten", 8 / 13),
        ("fuzzy_match", "", "", 1.0),
        ("fuzzy_match", "abc", "xyz", 0.0),
        # 3 of 4 words are shared with 3 words: 2 * 3 / 7.
        ("rouge_1", "the cat sat", "the big cat sat", 6 / 7),
        # the-cat, cat-sat against the-big, big-cat, cat-sat: one shared, 2 * 1 / 5.
        ("rouge_2", "the cat sat", "the big cat sat", 2 / 5),
        ("rouge_3", "the cat sat", "the big cat sat", 0.0),
        # Longest common subsequence of sat-cat-the and the-cat-sat is one word: 2 * 1 / 6.
        ("rouge_l", "the cat sat", "sat cat the", 1 / 3),
        ("rouge_5", "a b c d e", "A b, c d e!", 1.0),
    ],
)
def test_text_similarity(
    tmp_path: Path, metric: str, reference: str, said: str, score: float
) -> None:
    criteria = [similarity(metric, pass_threshold=0.6)]
    parts = read(tmp_path, export(tmp_path, criteria, {**PARIS, "answer": reference}))
    assert judged(parts, said).score == pytest.approx(score)
    assert judged(parts, said).passed is (score >= 0.6)


def test_cosine_asks_for_vectors(tmp_path: Path) -> None:
    path = export(tmp_path, [similarity("cosine", pass_threshold=0.7)], PARIS)
    parts = read(tmp_path, path)
    # (1, 1) against (1, 0): the cosine of 45 degrees.
    close = judged(parts, "x", Judge(vectors=[(1, 1), (1, 0)]))
    assert close.passed
    assert close.score == pytest.approx(0.5**0.5)
    assert not judged(parts, "x", Judge(vectors=[(-1, 0), (1, 0)])).passed
    with pytest.raises(NotEvaluable) as error:
        judged(parts, "x", Judge(vectors=[(0, 0), (1, 0)]))
    assert str(error.value) == (
        "text_similarity close: the embeddings have no direction: all 0, or no numbers"
    )


LABELS = {"labels": ["right", "so so", "wrong"], "passing_labels": ["right"]}


@pytest.mark.parametrize(
    ("votes", "passed"),
    [
        (['{"label": "right"}'], True),
        (["Right."], True),
        (['```json\n{"label": "wrong"}\n```'], False),
        (["right", "wrong", "right"], True),
        (["right", "wrong", "so so"], False),
    ],
)
def test_label_model(tmp_path: Path, votes: list[str], passed: bool) -> None:
    parts = read(tmp_path, export(tmp_path, [graded("label_model", **LABELS)], PARIS))
    judge = Judge(*votes)
    assert judged(parts, "Paris", judge).passed is passed
    assert len(judge.asked) == len(votes)
    closing = (
        "Answer with one JSON object and nothing else: "
        '{"label": …}, where the label is one of "right", "so so", "wrong".'
    )
    content = f"Judge Paris by Paris\n\n{closing}"
    assert judge.asked[0] == ([{"role": "system", "content": content}], {})


@pytest.mark.parametrize(
    ("votes", "score", "passed"),
    [
        (['{"steps": [], "result": 4}'], 0.75, True),
        (["2"], 0.25, False),
        (["5", "3", "1"], 0.5, True),
    ],
)
def test_score_model(tmp_path: Path, votes: list[str], score: float, passed: bool) -> None:
    fields = {"range": [1, 5], "pass_threshold": 3, "sampling_params": {"seed": 3}}
    parts = read(tmp_path, export(tmp_path, [graded("score_model", **fields)], PARIS))
    judge = Judge(*votes)
    found = judged(parts, "Paris", judge)
    assert found.passed is passed
    assert found.score == pytest.approx(score)
    assert judge.asked[0][1] == {"seed": 3}


@pytest.mark.parametrize(
    ("grader", "said", "reason"),
    [
        (
            graded("label_model", **LABELS),
            "perhaps",
            "label_model graded: the judge judge-model cannot be understood: none of the labels "
            "right, so so, wrong; it said: perhaps",
        ),
        (
            graded("score_model", pass_threshold=0.5),
            "7",
            "score_model graded: the judge judge-model cannot be understood: 7 is not between "
            "0 and 1; it said: 7",
        ),
        (
            graded("score_model", pass_threshold=0.5),
            "NaN",
            "score_model graded: the judge judge-model cannot be understood: no number; "
            "it said: NaN",
        ),
        (
            graded("score_model", pass_threshold=0.5),
            "(broken)",
            "score_model graded: the judge judge-model did not answer: HTTP 500",
        ),
    ],
)
def test_a_judge_that_cannot_be_understood_is_no_verdict(
    tmp_path: Path, grader: dict[str, Any], said: str, reason: str
) -> None:
    parts = read(tmp_path, export(tmp_path, [grader], PARIS))
    with pytest.raises(NotEvaluable) as error:
        judged(parts, "Paris", Judge(said))
    assert str(error.value) == reason


def test_multi_computes_its_formula(tmp_path: Path) -> None:
    multi = {
        "type": "multi",
        "name": "both",
        "graders": {"city": check("like"), "close": similarity("fuzzy_match")},
        "calculate_output": "min(city, 1) * 0.5 + close ^ 2 / 2",
        "pass_threshold": 0.9,
    }
    parts = read(tmp_path, export(tmp_path, [multi], PARIS))
    assert judged(parts, "Paris").score == 1.0
    # fuzzy_match of "Paris!!!!!" is 10 / 15, so that 0.5 + (2 / 3)² / 2 is too little.
    found = judged(parts, "Paris!!!!!")
    assert not found.passed
    assert found.score == pytest.approx(0.5 + 2 / 9)


def test_an_answer_without_json_fails_where_json_is_looked_at(tmp_path: Path) -> None:
    criteria = [check("eq", input="{{sample.output_json.city[0].name}}")]
    parts = read(tmp_path, export(tmp_path, criteria, PARIS))
    assert judged(parts, '{"city": [{"name": "Paris"}]}').passed
    found = judged(parts, "Paris")
    assert (found.passed, found.reason) == (
        False,
        "string_check: the answer has no sample.output_json",
    )


@pytest.mark.parametrize(
    ("criteria", "item", "reason"),
    [
        ([], {}, "the eval has no testing criteria"),
        ([check("like")], {"answer": ""}, "string_check: an empty reference is part of every text"),
        (
            [similarity("fuzzy_match", pass_threshold=0)],
            {},
            "text_similarity: its pass_threshold is 0",
        ),
        ([similarity("rouge_1")], {}, "text_similarity: it has no pass_threshold"),
        ([graded("score_model")], {}, "score_model: it has no pass_threshold"),
        (
            [check("eq", input="{{item.answer}}")],
            {},
            "string_check: it looks at the item alone",
        ),
        (
            [graded("label_model", labels=["a"], passing_labels=["a"])],
            {},
            "label_model: every label passes",
        ),
    ],
)
def test_rows_that_pass_whatever_the_answer_are_told(
    tmp_path: Path, criteria: list[Any], item: dict[str, str], reason: str
) -> None:
    parts = read(tmp_path, export(tmp_path, criteria, {**PARIS, **item}))
    assert parts.imported is not None
    assert parts.imported.vacuous == {reason: 1}
    judge = Judge("1") if criteria and criteria[0]["type"] == "score_model" else Judge("a")
    assert judged(parts, "anything", judge).passed


def test_a_row_that_one_grader_can_fail_is_not_vacuous(tmp_path: Path) -> None:
    criteria = [check("eq"), similarity("fuzzy_match", pass_threshold=0)]
    parts = read(tmp_path, export(tmp_path, criteria, PARIS))
    assert parts.cases[0].vacuous is None


@pytest.mark.parametrize(
    ("criteria", "item", "problem"),
    [
        (
            [{"type": "python", "name": "code", "source": "def grade(): return 1"}],
            PARIS,
            "a python grader is code of the export: it is never run",
        ),
        (
            [similarity("meteor", pass_threshold=0.5)],
            PARIS,
            "text_similarity: meteor is not measured here",
        ),
        (
            [check("eq")],
            {"question": "?"},
            "string_check city: there is no item.answer",
        ),
        ([check("eq")], {"answer": "x"}, "the run's input_messages: there is no item.question"),
    ],
)
def test_rows_that_cannot_be_judged_are_told(
    tmp_path: Path, criteria: list[Any], item: dict[str, str], problem: str
) -> None:
    parts = read(tmp_path, export(tmp_path, criteria, item))
    assert parts.cases[0].problem == problem
    assert parts.imported is not None
    assert parts.imported.unsupported == {problem: 1}


@pytest.mark.parametrize(
    ("criterion", "message"),
    [
        (
            check("equals"),
            "string_check: operation must be one of eq, ne, like, ilike, got 'equals'",
        ),
        ({"type": "string_chek"}, "there is no grader type 'string_chek', did you mean"),
        (similarity("rouge"), "text_similarity: there is no metric 'rouge'"),
        (check("eq", reference=3), "string_check: reference must be a text, got 3"),  # type: ignore[arg-type]
        (
            graded("score_model", range=[1, 0]),
            "score_model: range must be two numbers, the lower one first",
        ),
    ],
)
def test_broken_graders_are_refused(tmp_path: Path, criterion: Any, message: str) -> None:
    path = export(tmp_path, [check("eq"), criterion], PARIS)
    with pytest.raises(ConfigError) as error:
        read(tmp_path, path)
    (problem,) = error.value.problems
    assert (problem.where, problem.line) == ("testing_criteria[1]", 1)
    assert problem.message.startswith(message)


def test_json_lines_of_objects_and_output_items(tmp_path: Path) -> None:
    run = {"type": "completions", "input_messages": {"template": [
        {"role": "user", "content": [{"type": "input_text", "text": "{{item.question}}"}]}
    ]}}  # fmt: skip
    item = {"object": "eval.run.output_item", "run_id": "r", "datasource_item": PARIS}
    lines(
        tmp_path / "all.jsonl",
        {"object": "eval", "id": "e", "name": "n", "testing_criteria": [check("eq")]},
        {"object": "eval.run", "id": "r", "eval_id": "e", "data_source": run},
        {**item, "datasource_item_id": 0},
        {**item, "datasource_item_id": 0},
        {**item, "datasource_item_id": 1, "run_id": "another"},
    )
    parts = read(tmp_path, "all.jsonl")
    (case,) = parts.cases
    assert case.source == f"{tmp_path}/all.jsonl:3"
    assert parts.messages(case) == [{"role": "user", "content": "Capital of France?"}]


def test_rows_that_bring_answers_along(tmp_path: Path) -> None:
    content = [{"item": PARIS, "sample": {"output_text": "Paris"}}, {"item": PARIS}]
    source = {"type": "file_content", "content": content}
    path = export(tmp_path, [check("eq")], type="jsonl", input_messages=None, source=source)
    parts = read(tmp_path, path)
    assert [case.canned for case in parts.cases] == ["Paris", None]
    assert parts.cases[1].problem == (
        "nothing to ask: the run has no input_messages, and the item brings no answer"
    )
    assert parts.imported is not None
    assert "1 rows bring their answers along: no service is asked for them" in (
        parts.imported.warnings
    )


def test_samples_of_a_file(tmp_path: Path) -> None:
    lines(tmp_path / "data.jsonl", {"item": {**PARIS, "id": "france"}}, PARIS)
    parts = read(tmp_path, export(tmp_path, [check("eq")]), samples="data.jsonl")
    assert [case.id for case in parts.cases] == ["france", "row-2"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            {"object": "list", "data": [{"run_id": "r", "item": PARIS}]},
            "the export has items but no testing criteria: add an eval object with "
            "testing_criteria, as GET /v1/evals/{eval_id} returns it",
        ),
        (
            {"id": "e", "testing_criteria": []},
            "the export has no items: name the JSONL file of the data set as "
            "openai_evals.samples, or add the run's output items",
        ),
        (
            [{"id": "a", "testing_criteria": []}, {"id": "b", "testing_criteria": []}],
            "the export holds 2 evals: choose one by openai_evals.name: a, b",
        ),
    ],
)
def test_what_an_export_lacks(tmp_path: Path, data: Any, message: str) -> None:
    (tmp_path / "e.json").write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        read(tmp_path, "e.json")
    assert [problem.message for problem in error.value.problems] == [message]


def test_bad_json_is_told_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "e.json").write_text('{\n"a": 1,\n]', encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        read(tmp_path, "e.json")
    assert (error.value.problems[0].file, error.value.problems[0].line) == (
        f"{tmp_path}/e.json",
        3,
    )


def test_no_file_outside_the_project_is_read(tmp_path: Path) -> None:
    root = tmp_path / "project"
    root.mkdir()
    lines(tmp_path / "outside.jsonl", PARIS)
    (root / "link.jsonl").symlink_to(tmp_path / "outside.jsonl")
    for path in ("../outside.jsonl", "link.jsonl"):
        with pytest.raises(ConfigError) as error:
            read(root, path)
        assert [problem.message for problem in error.value.problems] == [
            f"'{path}' lies outside the project: only files below the folder of "
            "llmdeploy.yaml are read"
        ]


def test_a_pointer_of_git_lfs_is_told(tmp_path: Path) -> None:
    text = "version https://git-lfs.github.com/spec/v1\noid sha256:0\n"
    (tmp_path / "e.jsonl").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        read(tmp_path, "e.jsonl")
    assert [problem.message for problem in error.value.problems] == [
        "this is a git-lfs pointer, not the file: run git lfs pull in its repository"
    ]
