"""JSON files (a list of cases, or ``{"cases": […]}``) and JSON Lines (a case a line).

JSON is read stricter than Python does: no NaN, no key twice, no half characters. The list of a
JSON file is read case by case, so that each case knows its line.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pytest_llmdeploy.config.sentences import unknown_key
from pytest_llmdeploy.config.text import display_path, read_text
from pytest_llmdeploy.errors import ConfigError, Problem
from pytest_llmdeploy.gates.readers.raw import MAX_BYTES, RawCase, Reading

_SPACE = re.compile(r"[ \t\n\r]*")
_HALF = re.compile(r"\\u[dD][89a-fA-F]")
"""Where a text has this, it may hold half of a surrogate pair."""


def read_json(path: Path) -> Reading:
    """Read a list of cases, or an object with that list under ``cases``."""
    text = read_text(path, MAX_BYTES)
    file = display_path(path)
    scanner = _Scanner(text)
    reading = Reading()
    position, line = 0, 1
    try:
        for start, value in _cases(scanner):
            line += text.count("\n", position, start)
            position = start
            reading.cases.append(RawCase(value, file, line, len(reading.cases) + 1))
    except ValueError as error:
        at = text.count("\n", 0, scanner.position) + 1
        raise ConfigError([Problem(file, at, "", str(error))]) from error
    return reading


def read_json_lines(path: Path) -> Reading:
    """Read a JSON object a line; blank lines don't count."""
    file = display_path(path)
    reading = Reading()
    row = 0
    # Not splitlines(): a JSON text may hold U+2028 and the like.
    for line, text in enumerate(read_text(path, MAX_BYTES).split("\n"), start=1):
        if not text.strip():
            continue
        row += 1
        try:
            value = strict_json(text)
        except ValueError as error:
            reading.problems.append(Problem(file, line, "", str(error)))
        else:
            reading.cases.append(RawCase(value, file, line, row))
    return reading


def strict_json(text: str) -> Any:
    """Return the value of a JSON text; raise ValueError with a sentence for the user."""
    scanner = _Scanner(text)
    value = scanner.value()
    scanner.end()
    return value


def _cases(scanner: _Scanner) -> Iterator[tuple[int, Any]]:
    """Yield each case with its position."""
    first = scanner.peek()
    if first == "[":
        yield from _listed(scanner)
    elif first == "{":
        scanner.take("{")
        if scanner.peek() != "}":
            _only_cases(scanner.value())
            scanner.take(":")
            yield from _listed(scanner)
            if scanner.peek() == ",":
                scanner.take(",")
                _only_cases(scanner.value(), seen=True)
        scanner.take("}")
    else:
        found = "something else" if first else "an empty file"
        raise ValueError(f'expected a list of cases or {{"cases": [...]}}, found {found}')
    scanner.end()


def _only_cases(key: object, *, seen: bool = False) -> None:
    if key != "cases":
        raise ValueError(unknown_key(str(key), ["cases"]))
    if seen:
        raise ValueError("duplicate key 'cases'")


def _listed(scanner: _Scanner) -> Iterator[tuple[int, Any]]:
    scanner.take("[")
    if scanner.peek() != "]":
        while True:
            scanner.peek()
            yield scanner.position, scanner.value()
            if scanner.peek() == "]":
                break
            scanner.take(",")
    scanner.take("]")


class _Scanner:
    """A JSON text and how far it has been read."""

    def __init__(self, text: str) -> None:
        self.position = 0
        self._text = text
        self._halves = _HALF.search(text) is not None

    def peek(self) -> str:
        """Skip space and return the next character; nothing at the end."""
        space = _SPACE.match(self._text, self.position)
        self.position = space.end() if space else self.position
        return self._text[self.position : self.position + 1]

    def take(self, character: str) -> None:
        """Step over the character that must come next."""
        found = self.peek()
        if found != character:
            raise ValueError(
                f"not JSON: expected '{character}', found {repr(found) if found else 'the end'}"
            )
        self.position += 1

    def end(self) -> None:
        """Make sure that nothing follows."""
        if self.peek():
            raise ValueError("not JSON: something follows the value's end")

    def value(self) -> Any:
        """Return the next value, and step over it."""
        self.peek()
        try:
            value, self.position = _DECODER.raw_decode(self._text, self.position)
        except json.JSONDecodeError as error:
            self.position = min(error.pos, len(self._text))
            column = self.position - self._text.rfind("\n", 0, self.position)
            reason = error.msg[0].lower() + error.msg[1:]
            raise ValueError(f"not JSON: {reason} (column {column})") from error
        except RecursionError as error:
            raise ValueError("nested too deeply") from error
        if self._halves:
            try:
                json.dumps(value, ensure_ascii=False).encode()
            except UnicodeEncodeError as error:
                raise ValueError("an escape stands for half a character") from error
        return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"duplicate key '{twice}'")
    return result


def _float(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise ValueError(f"the number {digits[:40]} is too large")
    return value


def _int(digits: str) -> int:
    try:
        return int(digits)
    except ValueError:  # Python refuses to convert thousands of digits
        raise ValueError(f"a number of {len(digits)} digits") from None


def _constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_float=_float, parse_int=_int, parse_constant=_constant
)
