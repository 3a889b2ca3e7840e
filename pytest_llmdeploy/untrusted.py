"""What services send, made fit to be kept in records and printed on terminals."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

SHOWN = 200
"""Characters of a foreign text that a message quotes."""


def read_json(body: bytes) -> Any:
    """Return the JSON value of `body`; raise ValueError, also for NaN and endless nesting.

    Halves of surrogate pairs, which a model cut off within a character can send, come out as
    ``?``: no file could hold them.
    """
    try:
        value = json.loads(body, parse_constant=_no_number, parse_float=_finite)
        whole = json.dumps(value, ensure_ascii=False)
        try:
            whole.encode()
        except UnicodeEncodeError:
            value = json.loads(whole.encode("utf-8", "replace"))
    except RecursionError as error:
        raise ValueError("the JSON is nested too deeply") from error
    return value


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        _no_number(text)
    return value


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def one_line(text: str) -> str:
    """Return `text` on one line, short and without what could steer a terminal."""
    text = " ".join(text[: 2 * SHOWN].split())
    text = "".join(char if char.isprintable() else "?" for char in text)
    return text if len(text) <= SHOWN else text[:SHOWN] + "…"
