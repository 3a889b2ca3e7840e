"""The filters and tests of templates, by name."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from functools import cmp_to_key
from typing import Any

from pytest_llmdeploy.gates.promptfoo.js_values import (
    UNDEFINED,
    added,
    compares,
    joined,
    parse_json,
    plain,
    strictly_equal,
    stringify,
    to_number,
    to_text,
    trim,
    truthy,
)
from pytest_llmdeploy.gates.promptfoo.nunjucks import text_filters
from pytest_llmdeploy.gates.promptfoo.nunjucks.functions import member, units, whole
from pytest_llmdeploy.gates.promptfoo.nunjucks.lexer import TemplateError
from pytest_llmdeploy.gates.promptfoo.nunjucks.limits import MOST_ITEMS
from pytest_llmdeploy.gates.promptfoo.nunjucks.predicates import TESTS

_FLOAT = re.compile(r"[+-]?(?:Infinity|\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)")


def _keywords(value: Any) -> Mapping[str, Any]:
    return value if type(value).__name__ == "Keywords" else {}


def _named(names: str, given: tuple[Any, ...]) -> list[Any]:
    """Return arguments that may be given by place or by name, in the order of `names`."""
    keywords = _keywords(given[-1]) if given else {}
    places = given[:-1] if keywords else given
    order = names.split()
    return [
        places[at] if at < len(places) else keywords.get(name, UNDEFINED)
        for at, name in enumerate(order)
    ]


def _attribute(value: Any, path: Any) -> Any:
    parts = path.split(".") if isinstance(path, str) else [path]
    for part in parts:
        value = member(value, part)
    return value


def _listed(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError("no list")
    return value


def _default(value: Any, other: Any = UNDEFINED, boolean: Any = UNDEFINED) -> Any:
    if truthy(boolean):
        return value if truthy(value) else other
    return other if value is UNDEFINED else value


def _few(count: Any) -> int:
    """Return a number of items to make; raise TemplateError for more than a list may have."""
    number = int(to_number(count))
    if number > MOST_ITEMS:
        raise TemplateError(f"a list has more than {MOST_ITEMS} items")
    return number


def _batch(items: Any, count: Any, fill: Any = UNDEFINED) -> list[Any]:
    items = list(items) if isinstance(items, str) else _listed(items)
    size = _few(count)
    rows = [list(items[at : at + size]) for at in range(0, len(items), size)]
    if rows and truthy(fill):
        rows[-1] += [fill] * (size - len(rows[-1]))
    return rows


def _dictsort(value: Any, case_sensitive: Any = UNDEFINED, by: Any = UNDEFINED) -> list[Any]:
    if not isinstance(value, Mapping):
        raise TemplateError("dictsort needs an object")
    place = {"key": 0, "value": 1}.get("key" if by is UNDEFINED else to_text(by))
    if place is None:
        raise TemplateError("dictsort sorts by 'key' or by 'value'")

    def key(pair: list[Any]) -> Any:
        one = pair[place]
        return one.upper() if isinstance(one, str) and not truthy(case_sensitive) else one

    def order(left: list[Any], right: list[Any]) -> int:
        one, other = key(left), key(right)
        if compares(one, ">", other):
            return 1
        return 0 if strictly_equal(one, other) else -1

    return sorted(([name, one] for name, one in value.items()), key=cmp_to_key(order))


def _dump(value: Any, spaces: Any = UNDEFINED) -> Any:
    if value is UNDEFINED or callable(value):
        return UNDEFINED
    if isinstance(spaces, str):
        raise TemplateError("dump takes a number of spaces")
    number = 0 if spaces is UNDEFINED or spaces is None else to_number(spaces)
    return stringify(value, int(min(max(number, 0), 10)))


def _first(items: Any) -> Any:
    return _element(items, 0)


def _last(items: Any) -> Any:
    return _element(items, (len(units(items)) if isinstance(items, str) else len(items)) - 1)


def _element(items: Any, at: int) -> Any:
    if not isinstance(items, str | list):
        raise TypeError("no list")
    return member(items, at) if at >= 0 else UNDEFINED


def _groupby(items: Any, path: Any) -> dict[str, list[Any]]:
    groups: dict[str, list[Any]] = {}
    for item in items:
        groups.setdefault(to_text(_attribute(item, path)), []).append(item)
    return groups


def _join(items: Any, separator: Any = UNDEFINED, path: Any = UNDEFINED) -> str:
    if not isinstance(items, list):
        raise TypeError("no list")
    if truthy(path):
        items = [member(item, path, safe=False) for item in items]
    return joined(items, to_text(separator) if truthy(separator) else "")


def _length(value: Any) -> Any:
    if value is None or value is UNDEFINED or value is False:
        return 0
    if isinstance(value, str):
        return len(units(value))
    return len(value) if isinstance(value, list | Mapping) else UNDEFINED


def _list(value: Any) -> list[Any]:
    if isinstance(value, str):
        return list(units(value))
    if isinstance(value, Mapping):
        return [{"key": key, "value": one} for key, one in value.items()]
    if isinstance(value, list):
        return value
    raise TemplateError("list needs a text, an object or a list")


def _reverse(value: Any) -> Any:
    return whole(units(value)[::-1]) if isinstance(value, str) else value[::-1]


def _round(value: Any, digits: Any = UNDEFINED, method: Any = UNDEFINED) -> float:
    factor = math.pow(10, to_number(digits) if truthy(digits) else 0)
    scaled = to_number(value) * factor
    if not math.isfinite(scaled):
        return scaled
    ways: dict[Any, Callable[[float], float]] = {"ceil": math.ceil, "floor": math.floor}
    rounded = ways[method](scaled) if method in ways else math.floor(scaled + 0.5)
    return plain(rounded / factor)


def _select(keep: bool) -> Callable[..., list[Any]]:
    def select(items: Any, name: Any = "truthy", argument: Any = UNDEFINED) -> list[Any]:
        test = TESTS.get(to_text(name))
        if test is None:
            raise TemplateError(f"there is no test '{to_text(name)}'")
        more = () if argument is UNDEFINED else (argument,)
        return [item for item in _listed(items) if (test(item, *more) is True) is keep]

    return select


def _slice(items: Any, slices: Any, fill: Any = UNDEFINED) -> list[Any]:
    count = _few(slices)
    size, extra = divmod(len(_listed(items)), count)
    result, start = [], 0
    for at in range(count):
        end = start + size + (at < extra)
        part = list(items[start:end])
        if truthy(fill) and at >= extra:
            part.append(fill)
        result.append(part)
        start = end
    return result


def _sort(items: Any, *given: Any) -> list[Any]:
    backwards, case_sensitive, path = _named("reverse case_sensitive attribute", given)

    def key(item: Any) -> Any:
        return _attribute(item, path) if truthy(path) else item

    def order(left: Any, right: Any) -> int:
        one, other = key(left), key(right)
        if not truthy(case_sensitive) and isinstance(one, str) and isinstance(other, str):
            one, other = one.lower(), other.lower()
        if compares(one, "<", other):
            return 1 if truthy(backwards) else -1
        if compares(one, ">", other):
            return -1 if truthy(backwards) else 1
        return 0

    return sorted(_listed(items), key=cmp_to_key(order))


def _sum(items: Any, path: Any = UNDEFINED, start: Any = 0) -> Any:
    total: Any = 0
    for item in _listed(items):
        total = added(total, member(item, path, safe=False) if truthy(path) else item)
    return added(start, total)


def _float(value: Any, other: Any = UNDEFINED) -> Any:
    found = _FLOAT.match(trim(to_text(value)))
    return other if found is None else to_number(found.group())


def _int(value: Any, *given: Any) -> Any:
    other, base = _named("default base", given)
    radix = 10 if base is UNDEFINED else int(to_number(base))
    digits = "0123456789abcdefghijklmnopqrstuvwxyz"[:radix]
    prefix = "(?:0x(?=[0-9a-f]))?" if radix == 16 else ""
    pattern = rf"([+-]?){prefix}([{digits}]+)"
    found = re.match(pattern, trim(to_text(value)), re.IGNORECASE)
    if found is None:
        return other
    return plain(float(int(found[1] + found[2][:300], radix)))


def _load(value: Any) -> Any:
    try:
        return parse_json(to_text(value))
    except ValueError as error:
        raise TemplateError(f"load: not JSON: {error}") from error


def _not_offered(name: str) -> Callable[..., Any]:
    def refuse(*_: Any) -> Any:
        raise TemplateError(f"the filter '{name}' is not supported")

    return refuse


FILTERS: Mapping[str, Callable[..., Any]] = {
    "abs": lambda value: plain(abs(to_number(value))),
    "batch": _batch,
    "capitalize": text_filters.capitalize,
    "center": text_filters.center,
    "d": _default,
    "default": _default,
    "dictsort": _dictsort,
    "dump": _dump,
    "e": text_filters.escape,
    "escape": text_filters.escape,
    "first": _first,
    "float": _float,
    "forceescape": text_filters.escape,
    "groupby": _groupby,
    "indent": text_filters.indent,
    "int": _int,
    "join": _join,
    "last": _last,
    "length": _length,
    "list": _list,
    "load": _load,
    "lower": lambda value: text_filters.as_text(value).lower(),
    "nl2br": text_filters.nl2br,
    "random": _not_offered("random"),  # two runs would ask different questions
    "reject": _select(keep=False),
    "rejectattr": lambda items, name: [one for one in items if not truthy(member(one, name))],
    "replace": text_filters.replace,
    "reverse": _reverse,
    "round": _round,
    "safe": lambda value: "" if value is None or value is UNDEFINED else to_text(value),
    "select": _select(keep=True),
    "selectattr": lambda items, name: [one for one in items if truthy(member(one, name))],
    "slice": _slice,
    "sort": _sort,
    "string": text_filters.string,
    "striptags": text_filters.striptags,
    "sum": _sum,
    "title": text_filters.title,
    "trim": text_filters.trimmed,
    "truncate": text_filters.truncate,
    "upper": lambda value: text_filters.as_text(value).upper(),
    "urlencode": text_filters.urlencode,
    "urlize": _not_offered("urlize"),
    "wordcount": text_filters.wordcount,
    # What the parser makes of the operators // and **; no template can write these names.
    "floor of": lambda value: plain(math.floor(value)) if math.isfinite(value) else value,
    "power of": lambda left, right: _power(to_number(left), to_number(right)),
}


def _power(left: float, right: float) -> float:
    if math.isnan(right) or (abs(left) == 1 and math.isinf(right)):
        return math.nan
    try:
        return plain(math.pow(left, right))
    except (OverflowError, ValueError):
        return math.nan if left < 0 else math.inf
