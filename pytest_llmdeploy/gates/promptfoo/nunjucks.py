"""Nunjucks templates of promptfoo configs, on top of Jinja2's sandbox."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class TemplateError(ValueError):
    """The template cannot be filled in; the text says why."""


def render(text: str, variables: Mapping[str, Any]) -> str:
    """Return `text` with `variables` filled in; raise TemplateError."""
    raise TemplateError("templates are not rendered yet")
