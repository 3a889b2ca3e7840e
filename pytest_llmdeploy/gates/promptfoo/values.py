"""The value of an assertion: templates filled in, files read, code run."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from pytest_llmdeploy.errors import ConfigError
from pytest_llmdeploy.gates.assertions import NotEvaluable
from pytest_llmdeploy.gates.promptfoo.code import run_file
from pytest_llmdeploy.gates.promptfoo.js_values import UNDEFINED, trim
from pytest_llmdeploy.gates.promptfoo.nunjucks import TemplateError, render
from pytest_llmdeploy.gates.promptfoo.paths import BadPathError, is_javascript, read, resolve
from pytest_llmdeploy.gates.promptfoo.row import Row
from pytest_llmdeploy.gates.promptfoo.yaml_dialect import parse_yaml
from pytest_llmdeploy.ports import Answer

_CODE_TYPES = {"javascript", "python"}


def loaded(written: Mapping[str, Any], output: Any, row: Row, answer: Answer) -> tuple[Any, Any]:
    """Return the assertion's value, and what the code returned that it names, or UNDEFINED.

    Raises NotEvaluable.
    """
    value = written.get("value", UNDEFINED)
    kind = str(written["type"])
    if isinstance(value, list):
        return [_item(one, kind, row) for one in value], UNDEFINED
    if not isinstance(value, str):
        return value, UNDEFINED
    if value.startswith("package:"):
        raise NotEvaluable(f"{kind}: code of a package ({value}) is not run here")
    if not value.startswith("file://"):
        return _rendered(value, kind, row), UNDEFINED
    name, _, function = value.removeprefix("file://").partition(":")
    if not (is_javascript(name) or name.endswith(".py")):
        return _file(value, kind, row), UNDEFINED
    returned = run_file(name, function or None, written, output, row, answer)
    if kind.removeprefix("not-") in _CODE_TYPES:
        return value, returned
    if isinstance(returned, bool) or (isinstance(returned, Mapping) and "pass" in returned):
        raise NotEvaluable(f"{kind}: the code it names must return a value, not a verdict")
    return returned, returned


def _item(item: Any, kind: str, row: Row) -> Any:
    if not isinstance(item, str):
        return item
    return _file(item, kind, row) if item.startswith("file://") else _rendered(item, kind, row)


def _rendered(text: str, kind: str, row: Row) -> str:
    try:
        return render(text, row.vars)
    except TemplateError as error:
        raise NotEvaluable(f"{kind}: the template of its value is wrong: {error}") from error


def _file(name: str, kind: str, row: Row) -> Any:
    try:
        path = resolve(name, row.base, row.root)
        return _content(path, path.stat().st_mtime_ns)
    except (BadPathError, ConfigError) as error:
        raise NotEvaluable(f"{kind}: {error}") from error


@lru_cache(maxsize=256)
def _content(path: Path, _changed: int) -> Any:
    if path.suffix in {".json", ".yaml", ".yml"}:
        return parse_yaml(read(path), path.name).data
    if path.suffix == ".txt":
        return trim(read(path))
    raise BadPathError(f"the file {path.name} must be .json, .yaml or .txt")
