"""From pydantic's errors to problems in the file: whose line, which key, which sentence."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any, Union, get_args, get_origin

from pydantic import ValidationError

from pytest_llmdeploy.config.merging import View, descend
from pytest_llmdeploy.config.models import FileConfig
from pytest_llmdeploy.config.section import Section
from pytest_llmdeploy.config.sentences import BRANCHES, expected, sentence, unknown_key
from pytest_llmdeploy.config.yaml_reader import KeyPath

Finding = tuple[KeyPath, str]
"""Where in a view something is wrong, and what."""


def validate(
    view: View, data: dict[str, Any], *, resolved: bool
) -> tuple[FileConfig | None, list[Finding]]:
    """Return the model of the view, or what is wrong with it.

    `data` is the view's data after variables were filled in. Without `resolved` a value that still
    holds a variable cannot be judged, so problems with it are left out.
    """
    try:
        return FileConfig.model_validate(data), []
    except ValidationError as exc:
        errors: list[Any] = exc.errors(include_url=False)
    unions: dict[KeyPath, dict[str, list[Finding]]] = {}
    findings: list[Finding] = []
    for error in errors:
        value = error["input"]
        if not resolved and isinstance(value, str) and "${" in value:
            continue
        path, branch_at, branch = _place(data, error["loc"])
        finding = (path, _message(view, path, error))
        if branch:
            unions.setdefault(path[:branch_at], {}).setdefault(branch, []).append(finding)
        else:
            findings.append(finding)
    for path, branches in unions.items():
        findings.extend(_union(view, data, path, branches))
    return None, findings


def _place(data: Any, location: tuple[str | int, ...]) -> tuple[KeyPath, int, str]:
    """Return an error's path in the data, and where and what the first union branch on it is."""
    path: list[str | int] = []
    branch_at, branch, value = 0, "", data
    for part in location:
        inner, found = descend(value, (part,))
        if found:
            value = inner
            path.append(part)
        elif not branch and isinstance(part, str):
            branch = next((kind for kind in BRANCHES if part.startswith(kind)), "")
            branch_at = len(path)
    return tuple(path), branch_at, branch


def _message(view: View, path: KeyPath, error: Any) -> str:
    location = error["loc"]
    if error["type"] == "missing":
        return f"'{location[-1]}' is missing"
    if error["type"] == "extra_forbidden":
        return unknown_key(str(location[-1]), _keys_at(location[:-1]))
    return sentence(error, view.raw(path) if view.source(path)[-1:] == path[-1:] else None)


def _union(
    view: View, data: Any, path: KeyPath, branches: dict[str, list[Finding]]
) -> Iterator[Finding]:
    value = descend(data, path)[0]
    kind = "dict[" if isinstance(value, dict) else "tuple[" if isinstance(value, list) else ""
    if kind in branches:  # the value is of this kind, so what is wrong lies inside it
        yield from branches[kind]
    else:
        yield path, expected((BRANCHES[branch] for branch in branches), value, view.raw(path))


def _keys_at(location: tuple[str | int, ...]) -> list[str]:
    """Return the keys that the section at `location` may have."""
    current: Any = FileConfig
    for part in location:
        if isinstance(current, type) and issubclass(current, Section):
            fields = {field.alias or name: field for name, field in current.model_fields.items()}
            current = fields[str(part)].annotation
        else:
            current = get_args(current)[1 if get_origin(current) is dict else 0]
        if get_origin(current) in {Union, types.UnionType}:
            current = next(kind for kind in get_args(current) if kind is not type(None))
    return [field.alias or name for name, field in current.model_fields.items()]
