from __future__ import annotations

from typing import Any

import pytest

from pytest_llmdeploy.errors import ConfigError
from pytest_llmdeploy.gates.promptfoo import csv_tests
from pytest_llmdeploy.gates.promptfoo.csv_file import parse_csv
from pytest_llmdeploy.gates.promptfoo.paths import BadPathError


@pytest.mark.parametrize(
    ("cell", "check"),
    [
        ("Paris", {"type": "equals", "value": "Paris"}),
        ("not-contains: x ", {"type": "not-contains", "value": "x"}),
        ("contains-any:a, \"b, c\" ,d", {"type": "contains-any", "value": ["a", "b, c", "d"]}),
        ("levenshtein:x", {"type": "levenshtein", "value": "x", "threshold": 0.75}),
        ("levenshtein(3):x", {"type": "levenshtein", "value": "x", "threshold": 3}),
        ("similar:x", {"type": "similar", "value": "x", "threshold": 0.8}),
        ("similar:cosine", {"type": "similar", "value": "cosine", "threshold": 0.8}),
        ("is-json", {"type": "is-json"}),
        ("is-json: {}", {"type": "is-json", "value": " {}"}),
        ("grade: be kind", {"type": "llm-rubric", "value": " be kind"}),
        ("fn: output.length", {"type": "javascript", "value": "output.length"}),
        ("file://check.js", {"type": "javascript", "value": "file://check.js"}),
        ("python: len(output)", {"type": "python", "value": "len(output)"}),
        ("file://check.py:f", {"type": "python", "value": "check.py:f"}),
        ("unknown:x", {"type": "equals", "value": "unknown:x"}),
        ("contains(x):y", {"type": "equals", "value": "contains(x):y"}),
    ],
)  # fmt: skip
def test_texts_of_expected_cells(cell: str, check: dict[str, Any]) -> None:
    assert csv_tests.assertion_of_cell(cell) == check


def test_columns_with_a_meaning() -> None:
    row = {
        " q ": "why", "__expected": "x", "__expected2": "contains:y", "__description": "",
        "__metric": "m", "__threshold": "0", "__metadata:a": "b", "__metadata:t[]": r"x, y\,z",
        "__config:__expected2:threshold": "0.5", "__prefix": "> ", "__providerOutput": "out",
        "__metadata": "ignored",
    }  # fmt: skip
    assert csv_tests.row_to_test(row) == {
        "vars": {"q": "why"},
        "assert": [
            {"type": "equals", "value": "x", "metric": "m"},
            {"type": "contains", "value": "y", "metric": "m", "threshold": 0.5},
        ],
        "options": {"prefix": "> "},
        "threshold": 0,
        "providerOutput": "out",
        "metadata": {"a": "b", "t": ["x", "y,z"], "threshold": 0.5},
    }


def test_a_threshold_that_is_none_is_told() -> None:
    with pytest.raises(BadPathError) as caught:
        csv_tests.row_to_test({"__config:__expected1:threshold": "high"})
    message = "the column '__config:__expected1:threshold' needs a number, got 'high'"
    assert str(caught.value) == message


def test_cells_keep_quotes_lines_and_spaces() -> None:
    text = '\ufeffa,b\r\n" x ","y ""z""\r\nw"\r\n,"\r\n"\r\n'
    assert parse_csv(text, "t.csv") == [
        (2, {"a": " x ", "b": 'y "z"\r\nw'}),
        (4, {"a": "", "b": "\r\n"}),
    ]


def test_quotes_in_odd_places_are_text_where_that_is_allowed() -> None:
    text = 'a,b\nsay "hi","whole" rest\n'
    assert parse_csv(text, "t.csv", relaxed=True) == [(2, {"a": 'say "hi"', "b": '"whole" rest'})]
    with pytest.raises(ConfigError, match=r"t\.csv:2: a quote stands inside a cell"):
        parse_csv(text, "t.csv")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1\n", "t.csv:2: cells in this row: 1, in the header: 2"),
        ('a\n"x\n', "t.csv:2: a quote is opened and never closed"),
    ],
)
def test_broken_tables_are_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_csv(text, "t.csv", relaxed=True)
    assert str(caught.value) == message
