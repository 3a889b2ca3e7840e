"""What a config takes from elsewhere: other places of it by $ref, other files by file://."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from pytest_llmdeploy.gates.promptfoo.csv_file import parse_csv
from pytest_llmdeploy.gates.promptfoo.js_values import UNDEFINED, ordered
from pytest_llmdeploy.gates.promptfoo.paths import (
    BadPathError,
    Files,
    has_magic,
    is_javascript,
    read,
    read_json,
    without_function,
)
from pytest_llmdeploy.gates.promptfoo.yaml_dialect import read_yaml_file

MOST_DEPTH = 60
"""References inside references; more is a circle."""


def dereference(data: Any, files: Files, depth: int = 0, root: Any = UNDEFINED) -> Any:
    """Return the data with every ``{$ref: ...}`` replaced by what it names.

    ``#/a/b`` is a place in the same file, ``other.yaml#/a`` one in another; keys beside $ref win.
    Raises BadPathError.
    """
    whole = data if root is UNDEFINED else root
    if isinstance(data, list):
        return [dereference(one, files, depth, whole) for one in data]
    if not isinstance(data, Mapping):
        return data
    reference = data.get("$ref")
    if not isinstance(reference, str):
        return ordered((key, dereference(one, files, depth, whole)) for key, one in data.items())
    if depth > MOST_DEPTH:
        raise BadPathError(f"the reference '{reference}' leads back to itself")
    name, _, pointer = reference.partition("#")
    if "://" in name:
        raise BadPathError(f"the reference '{reference}' names an address, which is not read")
    if name:
        path = files.resolve(name)
        whole, files = _parsed(path), files.at(path.parent)
    found = dereference(_pointed(whole, pointer, reference), files, depth + 1, whole)
    beside = {key: one for key, one in data.items() if key != "$ref"}
    if not beside or not isinstance(found, Mapping):
        return found
    own = dereference(beside, files, depth, whole)
    return ordered({**own, **{key: one for key, one in found.items() if key not in own}}.items())


def _pointed(data: Any, pointer: str, reference: str) -> Any:
    for part in filter(None, pointer.split("/")):
        key = unquote(part).replace("~1", "/").replace("~0", "~")
        if isinstance(data, Mapping) and key in data:
            data = data[key]
        elif isinstance(data, list) and key.isdecimal() and int(key) < len(data):
            data = data[int(key)]
        else:
            raise BadPathError(f"the reference '{reference}' names nothing: there is no '{key}'")
    return data


def expand(value: Any, files: Files, context: str = "") -> Any:
    """Return the value with every text ``file://...`` in it replaced by the file's content.

    Variables keep theirs, as those are read when a prompt is rendered, and so do the values of
    assertions that name code. Raises BadPathError or ConfigError.
    """
    if isinstance(value, list):
        return [expand(one, files, context) for one in value]
    if isinstance(value, date):  # an object without properties of its own
        return {}
    if isinstance(value, Mapping):
        code = value.get("type") in {"python", "javascript"}
        return {
            key: expand(one, files, _context(key, context, code=code)) for key, one in value.items()
        }
    if isinstance(value, str) and value.startswith("file://"):
        return load(value, files, context)
    return value


def _context(key: str, context: str, *, code: bool) -> str:
    if key == "value" and code:
        return "assertion"
    return "vars" if key == "vars" else context


def load(name: str, files: Files, context: str = "") -> Any:
    """Return what the file holds: data of JSON, YAML and CSV, else its text.

    Code is named, not read, where it has a function or an assertion's value names it.
    """
    path, function = without_function(name.removeprefix("file://"))
    is_code = path.endswith(".py") or is_javascript(path)
    if context == "vars" or (is_code and (function or context == "assertion")):
        return name
    if not has_magic(name):
        return _parsed(files.resolve(name))
    contents: list[Any] = []
    for found in files.matches(name):
        one = _parsed(found)
        if isinstance(one, list):
            contents += one
        elif one is not UNDEFINED and one is not None:
            contents.append(one)
    return contents


def _parsed(path: Path) -> Any:
    readers: Mapping[str, Callable[[Path], Any]] = {
        ".json": read_json,
        ".yaml": lambda path: read_yaml_file(path).data,
        ".yml": lambda path: read_yaml_file(path).data,
        ".csv": _table,
    }
    return readers.get(path.suffix, read)(path)


def _table(path: Path) -> list[Any]:
    rows = [cells for _, cells in parse_csv(read(path), path.name)]
    one_column = bool(rows) and len(rows[0]) == 1
    return [next(iter(row.values())) for row in rows] if one_column else list(rows)
