"""Plain data and the line of every value."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from pytest_llmdeploy.config.yaml_reader import Document, dotted, read_yaml
from pytest_llmdeploy.errors import ConfigError


def read(tmp_path: Path, text: str) -> Document:
    file = tmp_path / "cases.yaml"
    file.write_text(text, encoding="utf-8")
    return read_yaml(file, 10_000)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("on", "on"),
        ("no", "no"),
        ("Yes", "Yes"),
        ("true", True),
        ("False", False),
        ("TRUE", True),
        ("tRUE", "tRUE"),
        ("null", None),
        ("~", None),
        ("Null", None),
        ("012", 12),
        ("-3", -3),
        ("0o17", 15),
        ("0x1F", 31),
        ("0b11", "0b11"),
        ("1_000", "1_000"),
        ("12:30:45", "12:30:45"),
        ("2024-01-31", "2024-01-31"),
        ("1.50", 1.5),
        ("1e3", 1000.0),
        ("-.5", -0.5),
        (".", "."),
        ("-.inf", -math.inf),
        ("'12'", "12"),
        ('"true"', "true"),
        ("!!str 012", "012"),
        ("! 12", "12"),
        ('!!int "12"', 12),
        ('"\\ud83d\\ude00"', "\U0001f600"),
        ("|\n  two\n  lines\n", "two\nlines\n"),
    ],
)
def test_scalars_follow_yaml_1_2(tmp_path: Path, text: str, value: Any) -> None:
    data = read(tmp_path, f"key: {text}\n").data
    assert data == {"key": value}
    assert type(data["key"]) is type(value)


def test_a_yaml_1_1_directive_changes_nothing(tmp_path: Path) -> None:
    assert read(tmp_path, "%YAML 1.1\n---\nkey: yes\n").data == {"key": "yes"}


def test_not_a_number_is_a_number(tmp_path: Path) -> None:
    assert math.isnan(read(tmp_path, "key: .nan\n").data["key"])


def test_every_key_and_item_has_its_line(tmp_path: Path) -> None:
    document = read(tmp_path, "\ufeff# cases\n- id: a\n  assert:\n    - x\n    - {y: 1}\n- id: b\n")
    assert document.data == [{"id": "a", "assert": ["x", {"y": 1}]}, {"id": "b"}]
    assert document.lines == {
        (): 2,
        (0,): 2,
        (0, "id"): 2,
        (0, "assert"): 3,
        (0, "assert", 0): 4,
        (0, "assert", 1): 5,
        (0, "assert", 1, "y"): 5,
        (1,): 6,
        (1, "id"): 6,
    }


def test_what_stands_behind_an_alias_has_its_anchors_lines(tmp_path: Path) -> None:
    document = read(tmp_path, "a: &a\n  x: &x [1]\nb:\n  - *a\n  - *x\n")
    assert document.data == {"a": {"x": [1]}, "b": [{"x": [1]}, [1]]}
    assert {path: line for path, line in document.lines.items() if path[:1] == ("b",)} == {
        ("b",): 3,
        ("b", 0): 4,
        ("b", 0, "x"): 2,
        ("b", 0, "x", 0): 2,
        ("b", 1): 5,
        ("b", 1, 0): 2,
    }


def test_a_large_file_without_aliases_is_no_bomb(tmp_path: Path) -> None:
    file = tmp_path / "large.yaml"
    file.write_text("[" + "1," * 100_001 + "]")
    assert len(read_yaml(file, 1 << 20).data) == 100_001


def test_the_limit_is_named_in_its_unit(tmp_path: Path) -> None:
    file = tmp_path / "cases.yaml"
    file.write_text("x" * 2048)
    for limit, text in ((2047, "2047 bytes"), (1024, "1 KiB")):
        with pytest.raises(ConfigError) as caught:
            read_yaml(file, limit)
        assert str(caught.value) == f"{file}: the file is larger than {text}"
    assert read_yaml(file, 2048).data == "x" * 2048


def test_several_problems_of_one_file_come_together(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, "a: 1\na: 2\n3: 4\nb: !x 1\nc: [\n")
    file = tmp_path / "cases.yaml"
    assert str(caught.value) == (
        f"{file}:2: duplicate key 'a', first given on line 1\n"
        f"{file}:3: a key must be text: put 3 in quotes\n"
        f"{file}:4: b: unknown tag !x: only plain data can stand here\n"
        f"{file}:6: a '[' or '{{' is opened and never closed"
    )


def test_a_pipe_is_refused_rather_than_waited_for(tmp_path: Path) -> None:
    import os

    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(ConfigError) as caught:
        read_yaml(pipe, 100)
    assert str(caught.value) == f"{pipe}: this is not a regular file"


def test_dotted_paths_show_indices_and_shorten_long_keys() -> None:
    assert dotted(("smoke", "checks", 0, "kind")) == "smoke.checks[0].kind"
    assert dotted(("x" * 50,)) == "x" * 39 + "…"
