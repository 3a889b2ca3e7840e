"""How texts from models and data sets appear inside our sentences."""

from __future__ import annotations

import json
from collections.abc import Iterable

SHOWN_LENGTH = 200
"""Longest quotation of an answer, in characters; the middle of a longer one is left out."""


def quote(text: str, limit: int = SHOWN_LENGTH) -> str:
    """Return `text` in quotes on one line, its middle left out when it is long.

    Lone surrogates, which a model cut off within a character can send, come out as ``?``, and
    what could steer a terminal or turn the reading direction as its escape.
    """
    quoted = json.dumps(
        middle_cut(text, limit).encode("utf-8", "replace").decode(), ensure_ascii=False
    )
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in quoted)


def middle_cut(text: str, limit: int = SHOWN_LENGTH) -> str:
    """Return `text`, its middle left out when it is longer than `limit` characters."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]} … {text[-half:]}"


def listed(words: Iterable[str]) -> str:
    """Return ``"a", "b"``."""
    return ", ".join(quote(word) for word in words)
