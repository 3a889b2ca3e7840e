"""How much a template may do: what it is made of may come from anywhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_llmdeploy.gates.promptfoo.nunjucks.lexer import TemplateError

MOST_STEPS = 300_000
"""Nodes that are evaluated, list items that are made, and texts that grow, per rendering."""
MOST_CHARACTERS = 10_000_000
"""Characters that one rendering writes, or that one value has."""
MOST_ITEMS = 100_000
"""Items of one list."""


def size_of(value: Any) -> int:
    """Return what making `value` counts as, in steps; raise TemplateError where it is too large."""
    if isinstance(value, str):
        if len(value) > MOST_CHARACTERS:
            raise TemplateError(f"a text has more than {MOST_CHARACTERS} characters")
        return len(value) // 1000
    if isinstance(value, list | Mapping):
        if len(value) > MOST_ITEMS:
            raise TemplateError(f"a list has more than {MOST_ITEMS} items")
        return len(value) // 10
    return 0
