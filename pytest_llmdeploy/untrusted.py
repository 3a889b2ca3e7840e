"""What services send, made fit to be kept in records and printed on terminals."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

SHOWN = 200
"""Characters of a foreign text that a message quotes."""
LONGEST_ANSWER = 1024 * 1024
"""Bytes of one answer that are read; what a chat model writes is far shorter."""
TOO_LONG = "the answer is longer than 1 MiB"
MOST_LEVELS = 20
"""Lists and mappings inside each other that are kept of what a service sends beside its answer."""
TOO_DEEP = f"(left out: nested more than {MOST_LEVELS} levels deep)"


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


def shallow(value: Any, levels: int = MOST_LEVELS) -> Any:
    """Return a JSON value with `TOO_DEEP` in the place of what is nested deeper than `levels`.

    What is read with little recursion may be too deep for whoever copies or writes it later.
    """
    if not isinstance(value, dict | list):
        return value
    if not levels:
        return TOO_DEEP
    if isinstance(value, dict):
        return {key: shallow(item, levels - 1) for key, item in value.items()}
    return [shallow(item, levels - 1) for item in value]


def one_line(text: str) -> str:
    """Return `text` on one line, short and without what could steer a terminal."""
    text = " ".join(text[: 2 * SHOWN].split())
    text = "".join(char if char.isprintable() else "?" for char in text)
    return text if len(text) <= SHOWN else text[:SHOWN] + "…"
