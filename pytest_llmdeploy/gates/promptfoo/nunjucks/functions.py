"""Properties and methods of values, and the functions that templates can call."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from pytest_llmdeploy.gates.promptfoo.js_values import (
    UNDEFINED,
    added,
    compares,
    joined,
    number_text,
    strictly_equal,
    to_number,
    to_text,
    trim,
    truthy,
)
from pytest_llmdeploy.gates.promptfoo.nunjucks.lexer import TemplateError
from pytest_llmdeploy.gates.promptfoo.nunjucks.limits import MOST_CHARACTERS, MOST_ITEMS

_UNKNOWN = frozenset(
    [
        "at",
        "charCodeAt",
        "codePointAt",
        "constructor",
        "entries",
        "every",
        "filter",
        "find",
        "findIndex",
        "findLast",
        "flat",
        "flatMap",
        "forEach",
        "hasOwnProperty",
        "keys",
        "localeCompare",
        "map",
        "match",
        "matchAll",
        "normalize",
        "pop",
        "push",
        "reduce",
        "search",
        "shift",
        "some",
        "sort",
        "splice",
        "test",
        "toLocaleString",
        "toLocaleUpperCase",
        "toLocaleLowerCase",
        "unshift",
        "valueOf",
        "values",
    ]
)
"""Methods that exist in JavaScript and not here: a text without them would be another one."""


def member(target: Any, key: Any, *, safe: bool = True) -> Any:  # noqa: PLR0911 - a kind of value a line
    """Return the property `key`; UNDEFINED where there is none.

    Without `safe` a property of nothing is a TemplateError. So is a method that is not known here.
    """
    if target is None or target is UNDEFINED:
        if safe:
            return UNDEFINED
        raise TemplateError("a loop over pairs meets an item that is nothing")
    name = to_text(key)
    if isinstance(target, Mapping):
        if name in target:
            return target[name]
        return _method(name, {"toString": lambda: to_text(target)})
    if isinstance(target, str):
        return _of_text(target, name)
    if isinstance(target, list):
        return _of_list(target, name)
    if isinstance(target, bool):
        return _method(name, {"toString": lambda: to_text(target)})
    if isinstance(target, int | float):
        methods = {"toString": lambda: number_text(target), "toFixed": _fixed(target)}
        return _method(name, methods)
    return UNDEFINED


def units(text: str) -> str:
    """Return the text with a character for each of its UTF-16 units."""
    if not text or max(text) <= "\uffff":
        return text
    raw = text.encode("utf-16-le", "surrogatepass")
    return "".join(chr(raw[at] | raw[at + 1] << 8) for at in range(0, len(raw), 2))


def whole(text: str) -> str:
    """Return the text of such units; half a character becomes U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _method(name: str, methods: Mapping[str, Callable[..., Any]]) -> Any:
    if name in methods:
        return methods[name]
    if name in _UNKNOWN:
        raise TemplateError(f"the method '{name}' is not supported in templates")
    return UNDEFINED


def _of_text(text: str, name: str) -> Any:
    if name == "length":
        return len(units(text))
    if name.isdecimal():
        found = units(text)[int(name) : int(name) + 1] if len(name) < 10 else ""
        return whole(found) if found else UNDEFINED
    methods: dict[str, Callable[..., Any]] = {
        "toUpperCase": text.upper,
        "toLowerCase": text.lower,
        "trim": lambda: trim(text),
        "trimStart": text.lstrip,
        "trimEnd": text.rstrip,
        "toString": lambda: text,
        "split": lambda separator=UNDEFINED, limit=UNDEFINED: _split(text, separator, limit),
        "includes": lambda part: to_text(part) in text,
        "startsWith": lambda part: text.startswith(to_text(part)),
        "endsWith": lambda part: text.endswith(to_text(part)),
        "indexOf": lambda part: units(text).find(units(to_text(part))),
        "lastIndexOf": lambda part: units(text).rfind(units(to_text(part))),
        "slice": lambda *range_: whole(units(text)[_range(len(units(text)), *range_)]),
        "substring": lambda *range_: whole(_substring(units(text), *range_)),
        "substr": lambda start, count=UNDEFINED: whole(_substr(units(text), start, count)),
        "replace": lambda old, new: text.replace(_plain_text(old), _plain_text(new), 1),
        "replaceAll": lambda old, new: text.replace(_plain_text(old), _plain_text(new)),
        "repeat": lambda count: _repeat(text, to_number(count)),
        "padStart": lambda width, fill=" ": _padding(text, width, to_text(fill)) + text,
        "padEnd": lambda width, fill=" ": text + _padding(text, width, to_text(fill)),
        "charAt": lambda at=0: whole(units(text)[_index(at) : _index(at) + 1]),
        "concat": lambda *others: text + "".join(map(to_text, others)),
    }
    return _method(name, methods)


