from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from pytest_llmdeploy.errors import ConfigError
from pytest_llmdeploy.gates.promptfoo.js_values import UNDEFINED
from pytest_llmdeploy.gates.promptfoo.yaml_dialect import parse_yaml, plain_scalar, read_yaml_file


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Yes", "Yes"), ("on", "on"), ("NO", "NO"), ("012", 12), ("1.0", 1), ("1e3", 1000),
        (".5", 0.5), ("5.", 5), ("0o17", 15), ("0x1F", 31), ("0b11", "0b11"), ("1_000", "1_000"),
        ("1:30", "1:30"), ("1e400", "1e400"), ("True", True), ("tRue", "tRue"), ("~", None),
        ("", None), ("Null", None), ("2024-02-30", "2024-02-30"), ("2024-1-2", "2024-1-2"),
        ("2024-01-02", date(2024, 1, 2)), ("12345678901234567890", 12345678901234567890.0),
        ("2001-12-14t21:59:43.10-05:00", datetime(2001, 12, 15, 2, 59, 43, 100000, tzinfo=UTC)),
    ],
)  # fmt: skip
def test_plain_scalars(text: str, value: Any) -> None:
    found = plain_scalar(text)
    assert found == value
    assert isinstance(found, bool) is isinstance(value, bool)


def test_keys_are_texts_and_merged() -> None:
    text = "a: &a {1: x, true: y}\nb: {<<: *a, 1: z}\nc: {k: 0, <<: [{k: 1, l: 2}, {l: 3}]}\n"
    data = parse_yaml(text, "c.yaml").data
    assert data == {
        "a": {"1": "x", "true": "y"},
        "b": {"1": "z", "true": "y"},
        "c": {"k": 0, "l": 2},
    }


def test_an_empty_file_is_undefined() -> None:
    assert parse_yaml("# nothing\n", "c.yaml").data is UNDEFINED


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2\n", "c.yaml:2: duplicate key 'a', first given on line 1"),
        ("a: !!python/object:os.system x\n",
         "c.yaml:1: a: unknown tag !!python/object:os.system: only plain data can stand here"),
        ("a: &x [*x]\n", "c.yaml:1: a[0]: the alias *x stands inside its own anchor"),
        ("a: 1\n---\nb: 2\n",
         "c.yaml:2: a second document starts here: the file may hold only one"),
        ("? [a, b]\n: 1\n", "c.yaml:1: a key must be one word or text, not a list or a mapping"),
        ("<<: 1\n", "c.yaml:1: '<<' takes a mapping, or a list of mappings"),
    ],
)  # fmt: skip
def test_problems_have_their_line(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text, "c.yaml")
    assert str(caught.value) == message


def test_aliases_cannot_grow_without_end() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    with pytest.raises(ConfigError, match="the aliases expand to more than 100000 values"):
        parse_yaml("\n".join(lines), "c.yaml")


def test_json_may_be_indented_with_tabs(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_text('{\n\t"a": [\n\t\t1.0\n\t]\n}\n', "utf-8")
    assert read_yaml_file(path).data == {"a": [1]}
