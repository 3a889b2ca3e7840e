"""Variables in values: ``${NAME}``, ``${NAME:-default}``, and ``$$`` for a dollar sign."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pytest_llmdeploy.config.yaml_reader import KeyPath

_TOKEN = re.compile(r"\$\$|\$\{(?:([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\})?")


@dataclass(frozen=True, slots=True)
class Expansion:
    """A text with its variables filled in."""

    text: str
    values: tuple[str, ...] = ()
    """What came from process variables; defaults are not among it."""
    problems: tuple[str, ...] = ()


def expand(text: str, variables: Mapping[str, str] | None) -> Expansion:
    """Fill the variables in; without `variables` they stay as they are and only syntax is checked.

    A default is taken as it is written. An empty variable counts as unset where there is a default.
    """
    values: list[str] = []
    problems: list[str] = []

    def replacement(token: re.Match[str]) -> str:
        name, default = token.group(1), token.group(2)
        if token.group() == "$$":
            return "$"
        if name is None or (default is not None and "${" in default):
            problems.append(
                "malformed '${': write ${NAME} or ${NAME:-default without braces}, "
                "and $${ for the characters themselves"
            )
            return token.group()
        if variables is None:
            return token.group()
        value = variables.get(name)
        if default is not None and not value:
            return str(default)
        if value is None:
            problems.append(
                f"the variable {name} is not set: set it, or write ${{{name}:-default}}"
            )
            return token.group()
        values.append(value)
        return value

    return Expansion(_TOKEN.sub(replacement, text), tuple(values), tuple(problems))


def literal_part(text: str) -> str:
    """Return what of a value stands in the file itself: its text and its variables' defaults."""
    return _TOKEN.sub(lambda token: token.group(2) or "", text)


def expand_tree(
    value: Any,
    variables: Mapping[str, str] | None,
    report: Callable[[KeyPath, str], None],
    path: KeyPath = (),
) -> tuple[Any, frozenset[str]]:
    """Expand every string value below `value` (keys stay); return a copy and the secrets met.

    A string stays a string: the models read numbers and booleans from text.
    """
    if isinstance(value, str):
        expansion = expand(value, variables)
        for problem in expansion.problems:
            report(path, problem)
        return expansion.text, frozenset(expansion.values)
    if not isinstance(value, dict | list):
        return value, frozenset()
    secrets: set[str] = set()
    copy: Any = {} if isinstance(value, dict) else [None] * len(value)
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        copy[key], found = expand_tree(item, variables, report, (*path, key))
        secrets |= found
    return copy, frozenset(secrets)
