from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmdeploy.untrusted import SHOWN, one_line, read_json, shallow

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(VALUES)
def test_good_json_is_what_it_was(value: Any) -> None:
    assert read_json(json.dumps(value).encode()) == value


@given(st.binary())
def test_bytes_are_json_or_a_value_error_and_fit_into_a_file(body: bytes) -> None:
    try:
        value = read_json(body)
    except ValueError:
        return
    json.dumps(value, ensure_ascii=False, allow_nan=False).encode()


def test_half_a_character_becomes_a_question_mark() -> None:
    assert read_json(rb'{"a\ud800": ["\udc00", "\ud83d\ude00"]}') == {"a?": ["?", "😀"]}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"[NaN]", "NaN is no JSON number"),
        (b"-Infinity", "-Infinity is no JSON number"),
        (b"[-1e999]", "-1e999 is no JSON number"),
        (b"[" * 100_000, "the JSON is nested too deeply"),
    ],
)
def test_what_is_no_json(body: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        read_json(body)


@given(st.text())
def test_one_line_is_short_and_printable(text: str) -> None:
    line = one_line(text)
    assert line.isprintable()
    assert len(line) <= SHOWN + 1


@given(VALUES)
def test_what_is_shallow_stays(value: Any) -> None:
    assert shallow(value) == value


def test_what_is_nested_too_deeply_is_left_out() -> None:
    value: Any = {"x": [1]}
    for _ in range(19):
        value = [value]
    kept = shallow(value)
    for _ in range(19):
        (kept,) = kept
    assert kept == {"x": "(left out: nested more than 20 levels deep)"}
