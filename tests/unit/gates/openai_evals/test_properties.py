"""Whatever a model, a judge or an export says: a verdict, or a reason why there is none."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pytest_llmdeploy.gates.assertions import AssertionResult, NotEvaluable
from pytest_llmdeploy.gates.measures.distance import common_subsequence
from pytest_llmdeploy.gates.openai_evals import classes, formula, similarity, templates
from pytest_llmdeploy.gates.openai_evals.graders import BadGraderError, read_grader
from pytest_llmdeploy.gates.openai_evals.hosted import sample_of
from tests.unit.gates.helpers import answer
from tests.unit.gates.openai_evals.fakes import Judge

JSON: Any = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
TEMPLATES = st.sampled_from(
    ["{{sample.output_text}}", "{{ item.a }}", "{{sample.output_json.a[0]}}", "x", "", "{{item}}"]
)
GRADERS: Any = st.one_of(
    st.builds(
        lambda given, reference, operation: {
            "type": "string_check",
            "input": given,
            "reference": reference,
            "operation": operation,
        },
        TEMPLATES,
        TEMPLATES,
        st.sampled_from(["eq", "ne", "like", "ilike"]),
    ),
    st.builds(
        lambda given, reference, metric: {
            "type": "text_similarity",
            "input": given,
            "reference": reference,
            "evaluation_metric": metric,
            "pass_threshold": 0.5,
        },
        TEMPLATES,
        TEMPLATES,
        st.sampled_from(["fuzzy_match", "cosine", "rouge_1", "rouge_4", "rouge_l"]),
    ),
    st.builds(
        lambda given: {
            "type": "label_model",
            "input": [{"role": "user", "content": given}],
            "labels": ["a", "b"],
            "passing_labels": ["a"],
        },
        TEMPLATES,
    ),
    st.builds(
        lambda given: {
            "type": "score_model",
            "input": [{"role": "user", "content": given}],
            "pass_threshold": 0.5,
        },
        TEMPLATES,
    ),
)


@given(GRADERS, JSON, st.text(), st.text(), st.lists(st.lists(st.floats(), max_size=3), max_size=3))
def test_a_grader_gives_a_verdict_or_not_evaluable(
    raw: dict[str, Any], item: Any, said: str, judge: str, vectors: list[list[float]]
) -> None:
    grader = read_grader(raw, 1)
    values = {"item": {"a": item}, "sample": sample_of(answer(said))}
    try:
        found = grader.judge(values, Judge(judge, vectors=vectors))
    except NotEvaluable:
        return
    assert isinstance(found, AssertionResult)
    assert 0 <= found.score <= 1


@given(
    JSON,
    st.sampled_from(["string_check", "text_similarity", "label_model", "score_model", "multi"]),
)
def test_a_broken_grader_is_refused_with_a_sentence(value: Any, kind: str) -> None:
    raw = {**value, "type": kind} if isinstance(value, dict) else {"type": kind, "input": value}
    try:
        read_grader(raw, 1)
    except BadGraderError as error:
        assert len(str(error)) > 5  # noqa: PT017 - most values raise nothing


@given(st.text(alphabet="ab+-*/^(), 1.5minx", max_size=40))
def test_a_formula_is_a_number_or_refused(text: str) -> None:
    try:
        value = formula.compute(text, {"a": 0.5, "b": 1.0})
    except formula.BadFormulaError:
        return
    assert math.isfinite(value)


@given(st.text(max_size=30), st.text(max_size=30))
def test_fuzzy_match_is_a_symmetric_share(first: str, second: str) -> None:
    score = similarity.fuzzy_match(first, second)
    assert 0 <= score <= 1
    assert score == similarity.fuzzy_match(second, first)
    assert (score == 1) is (first == second)


def plain_subsequence(first: str, second: str) -> int:
    """Return the length of the longest common subsequence by the textbook's table."""
    row = [0] * (len(second) + 1)
    for one in first:
        before = row[:]
        for at, other in enumerate(second, 1):
            row[at] = before[at - 1] + 1 if one == other else max(before[at], row[at - 1])
    return row[-1]


@given(st.text(alphabet="abc", max_size=80), st.text(alphabet="abc", max_size=80))
def test_the_fast_subsequence_is_the_plain_one(first: str, second: str) -> None:
    assert common_subsequence(first, second) == plain_subsequence(first, second)


@given(st.text())
def test_any_template_is_filled_or_refused(template: str) -> None:
    try:
        templates.fill(template, {"item": {"a": 1}, "sample": {}})
    except (templates.BadTemplateError, templates.NotInSampleError) as error:
        assert len(str(error)) > 5  # noqa: PT017 - most values raise nothing


@given(st.text(), st.lists(st.text(max_size=8), min_size=1, max_size=3))
def test_the_template_classes_always_decide(said: str, ideals: list[str]) -> None:
    for name in ("Match", "Includes", "FuzzyMatch", "JsonMatch"):
        found = classes.Template(name).judge(said, ideals)
        assert found.score == float(found.passed)
