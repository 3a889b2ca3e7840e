"""What services send, made fit to be kept in records and printed on terminals."""

from __future__ import annotations

import json
from typing import Any

SHOWN = 200
"""Characters of a foreign text that a message quotes."""


def read_json(body: bytes) -> Any:
    """Return the JSON value of `body`; raise ValueError, also for NaN and for endless nesting.

    Halves of surrogate pairs, which a model cut off within a character can send, come out as
    ``?``: no file could hold them.
    """
    try:
        value = json.loads(body, parse_constant=_no_number)
        whole = json.dumps(value, ensure_ascii=False)
        try:
            whole.encode()
        except UnicodeEncodeError:
            value = json.loads(whole.encode("utf-8", "replace"))
    except RecursionError as error:
        raise ValueError("the JSON is nested too deeply") from error
    return value


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def one_line(text: str) -> str:
    """Return `text` on one line, short and without what could steer a terminal."""
    text = " ".join(text[: 2 * SHOWN].split())
    text = "".join(char if char.isprintable() else "?" for char in text)
    return text if len(text) <= SHOWN else text[:SHOWN] + "…"
