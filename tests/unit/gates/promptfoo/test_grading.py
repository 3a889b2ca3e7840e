"""What a row of promptfoo comes to: errors, scores, weights, thresholds, and why it is vacuous."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pytest_llmdeploy.gates.assertions import NotEvaluable
from pytest_llmdeploy.gates.measures.distance import distance
from pytest_llmdeploy.gates.promptfoo import grading
from pytest_llmdeploy.gates.promptfoo.assertions.patterns import (
    InvalidPatternError,
    translated,
)
from pytest_llmdeploy.gates.promptfoo.row import Row, RowPrompt, RowProvider
from pytest_llmdeploy.ports import Answer


def row(*asserts: Mapping[str, Any], allow_code: bool = False, **test: Any) -> Row:
    return Row(
        id="r",
        description="",
        vars=test.pop("vars", {}),
        asserts=asserts,
        threshold=test.get("threshold"),
        options=test.pop("options", {}),
        provider=RowProvider("openai:chat:m", "m", test.pop("config", {})),
        prompt=RowPrompt("q", "q", "q"),
        test=test,
        base=Path(__file__).parent,
        root=Path(__file__).parent,
        allow_code=allow_code,
    )


def answer(text: str, **fields: Any) -> Answer:
    known = {"finish_reason": "stop", "prompt_tokens": 1, "completion_tokens": 1, "latency": 0.25}
    return Answer(text, **{**known, "model": "m", **fields})


def judged(one: Row, said: Answer | str) -> tuple[bool, float]:
    said = answer(said) if isinstance(said, str) else said
    score = grading.score_row(one, grading.evaluate_row(one, [], said, None))
    return score.passed, score.score


def problem(one: Row, said: Answer | str) -> str:
    with pytest.raises(NotEvaluable) as caught:
        judged(one, said)
    return str(caught.value)


YES: Mapping[str, Any] = {"type": "contains", "value": "x"}
NO: Mapping[str, Any] = {"type": "contains", "value": "z"}


def test_the_reason_tells_what_was_expected_and_what_came() -> None:
    one = row(YES, NO)
    score = grading.score_row(one, grading.evaluate_row(one, [], answer("x"), None))
    assert score.reason == 'contains: expected the answer to contain "z", got "x"'


def test_what_is_refused_there_is_an_error_here() -> None:
    assert problem(row({"type": "contains", "value": ""}), "x") == (
        "contains: the value must be a text that is not empty, or a number"
    )
    assert problem(row({"type": "nope"}), "x") == "nope: promptfoo has no such type of assertion"


def test_latency_is_in_milliseconds_and_only_of_this_run() -> None:
    one = row({"type": "latency", "threshold": 300})
    assert judged(one, "x") == (True, 1.0)
    assert judged(one, answer("x", latency=0.31)) == (False, 0.0)
    assert problem(one, answer("x", replayed=True)) == (
        "latency: the answer was not asked for in this run, so it has no latency"
    )


def test_cost_and_perplexity_are_errors_where_they_are_not_known() -> None:
    assert problem(row({"type": "cost", "threshold": 1}), "x") == (
        "cost: the answer's cost is not known; give the model a price"
    )
    assert judged(row({"type": "cost", "threshold": 1}), answer("x", cost=0.5)) == (True, 1.0)
    told = answer("x", logprobs=[-1.0, -1.0])
    assert judged(row({"type": "perplexity", "threshold": 2.7}), told) == (False, 0.0)
    passed, score = judged(row({"type": "perplexity-score", "threshold": 0.2}), told)
    assert passed
    assert score == pytest.approx(1 / (1 + 2.718281828459045))


def test_a_tool_call_is_the_output_where_nothing_else_was_said() -> None:
    call = {"type": "function", "function": {"name": "f", "arguments": "{}"}}
    said = answer("", extra={"tool_calls": [call]})
    assert judged(row({"type": "tool-call-f1", "value": "f"}), said) == (True, 1.0)
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    one = row({"type": "is-valid-openai-tools-call"}, config={"tools": [tool]})
    assert judged(one, said) == (True, 1.0)


@pytest.mark.parametrize(
    ("one", "why"),
    [
        (row(), "no assertion"),
        (row(NO, threshold=0.0), "threshold 0"),
        (row({**NO, "weight": 0}), "the weight of every assertion is 0"),
        (
            row({"type": "assert-set", "assert": [NO], "threshold": 0}),
            "the threshold of every assert-set is 0",
        ),
        (row(NO), None),
        (row({**NO, "weight": 0}, YES), None),
        (row({**NO, "weight": 0}, threshold=0.5), None),
    ],
)
def test_a_row_that_passes_whatever_the_answer_is_named(one: Row, why: str | None) -> None:
    assert grading.vacuity(one) == why
    if why is not None:
        assert judged(one, "x")[0]


@pytest.mark.parametrize(
    ("one", "why"),
    [
        (row({"type": "ruby"}), "ruby: Ruby is not run"),
        (row({"type": "not-trace-span-count"}), "not-trace-span-count: no traces are taken"),
        (
            row({"type": "assert-set", "assert": [{"type": "webhook"}]}),
            "webhook: no other service is asked than the model's, the judge's and the embeddings'",
        ),
        (
            row(YES, assertScoringFunction="file://s.js"),
            "assertScoringFunction: a scoring function of its own is not run",
        ),
        (row(YES), None),
    ],
)
def test_what_cannot_be_judged_is_told_before_anything_is_asked(one: Row, why: str | None) -> None:
    assert grading.unsupported(one) == why


def test_code_runs_only_where_it_is_allowed() -> None:
    check = {"type": "python", "value": "output == 'x'"}
    assert problem(row(check), "x") == (
        "python: set allow_code: true for the gate to let the config's code run"
    )
    assert judged(row(check, allow_code=True), "x") == (True, 1.0)
    assert judged(row({**check, "type": "not-python"}, allow_code=True), "x") == (False, 0.0)


def test_a_file_outside_of_the_project_is_not_read() -> None:
    assert problem(row({"type": "equals", "value": "file:///etc/hostname.txt"}), "x") == (
        "equals: the file /etc/hostname.txt lies outside the project: only files below the folder "
        "of llmdeploy.yaml or of the config are read"
    )


def test_a_pattern_that_never_ends_is_an_error() -> None:
    one = row({"type": "regex", "value": "^(([a-z])+.)+[A-Z]([a-z])+$"})
    assert problem(one, "a" * 40_000).startswith("regex: the pattern")


def test_entities_of_an_answer_are_not_read() -> None:
    bomb = '<!DOCTYPE a [<!ENTITY b "x">]><a>&b;</a>'
    assert judged(row({"type": "is-xml"}), bomb) == (False, 0.0)


@pytest.mark.parametrize("source", ["(?i)a", "a++", "(?P<n>a)", "(", "[", "a{2,1}", "*"])
def test_patterns_that_javascript_refuses_are_refused(source: str) -> None:
    with pytest.raises(InvalidPatternError):
        translated(source)


def test_distances_are_those_of_the_table() -> None:
    def table(left: str, right: str) -> int:
        above = list(range(len(right) + 1))
        for i, one in enumerate(left, 1):
            now = [i]
            for j, other in enumerate(right, 1):
                now.append(min(above[j] + 1, now[-1] + 1, above[j - 1] + (one != other)))
            above = now
        return above[-1]

    words = ["", "a", "ab", "kitten", "sitting", "aaaa", "abab" * 20, "ba" * 41]
    for left in words:
        for right in words:
            assert distance(left, right) == table(left, right)


def test_ten_thousand_rows_take_seconds() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "number"}}}
    one = row(
        {"type": "contains", "value": "{{city}}"},
        {"type": "regex", "value": "\\d+"},
        {"type": "contains-json", "value": schema},
        vars={"city": "Oslo"},
    )
    said = answer('Oslo has {"a": 12} in it')
    started = time.perf_counter()
    for _ in range(1000):
        assert judged(one, said) == (True, 1.0)
    assert time.perf_counter() - started < 2


@pytest.mark.parametrize(
    ("told", "wanted"),
    [("function_call", "tool_calls"), ("Max_Tokens ", "length"), ("eos", "eos"), ("stop", "STOP")],
)
def test_reasons_for_the_end_are_those_of_openai(told: str, wanted: str) -> None:
    one = row({"type": "finish-reason", "value": wanted})
    assert judged(one, answer("x", finish_reason=told)) == (True, 1.0)


def test_what_a_graded_row_lacks() -> None:
    lacking = row({"type": "context-relevance"}, vars={"context": "c"})
    why = "context-relevance: it needs a variable 'query' that is a text"
    assert problem(lacking, "x") == why
    prompt = row({"type": "g-eval", "value": "kind"}, options={"rubricPrompt": "p"})
    assert problem(prompt, "x") == "g-eval: a rubricPrompt of its own is asked for llm-rubric only"