def _of_list(items: list[Any], name: str) -> Any:
    if name == "length":
        return len(items)
    if name.isdecimal():
        return items[int(name)] if len(name) < 10 and int(name) < len(items) else UNDEFINED
    methods: dict[str, Callable[..., Any]] = {
        "join": lambda separator=",": joined(items, to_text(separator)),
        "toString": lambda: joined(items, ","),
        "includes": lambda one: any(strictly_equal(item, one) for item in items),
        "indexOf": lambda one: next(
            (at for at, item in enumerate(items) if strictly_equal(item, one)), -1
        ),
        "slice": lambda *range_: items[_range(len(items), *range_)],
        "concat": lambda *others: _concat(items, others),
        "reverse": lambda: items[::-1],
    }
    return _method(name, methods)


def _plain_text(value: Any) -> str:
    if not isinstance(value, str) or "$" in value:
        raise TemplateError("replace takes plain texts without '$' in templates")
    return value


def _split(text: str, separator: Any, limit: Any) -> list[str]:
    most = len(text) + 1 if limit is UNDEFINED else max(0, _index(limit))
    if separator is UNDEFINED:
        return [text][:most]
    parts = list(units(text)) if to_text(separator) == "" else text.split(to_text(separator))
    return parts[:most]


def _index(value: Any) -> int:
    number = to_number(value)
    return int(number) if math.isfinite(number) else (MOST_ITEMS if number > 0 else 0)


def _range(length: int, start: Any = 0, end: Any = UNDEFINED) -> slice:
    stop = length if end is UNDEFINED else _index(end)
    begin = _index(start)
    begin = max(0, length + begin) if begin < 0 else begin
    return slice(begin, max(0, length + stop) if stop < 0 else stop)


def _substring(text: str, start: Any = 0, end: Any = UNDEFINED) -> str:
    ends = (max(0, _index(start)), len(text) if end is UNDEFINED else max(0, _index(end)))
    return text[min(ends) : max(ends)]


def _substr(text: str, start: Any, count: Any) -> str:
    begin = _index(start)
    begin = max(0, len(text) + begin) if begin < 0 else begin
    return text[begin : len(text) if count is UNDEFINED else begin + max(0, _index(count))]


def _repeat(text: str, count: float) -> str:
    if not 0 <= count < MOST_CHARACTERS or len(text) * count > MOST_CHARACTERS:
        raise TemplateError(f"a text has more than {MOST_CHARACTERS} characters")
    return text * int(count)


def _padding(text: str, width: Any, fill: str) -> str:
    missing = min(_index(width), MOST_CHARACTERS) - len(units(text))
    return (fill * (missing // len(fill) + 1))[:missing] if fill and missing > 0 else ""


def _fixed(number: float) -> Callable[..., str]:
    def fixed(digits: Any = 0) -> str:
        places = _index(digits)
        if not 0 <= places <= 100 or not math.isfinite(number) or abs(number) >= 1e21:
            raise TemplateError("toFixed takes 0 to 100 digits of a number below 1e21")
        from decimal import ROUND_HALF_UP, Decimal, localcontext

        with localcontext() as context:
            context.prec = 400
            step = Decimal(1).scaleb(-places)
            return f"{Decimal(number).quantize(step, rounding=ROUND_HALF_UP):f}"

    return fixed


def _concat(items: list[Any], others: tuple[Any, ...]) -> list[Any]:
    result = list(items)
    for other in others:
        result += other if isinstance(other, list) else [other]
    return result


def _numbers(start: Any, stop: Any = UNDEFINED, step: Any = UNDEFINED) -> list[Any]:
    if stop is UNDEFINED:
        start, stop, step = 0, start, 1
    elif not truthy(step):
        step = 1
    found: list[Any] = []
    up = compares(step, ">", 0)
    while compares(start, "<" if up else ">", stop):
        found.append(start)
        start = added(start, step)
        if len(found) > MOST_ITEMS:
            raise TemplateError(f"a list has more than {MOST_ITEMS} items")
    return found


def _joiner(separator: Any = UNDEFINED) -> Callable[[], Any]:
    parts = iter([""])
    return lambda: next(parts, separator if truthy(separator) else ",")


def _cycler(*items: Any) -> dict[str, Any]:
    cycle: dict[str, Any] = {"current": None}
    place = -1

    def following() -> Any:
        nonlocal place
        place = (place + 1) % len(items) if items else -1
        cycle["current"] = items[place] if items else UNDEFINED
        return cycle["current"]

    def reset() -> None:
        nonlocal place
        place = -1
        cycle["current"] = None

    cycle.update({"next": following, "reset": reset})
    return cycle


GLOBALS: Mapping[str, Any] = {"range": _numbers, "joiner": _joiner, "cycler": _cycler}
