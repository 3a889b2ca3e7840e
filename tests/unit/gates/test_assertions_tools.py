"""Calls of tools in the answer's own message: shape, arguments, names, order, number."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmdeploy.gates.assertions import NotEvaluable
from tests.unit.gates.judging import judged, not_evaluable, refused


def call(name: str, arguments: str = "{}") -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


CALLS = {"tool_calls": [call("find", '{"city": "Paris", "n": 1}'), call("book")]}
FIND = {
    "name": "find",
    "parameters": {"type": "object", "properties": {"n": {"type": "integer"}}},
}
TOOLS = [{"type": "function", "function": FIND}, {"type": "function", "function": {"name": "book"}}]
NARROW = [{"function": {**FIND, "parameters": {"maxProperties": 1}}}]
BOTH = {"n": 1.0, "city": "Paris"}
ARGS = "trajectory:tool-args-match"
STEPS = "trajectory:tool-sequence"


@pytest.mark.parametrize(
    "raw",
    [
        {"is-valid-openai-tools-call": TOOLS},
        "tool-call-f1: book, find",
        "tool-call-f1(0.6): find",
        "trajectory:tool-used: find",
        {"type": "trajectory:tool-used", "value": {"name": "find", "max": 1}},
        {"type": ARGS, "value": {"name": "find", "args": {"city": "Paris"}}},
        {"type": ARGS, "value": {"name": "find", "mode": "exact", "args": BOTH}},
        "trajectory:tool-sequence: book",
        {"type": STEPS, "value": {"steps": ["find", "book"], "mode": "exact"}},
        "trajectory:step-count: 2",
        {"type": "trajectory:step-count", "value": {"max": 3}},
    ],
)  # fmt: skip
def test_holds(raw: object) -> None:
    assert judged(raw, extra=CALLS).passed


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (
            {"is-valid-openai-tools-call": TOOLS[1:]},
            'to call tools as their schemas say, it called "find", but there is only "book"',
        ),
        (
            {"is-valid-openai-tools-call": NARROW},
            "to call tools as their schemas say, the arguments of \"find\" break its schema at $:"
            " {'city': 'Paris', 'n': 1} has too many properties",
        ),
        (
            "tool-call-f1(0.8): find, x",
            'to call "find", "x", with an F1 of at least 0.8, the F1 is 0.500: it called "find",'
            ' "book"',
        ),
        ("trajectory:tool-used: x", 'to call "x", it called "find", "book"'),
        (
            {"type": "trajectory:tool-used", "value": {"name": "find", "min": 2}},
            'to call "find" at least 2 times, it called "find", "book"',
        ),
        (
            {"type": ARGS, "value": {"name": "find", "args": {"city": "Paris"}, "mode": "exact"}},
            'to call "find" with exactly "{\\"city\\": \\"Paris\\"}", it called "find" with'
            ' "{\\"city\\": \\"Paris\\", \\"n\\": 1}"',
        ),
        (
            {"type": ARGS, "value": {"name": "find", "args": {"n": True}}},
            'to call "find" with at least "{\\"n\\": true}", it called "find" with'
            ' "{\\"city\\": \\"Paris\\", \\"n\\": 1}"',
        ),
        (
            "trajectory:tool-sequence: book, find",
            'to call "book", "find" in this order, it called "find", "book"',
        ),
        (
            {"type": STEPS, "value": {"steps": ["find"], "mode": "exact"}},
            'to call exactly "find" in this order, it called "find", "book"',
        ),
        (
            {"type": "trajectory:step-count", "value": {"max": 1}},
            'to call tools at most once, it called "find", "book"',
        ),
    ],
)  # fmt: skip
def test_fails(raw: object, reason: str) -> None:
    found = judged(raw, extra=CALLS)
    assert (found.passed, found.reason) == (False, f"expected the answer {reason}")


@pytest.mark.parametrize("kind", ["is-valid-function-call", "is-valid-openai-function-call"])
def test_the_older_function_call(kind: str) -> None:
    good = {"function_call": {"name": "find", "arguments": '{"n": 1}'}}
    bad = {"function_call": {"name": "find", "arguments": "{"}}
    assert judged(kind, parameters={"functions": [FIND]}, extra=good).passed
    assert judged({kind: [FIND]}, extra=bad).reason == (
        'expected the answer to call a function as its schema says, the arguments of "find" are'
        " not JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"
    )


def test_schemas_of_the_request() -> None:
    kind = "is-valid-openai-tools-call"
    assert judged(kind, parameters={"tools": TOOLS}, extra=CALLS).passed
    assert not judged(kind, "text", parameters={"tools": TOOLS}).passed
    assert not_evaluable(f"not-{kind}", extra=CALLS) == (
        "there are no tools to hold the call to: give them as value, or in 'parameters:'"
    )
    broken = [{"function": {"name": "find", "parameters": {"type": "x"}}}]
    assert not_evaluable(kind, parameters={"tools": broken}, extra=CALLS).startswith(
        "the tools in 'parameters:': the parameters of \"find\" are no JSON Schema: at $.type:"
    )


def test_what_cannot_work() -> None:
    assert refused("tool-call-f1") == "tool-call-f1: the value must name tools, got nothing"
    assert refused({"type": ARGS, "value": {"name": "a", "args": {}}}) == (
        f"{ARGS}: the value needs args, a mapping that is not empty"
    )
    assert refused({"type": ARGS, "value": {"name": "a", "arg": {}}}) == (
        f"{ARGS}: the value has an unknown key 'arg', did you mean 'args'?"
    )
    assert refused({"type": STEPS, "value": {"steps": ["a"], "mode": "any"}}) == (
        f"{STEPS}: mode must be in_order or exact, got 'any'"
    )
    assert refused({"type": "trajectory:step-count", "value": {"min": 0}}) == (
        "trajectory:step-count: at least 0 calls could never fail"
    )
    assert refused({"is-valid-openai-tools-call": [{}]}) == (
        "is-valid-openai-tools-call: tool 1 has no name"
    )


def test_calls_that_cannot_be_read_are_no_calls_of_none() -> None:
    assert not_evaluable("not-trajectory:tool-used: find", extra={"tool_calls": [{}]}) == (
        "the answer's calls of tools cannot be read:"
        " call 1 has no function with a name and arguments as text"
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["function", "name", "arguments", "x"]), inner, max_size=3
    ),
    max_leaves=8,
)  # fmt: skip


@given(JSON)
def test_any_message_is_judged_or_not_evaluable(calls: object) -> None:
    raws = ["tool-call-f1: find", "trajectory:step-count: 1", "trajectory:tool-used: x",
            {"type": ARGS, "value": {"name": "x", "args": {"x": 1}}},
            {"is-valid-openai-tools-call": TOOLS}]  # fmt: skip
    for raw in raws:
        try:
            assert 0 <= judged(raw, extra={"tool_calls": calls}).score <= 1
        except NotEvaluable:
            continue
