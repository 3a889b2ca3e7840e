"""Values as JavaScript has them: how they print, compare and add up. Pure.

A value is what JSON and YAML give (None is null), a date, or UNDEFINED.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Final

from pytest_llmdeploy.gates.measures import spaces

MOST_EXACT: Final = 2**53
"""Whole numbers beyond it are rounded, as all numbers are doubles there."""
MOST_CHARACTERS: Final = 40_000_000
"""Of one value's text: a list that holds another twice, again and again, would fill any memory."""
_PART = 40
"""Characters that a part of a list or object counts as, whatever it is."""
SPACE: Final = spaces.SPACE
"""What ``\\s`` stands for, as the inside of a character class."""
_INDEX = re.compile(r"0|[1-9]\d{0,8}")
_DECIMAL = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_BASES = {"0x": 16, "0o": 8, "0b": 2}


class Undefined:
    """The type of UNDEFINED."""

    def __repr__(self) -> str:
        return "undefined"

    def __bool__(self) -> bool:
        return False


UNDEFINED: Final = Undefined()
"""What a missing variable or property is."""


trim = spaces.trim


def ordered(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of these properties: keys that are indices come first, by number."""
    whole = dict(pairs)
    indices = sorted((key for key in whole if _INDEX.fullmatch(key)), key=int)
    if not indices:
        return whole
    first = {key: whole[key] for key in indices}
    return {**first, **{key: value for key, value in whole.items() if key not in first}}


def truthy(value: Any) -> bool:
    """Say whether a condition holds: lists and objects always do, even empty ones."""
    if isinstance(value, float):
        return value != 0 and not math.isnan(value)
    if isinstance(value, str | int):
        return bool(value)
    return value is not None and value is not UNDEFINED


def number_text(number: float) -> str:  # noqa: PLR0911 - a kind of value a line
    """Return a number as JavaScript prints it: 1.0 is "1", 1e-7 stays "1e-7"."""
    if isinstance(number, int):
        if abs(number) <= MOST_EXACT:
            return str(number)
        number = _double(number)
    if math.isnan(number):
        return "NaN"
    if math.isinf(number):
        return "Infinity" if number > 0 else "-Infinity"
    if number == 0:
        return "0"
    sign = "-" if number < 0 else ""
    _, numerals, exponent = Decimal(repr(abs(number))).as_tuple()
    digits = "".join(map(str, numerals))
    point = len(digits) + int(exponent)
    digits = digits.rstrip("0")
    if len(digits) <= point <= 21:
        return f"{sign}{digits.ljust(point, '0')}"
    if 0 < point <= 21:
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    rest = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{sign}{digits[0]}{rest}e{point - 1:+d}"


def to_text(value: Any) -> str:  # noqa: PLR0911 - a kind of value a line
    """Return what String(value) is."""
    if isinstance(value, str):
        return value
    if value is None:
        return "null"
    if value is UNDEFINED:
        return "undefined"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return number_text(value)
    if isinstance(value, list | tuple):
        return joined(value, ",")
    if isinstance(value, date):
        return _iso(value)
    return "[object Object]"


def joined(items: Sequence[Any], separator: str) -> str:
    """Return what items.join(separator) is: null and undefined leave nothing.

    Raises ValueError where that is too long.
    """
    _check_size(items, len(separator))
    return _joined(items, separator)


def _joined(items: Sequence[Any], separator: str) -> str:
    return separator.join(
        ""
        if item is None or item is UNDEFINED
        else _joined(item, ",")
        if isinstance(item, list | tuple)
        else to_text(item)
        for item in items
    )


def _check_size(value: Any, between: int = 0) -> None:
    """Raise ValueError where the text of a value would be too long."""
    left = MOST_CHARACTERS
    waiting = [value]
    while waiting:
        one = waiting.pop()
        left -= _PART + between + (len(one) if isinstance(one, str) else 0)
        if left < 0:
            raise ValueError(f"a value has more than {MOST_CHARACTERS} characters")
        if isinstance(one, list | tuple):
            waiting.extend(one[: left // _PART + 1])
        elif isinstance(one, Mapping):
            waiting.extend(one.values())


def to_number(value: Any) -> float:  # noqa: PLR0911 - a kind of value a line
    """Return what Number(value) is; NaN where it is none."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int | float):
        return value
    if value is None:
        return 0
    if isinstance(value, list | tuple):
        value = to_text(value)
    if not isinstance(value, str):
        return math.nan
    text = trim(value)
    if not text:
        return 0
    if _DECIMAL.fullmatch(text):
        return plain(float(text))
    if text.lstrip("+-") == "Infinity" and len(text) <= 9:
        return -math.inf if text.startswith("-") else math.inf
    base = _BASES.get(text[:2].lower())
    try:
        return plain(_double(int(text[2:], base))) if base and "_" not in text else math.nan
    except ValueError:
        return math.nan


def plain(number: float) -> float:
    """Return a whole number as an int where that is exact."""
    whole = math.isfinite(number) and number == int(number) and abs(number) <= MOST_EXACT
    return int(number) if whole else float(number)


def strictly_equal(left: Any, right: Any) -> bool:
    """Return what left === right is: objects are equal to themselves only."""
    if _is_number(left) and _is_number(right):
        return bool(left == right)
    if isinstance(left, str) and isinstance(right, str):
        return left == right
    if isinstance(left, bool) and isinstance(right, bool):
        return left is right
    return left is right


def loosely_equal(left: Any, right: Any) -> bool:
    """Return what left == right is: numbers and texts are compared as numbers."""
    nothing = (None, UNDEFINED)
    if any(left is one for one in nothing) or any(right is one for one in nothing):
        return any(left is one for one in nothing) and any(right is one for one in nothing)
    if _is_object(left) and _is_object(right):
        return left is right
    if isinstance(left, str) and isinstance(right, str):
        return left == right
    if _is_object(left):
        return loosely_equal(to_text(left), right)
    if _is_object(right):
        return loosely_equal(left, to_text(right))
    return to_number(left) == to_number(right)


def compares(left: Any, operator: str, right: Any) -> bool:
    """Return what ``<``, ``>``, ``<=`` or ``>=`` says: texts by letter, the rest as numbers."""
    left, right = (to_text(side) if _is_object(side) else side for side in (left, right))
    if not (isinstance(left, str) and isinstance(right, str)):
        left, right = to_number(left), to_number(right)
    if operator == "<":
        return bool(left < right)
    if operator == ">":
        return bool(left > right)
    return bool(left <= right) if operator == "<=" else bool(left >= right)


def added(left: Any, right: Any) -> Any:
    """Return what left + right is: texts are joined, the rest added."""
    left, right = (to_text(side) if _is_object(side) else side for side in (left, right))
    if isinstance(left, str) or isinstance(right, str):
        return to_text(left) + to_text(right)
    return plain(to_number(left) + to_number(right))


def parse_json(text: str) -> Any:
    """Return what JSON.parse gives; raise ValueError."""
    try:
        value = json.loads(
            text,
            object_pairs_hook=ordered,
            parse_int=_integer,
            parse_constant=_refused,
        )
        if re.search(r"\\u[dD][89a-fA-F]", text):
            # Half a character cannot be written to any file or socket.
            whole = json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")
            value = json.loads(whole, object_pairs_hook=ordered)
    except RecursionError as error:
        raise ValueError("the JSON is nested too deeply") from error
    return value


def stringify(value: Any, indent: int = 0) -> str:
    """Return what JSON.stringify gives; "undefined" for what has no JSON.

    Raises ValueError for what is nested too deeply or too long.
    """
    _check_size(value)
    try:
        return _written(value, " " * indent, "\n" if indent else "")
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _written(value: Any, step: str, line: str) -> str:
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, float) and not math.isfinite(value):
        return "null"
    if isinstance(value, date):
        return f'"{_iso(value)}"'
    inner = line + step if line else ""
    if isinstance(value, list | tuple):
        parts = ["null" if _no_json(one) else _written(one, step, inner) for one in value]
        return _bracketed("[]", parts, inner, line)
    if isinstance(value, Mapping):
        colon = ": " if line else ":"
        parts = [
            f"{json.dumps(str(key), ensure_ascii=False)}{colon}{_written(one, step, inner)}"
            for key, one in value.items()
            if not _no_json(one)
        ]
        return _bracketed("{}", parts, inner, line)
    return "undefined" if _no_json(value) else to_text(value)


def _bracketed(brackets: str, parts: list[str], inner: str, line: str) -> str:
    if not parts:
        return brackets
    return f"{brackets[0]}{inner}{f',{inner}'.join(parts)}{line}{brackets[1]}"


def _no_json(value: Any) -> bool:
    return value is UNDEFINED or callable(value)


def _iso(value: date) -> str:
    if not isinstance(value, datetime):
        return f"{value.isoformat()}T00:00:00.000Z"
    moment = value.astimezone(UTC) if value.tzinfo else value
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_object(value: Any) -> bool:
    return isinstance(value, Mapping | list | tuple | date) or callable(value)


def _double(number: int) -> float:
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def _integer(digits: str) -> float:
    if digits == "-0":
        return -0.0
    return int(digits) if len(digits) < 16 else plain(float(digits))


def _refused(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
