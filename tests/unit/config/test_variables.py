"""Variables in values."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_llmdeploy.config.variables import expand, expand_tree, literal_part
from pytest_llmdeploy.config.yaml_reader import KeyPath

VARIABLES = {"A": "1", "LONG_2": "two", "EMPTY": "", "DOLLAR": "${A} $$"}
MALFORMED = (
    "malformed '${': write ${NAME} or ${NAME:-default without braces}, "
    "and $${ for the characters themselves"
)


@pytest.mark.parametrize(
    ("text", "result", "values"),
    [
        ("plain", "plain", ()),
        ("${A}", "1", ("1",)),
        ("a ${A} b ${LONG_2}", "a 1 b two", ("1", "two")),
        ("${EMPTY}", "", ("",)),
        ("${EMPTY:-x}", "x", ()),
        ("${NONE:-x y}", "x y", ()),
        ("${NONE:-}", "", ()),
        ("${A:-x}", "1", ("1",)),
        ("${NONE:-http://x:80}", "http://x:80", ()),
        ("$A $ 5$", "$A $ 5$", ()),
        ("$$", "$", ()),
        ("$${A}", "${A}", ()),
        ("$$${A}", "$1", ("1",)),
        ("$$$${A}", "$${A}", ()),
        ("${DOLLAR}", "${A} $$", ("${A} $$",)),
    ],
)
def test_expand(text: str, result: str, values: tuple[str, ...]) -> None:
    expansion = expand(text, VARIABLES)
    assert (expansion.text, expansion.values, expansion.problems) == (result, values, ())


@pytest.mark.parametrize(
    "text", ["${", "${}", "${A", "${1A}", "${A-x}", "${A:x}", "${ A }", "${A:-${LONG_2}}", "${É}"]
)
@pytest.mark.parametrize("variables", [VARIABLES, None])
def test_malformed(text: str, variables: dict[str, str] | None) -> None:
    assert expand(text, variables).problems == (MALFORMED,)


def test_a_missing_variable_is_named() -> None:
    assert expand("${NONE}", VARIABLES).problems == (
        "the variable NONE is not set: set it, or write ${NONE:-default}",
    )


def test_without_variables_they_stay_and_only_the_escape_is_resolved() -> None:
    expansion = expand("${A} ${NONE:-x} $$", None)
    assert (expansion.text, expansion.values, expansion.problems) == ("${A} ${NONE:-x} $", (), ())


@pytest.mark.parametrize(
    ("text", "literal"), [("Bearer ${A}", "Bearer "), ("${A:-sk-1}x", "sk-1x"), ("x", "x")]
)
def test_literal_part(text: str, literal: str) -> None:
    assert literal_part(text) == literal


def test_a_tree_is_copied_with_the_place_of_each_problem() -> None:
    found: list[tuple[KeyPath, str]] = []
    tree = {"${A}": ["${A}", {"x": "${NONE}"}, 5, None], "y": "${LONG_2}"}
    copy, secrets = expand_tree(tree, VARIABLES, lambda *finding: found.append(finding))
    assert copy == {"${A}": ["1", {"x": "${NONE}"}, 5, None], "y": "two"}
    assert secrets == {"1", "two"}
    assert [path for path, _ in found] == [("${A}", 1, "x")]
    assert tree["y"] == "${LONG_2}"


@settings(deadline=None, derandomize=True, database=None)
@given(text=st.text())
def test_an_escaped_text_comes_out_as_it_was(text: str) -> None:
    assert expand(text.replace("$", "$$"), {}).text == text


@settings(deadline=None, derandomize=True, database=None)
@given(
    before=st.text().filter(lambda text: "$" not in text),
    value=st.text(),
    after=st.text().filter(lambda text: "$" not in text),
)
def test_a_value_is_inserted_once_and_never_read_again(before: str, value: str, after: str) -> None:
    expansion = expand(f"{before}${{NAME}}{after}", {"NAME": value})
    assert expansion.text == before + value + after
    assert (expansion.values, expansion.problems) == ((value,), ())


@settings(deadline=None, derandomize=True, database=None)
@given(
    tree=st.recursive(
        st.integers() | st.none() | st.text(alphabet="$ {}A:-x"),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=3), inner),
    )
)
def test_shape_and_everything_but_text_stay(tree: Any) -> None:
    def shape(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: shape(item) for key, item in value.items()}
        if isinstance(value, list):
            return [shape(item) for item in value]
        return str if isinstance(value, str) else value

    copy, _ = expand_tree(tree, VARIABLES, lambda *_: None)
    assert shape(copy) == shape(tree)
