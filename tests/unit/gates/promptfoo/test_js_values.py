from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmdeploy.gates.promptfoo.js_values import (
    UNDEFINED,
    added,
    compares,
    loosely_equal,
    number_text,
    ordered,
    parse_json,
    strictly_equal,
    stringify,
    to_number,
    to_text,
    truthy,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text() | st.floats(width=32),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (1.0, "1"), (-0.0, "0"), (0.1, "0.1"), (1e21, "1e+21"), (1e20, "1" + "0" * 20),
        (1e-7, "1e-7"), (1.5e-7, "1.5e-7"), (0.000001, "0.000001"), (5e-324, "5e-324"),
        (12345678901234567890, "12345678901234567000"), (10**400, "Infinity"),
        (math.nan, "NaN"), (-math.inf, "-Infinity"), (-12.5, "-12.5"),
    ],
)  # fmt: skip
def test_numbers_print_as_in_javascript(number: float, text: str) -> None:
    assert number_text(number) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_printed_number_is_the_number(number: float) -> None:
    assert float(number_text(number)) == number


def test_values_print_as_in_javascript() -> None:
    assert to_text([1, [2.0, "x"], None, UNDEFINED, {}]) == "1,2,x,,,[object Object]"
    assert [to_text(one) for one in (None, UNDEFINED, True)] == ["null", "undefined", "true"]


def test_empty_lists_and_objects_are_true() -> None:
    assert truthy([])
    assert truthy({})
    assert not any(truthy(one) for one in ("", 0, 0.0, math.nan, None, UNDEFINED, False))


@pytest.mark.parametrize(
    ("left", "right", "loosely", "strictly"),
    [
        ("1", 1, True, False), (None, UNDEFINED, True, False), (0, "", True, False),
        (None, 0, False, False), (True, 1, True, False), ([1], 1, True, False),
        ({}, {}, False, False), (1, 1.0, True, True), ("a", "a", True, True),
        (math.nan, math.nan, False, False), ("0x10", 16, True, False),
    ],
)  # fmt: skip
def test_equality(left: Any, right: Any, loosely: bool, strictly: bool) -> None:
    assert loosely_equal(left, right) is loosely
    assert strictly_equal(left, right) is strictly


def test_texts_are_compared_by_letter_and_numbers_by_size() -> None:
    assert not compares("10", ">", "9")
    assert compares("10", ">", 9)
    assert not compares(UNDEFINED, "<=", UNDEFINED)
    assert added(1, "2") == "12"
    assert added(True, None) == 1
    assert math.isnan(to_number("1px"))


@given(JSON)
def test_json_is_written_as_it_is_read(value: Any) -> None:
    written = stringify(value)
    assert json.loads(written) == json.loads(stringify(parse_json(written)))


def test_json_has_no_spaces_and_whole_numbers() -> None:
    value = {"b": 1.0, "a": [True, UNDEFINED], "u": UNDEFINED, "n": math.nan}
    assert stringify(value) == '{"b":1,"a":[true,null],"n":null}'
    assert stringify({"a": [1], "e": []}, 2) == '{\n  "a": [\n    1\n  ],\n  "e": []\n}'


def test_keys_that_are_indices_come_first() -> None:
    assert list(ordered([("b", 1), ("10", 2), ("2", 3), ("01", 4)])) == ["2", "10", "b", "01"]


@pytest.mark.parametrize("text", ["NaN", "[1,]", "", "{'a': 1}", "[" * 5000])
def test_what_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_json(text)


def test_half_a_character_becomes_a_whole_one() -> None:
    parse_json(r'"\ud83d"').encode()
