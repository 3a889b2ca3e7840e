"""The template language of promptfoo configs: lexer, parser and an interpreter of our own.

It knows values of JSON only and reaches nothing else, every step of it is counted, and it prints
and compares as JavaScript does. What a template could reach outside is not here: no files, no code.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from pytest_llmdeploy.gates.promptfoo.nunjucks.evaluate import Renderer
from pytest_llmdeploy.gates.promptfoo.nunjucks.lexer import TemplateError
from pytest_llmdeploy.gates.promptfoo.nunjucks.nodes import Block
from pytest_llmdeploy.gates.promptfoo.nunjucks.parser import parse

__all__ = ["TemplateError", "names", "render"]

_MARKS = ("{{", "{%", "{#", "#}")


def render(
    text: str, variables: Mapping[str, Any], environment: Mapping[str, str] | None = None
) -> str:
    """Return `text` with `variables` filled in; `environment` is what the global ``env`` holds.

    Raises TemplateError, also for what takes too many steps or becomes too long.
    """
    if not any(mark in text for mark in _MARKS):
        return text
    try:
        return Renderer(variables, environment or {}).render(_parsed(text))
    except RecursionError as error:
        raise TemplateError("the template is nested too deeply") from error
    except TemplateError:
        raise
    except ValueError as error:  # a value that has too long a text
        raise TemplateError(str(error)) from error


def names(text: str) -> frozenset[str]:
    """Return every name that the template looks up, its own among them; none where it is broken."""
    if not any(mark in text for mark in _MARKS):
        return frozenset()
    try:
        return _parsed(text).names
    except (TemplateError, RecursionError):
        return frozenset()


@lru_cache(maxsize=2048)
def _parsed(text: str) -> Block:
    return parse(text)
