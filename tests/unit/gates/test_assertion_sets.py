"""Sets of assertions, metrics, and names with a colon: how they are read and what they come to."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmdeploy.errors import ConfigError
from pytest_llmdeploy.gates.assertions import (
    AssertionContext,
    AssertionRegistry,
    AssertionSet,
    AssertionSpec,
    NotEvaluable,
)
from pytest_llmdeploy.gates.assertions.sets import MAX_DEPTH
from pytest_llmdeploy.gates.record import redacted
from pytest_llmdeploy.redaction import Redactor
from tests.unit.gates.helpers import answer, context

REGISTRY = AssertionRegistry()


def score_in_value(output: str, context: AssertionContext) -> float:
    return float(context.value)


REGISTRY.register("scored", score_in_value)


def a_set(*parts: Any, **keys: Any) -> dict[str, Any]:
    return {"type": "assert-set", "assert": list(parts), **keys}


def judged(raw: Any, text: str) -> Any:
    return REGISTRY.evaluate(REGISTRY.parse(raw, "c:1"), answer(text), context())


def test_a_set_without_a_threshold_passes_when_all_of_it_pass() -> None:
    raw = a_set("contains: a", {"contains": "b", "weight": 3}, weight=2, metric=" letters ")
    result = judged(raw, "ab")
    assert (result.type, result.passed, result.score) == ("assert-set", True, 1.0)
    assert (result.weight, result.metric) == (2.0, "letters")
    assert result.reason == "2 of 2 assertions passed"
    assert [part.type for part in result.parts] == ["contains", "contains"]
    result = judged(raw, "b")
    assert (result.passed, result.score) == (False, 0.75)
    assert result.reason == 'contains: expected the answer to contain "a", got "b"'


def test_the_threshold_of_a_set_decides_alone() -> None:
    raw = a_set("contains: a", "contains: b", "contains: c", threshold=2 / 3)
    assert judged(raw, "ab").passed
    result = judged(raw, "a")
    assert not result.passed
    assert result.reason == (
        "score 0.333 < threshold 0.666667; contains: expected the answer to contain "
        '"b", got "a" (and 1 more failed)'
    )


def test_sets_stand_in_sets() -> None:
    inner = a_set("contains: a", "contains: b", threshold=0.5, weight=3)
    result = judged(a_set(inner, "not-contains: c"), "b")
    assert result.passed
    assert result.score == pytest.approx((3 * 0.5 + 1) / 4)
    assert [part.score for part in result.parts[0].parts] == [0.0, 1.0]


def test_what_cannot_be_judged_in_a_set_is_no_fail_of_it() -> None:
    raw = a_set("contains: a", a_set({"type": "scored", "value": "none"}), threshold=0.1)
    with pytest.raises(NotEvaluable) as caught:
        judged(raw, "a")
    assert "raised ValueError" in str(caught.value)


@given(
    parts=st.lists(
        st.tuples(
            st.floats(0, 1, allow_nan=False), st.floats(1e-3, 1e3, allow_nan=False), st.booleans()
        ),
        min_size=1,
        max_size=8,
    ),
    threshold=st.none() | st.floats(1e-6, 1, allow_nan=False),
)
def test_the_score_is_the_weighted_mean_and_negation_its_complement(
    parts: list[tuple[float, float, bool]], threshold: float | None
) -> None:
    def written(flip: bool) -> dict[str, Any]:
        return a_set(
            *(
                {"type": "not-" * (no is not flip) + "scored", "value": score, "weight": weight}
                for score, weight, no in parts
            ),
            threshold=threshold,
        )

    one, other = judged(written(flip=False), ""), judged(written(flip=True), "")
    mean = sum(weight * (1 - score if no else score) for score, weight, no in parts) / sum(
        weight for _, weight, _ in parts
    )
    assert one.score == pytest.approx(mean)
    assert one.score + other.score == pytest.approx(1)
    for left, right in zip(one.parts, other.parts, strict=True):
        assert left.passed is not right.passed
    if threshold is None:
        assert one.passed is all(part.passed for part in one.parts)
    elif abs(mean - threshold) > 1e-8:
        assert one.passed is (mean > threshold)


def nested(depth: int) -> Any:
    raw: Any = "contains: a"
    for _ in range(depth):
        raw = a_set(raw)
    return raw


BROKEN = [
    (a_set(), "assert-set has no assertion: it could never fail"),
    (
        {"type": "assert-set"},
        "assert-set needs a list of assertions, got nothing: write {type: assert-set,"
        " assert: [...]}",
    ),
    (
        a_set("contains: a") | {"assert": "contains: a"},
        "assert-set needs a list of assertions, got 'contains: a': write {type: assert-set,"
        " assert: [...]}",
    ),
    (
        "assert-set: contains: a",
        "assert-set holds assertions of its own: write {type: assert-set, assert: [...]}",
    ),
    (
        {"assert-set": ["contains: a"]},
        "assert-set holds assertions of its own: write {type: assert-set, assert: [...]}",
    ),
    (
        a_set("contains: a") | {"type": "not-assert-set"},
        "assert-set has no not-: negate the assertions in it",
    ),
    (
        a_set("contains: a", treshold=1),
        "assert-set has an unknown key 'treshold', did you mean 'threshold'?",
    ),
    (
        a_set("contains: a", threshold=0),
        "assert-set: threshold must be above 0 and at most 1, got 0",
    ),
    (
        a_set("contains: a", threshold=float("nan")),
        "assert-set: threshold must be above 0 and at most 1, got nan",
    ),
    (a_set("contains: a", weight=0), "assert-set: weight must be a number above 0, got 0"),
    (a_set("contains: a", metric=3), "assert-set: metric must be the name of a metric, got 3"),
    (
        {"type": "contains", "value": "a", "metric": " "},
        "contains: metric must be the name of a metric, got ''",
    ),
    (
        a_set("contains: a", a_set("contains: b", "contain: c")),
        "assert-set, assertion 2: assert-set, assertion 2: there is no assertion type 'contain',"
        " did you mean 'contains'?",
    ),
    (
        {"type": "assert-sets"},
        "there is no assertion type 'assert-sets', did you mean 'assert-set'?",
    ),
]


@pytest.mark.parametrize(("raw", "message"), BROKEN)
def test_broken_sets(raw: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        REGISTRY.parse(raw, "c.yaml:7", where="assert[0]")
    assert str(caught.value) == f"c.yaml:7: assert[0]: {message}"


def test_sets_are_nested_to_a_depth_only() -> None:
    assert isinstance(REGISTRY.parse(nested(MAX_DEPTH), "c:1"), AssertionSet)
    with pytest.raises(ConfigError) as caught:
        REGISTRY.parse(nested(MAX_DEPTH + 1), "c:1")
    assert str(caught.value).endswith("assert-set stands in more than 4 others: flatten them")


def test_a_metric_reaches_the_result() -> None:
    assert judged({"contains": "a", "metric": "letters"}, "a").metric == "letters"
    assert judged("contains: a", "a").metric is None


@pytest.mark.parametrize(
    ("raw", "name", "value", "threshold"),
    [
        ("similar:cosine(0.7): a:b", "similar:cosine", "a:b", 0.7),
        ("not-similar:dot: x", "not-similar:dot", "x", None),
        ({"similar:euclidean(2)": "x"}, "similar:euclidean", "x", 2.0),
        ({"type": "similar:cosine", "value": "x", "threshold": 1}, "similar:cosine", "x", 1.0),
        ("similar:cosine is near", "similar", "cosine is near", None),
        ("contains:similar:cosine", "contains", "similar:cosine", None),
        ("similar:cosines", "similar", "cosines", None),
    ],
)
def test_names_with_a_colon(raw: Any, name: str, value: str, threshold: float | None) -> None:
    spec = REGISTRY.parse(raw, "c:1")
    assert isinstance(spec, AssertionSpec)
    assert (spec.name, spec.value, spec.threshold) == (name, value, threshold)


def test_the_parts_of_a_set_and_the_evidence_show_no_secret() -> None:
    part = {"type": "contains", "reason": 'got "hunter2-x"', "evidence": {"votes": ["hunter2-x"]}}
    outer = {"type": "assert-set", "reason": "contains: hunter2-x", "parts": [part]}
    result = {
        "reason": "",
        "messages": [],
        "samples": [{"assertions": [{**outer, "parts": [outer]}]}],
    }
    assert "hunter2-x" not in str(redacted(result, Redactor(["hunter2-x"]).deep))
