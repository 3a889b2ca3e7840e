"""CSV files: a header, then a case a row; columns are variables, columns with ``__`` are ours."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pytest_llmdeploy.config.sentences import unknown_key
from pytest_llmdeploy.config.text import display_path, read_text
from pytest_llmdeploy.config.yaml_reader import KeyPath, dotted
from pytest_llmdeploy.errors import ConfigError, Problem
from pytest_llmdeploy.gates.readers.raw import MAX_BYTES, RawCase, Reading

_KEYS: Mapping[str, Callable[[str], Any]] = {
    "__id": str,
    "__description": str,
    "__prompt": str,
    "__tags": str,
    "__weight": float,
    "__threshold": float,
    "__repeats": int,
    "__k_of_n": int,
}
_EXPECTED = re.compile(r"__expected[1-9]?[0-9]*")


def read_csv(path: Path) -> Reading:
    """Read a table with a header; rows without any cell don't count."""
    text = read_text(path, MAX_BYTES)
    file = display_path(path)
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    reading = Reading()
    header: list[str] | None = None
    line, row = 1, 0
    try:
        for cells in rows:
            line, start = rows.line_num + 1, line
            if not cells:
                continue
            if header is None:
                header = _header(cells, file, start)
                continue
            row += 1
            if len(cells) != len(header):
                message = f"cells in this row: {len(cells)}, in the header: {len(header)}"
                reading.problems.append(Problem(file, start, "", message))
            else:
                _add(reading, header, cells, (file, start, row))
    except csv.Error as error:
        hint = " (JSON Lines has no such limit)" if "field limit" in str(error) else ""
        reading.problems.append(Problem(file, line, "", f"not CSV: {error}{hint}"))
    if header is None and not reading.problems:
        raise ConfigError([Problem(file, 0, "", "the file is empty: it needs a header")])
    return reading


def _header(cells: list[str], file: str, line: int) -> list[str]:
    header = [cell.strip() for cell in cells]
    problems = []
    for number, name in enumerate(header, start=1):
        if not name:
            problems.append(f"column {number} has no name")
        elif name in header[: number - 1]:
            problems.append(f"the column '{name}' is there twice")
        elif name.startswith("__") and name not in _KEYS and not _EXPECTED.fullmatch(name):
            sentence = unknown_key(name, [*_KEYS, "__expected"])
            problems.append(sentence.replace("unknown key", "unknown column"))
    if len(header) == 1 and re.search(r"[;\t]", header[0]):
        problems.append(f"the only column is {header[0]!r}: columns are separated by commas")
    if problems:
        raise ConfigError([Problem(file, line, "", problem) for problem in problems])
    return header


def _add(
    reading: Reading, header: list[str], cells: list[str], place: tuple[str, int, int]
) -> None:
    """Add the case of one row; `place` is file, line and row."""
    file, line, row = place
    data: dict[str, Any] = {"vars": {}}
    labels: dict[KeyPath, str] = {}
    expected: list[str] = []
    problems: list[Problem] = []
    for name, cell in zip(header, cells, strict=True):
        if not name.startswith("__"):
            data["vars"][name] = cell
        elif not cell.strip():
            continue
        elif name in _KEYS:
            key = name.removeprefix("__")
            labels[key,] = name
            try:
                data[key] = _KEYS[name](cell)
            except ValueError:
                kind = "a whole number" if _KEYS[name] is int else "a number"
                problems.append(Problem(file, line, name, f"expected {kind}, got '{cell}'"))
        else:
            labels["assert", len(expected)] = name
            expected.append(cell)
    data["assert"] = expected
    reading.problems.extend(problems)
    if not problems:

        def label(path: KeyPath) -> str:
            return labels.get(path) or dotted(path)

        reading.cases.append(RawCase(data, file, line, row, label_of=label, column=True))
