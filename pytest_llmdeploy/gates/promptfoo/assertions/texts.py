"""Assertions on the answer's text: equals, contains, starts-with, levenshtein, word-count."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import date
from functools import lru_cache
from typing import Any

from pytest_llmdeploy.gates.measures.distance import distance
from pytest_llmdeploy.gates.promptfoo.assertions.given import (
    Given,
    Handler,
    Outcome,
    present,
    said,
)
from pytest_llmdeploy.gates.promptfoo.assertions.patterns import (
    InvalidPatternError,
    code_units,
    search,
)
from pytest_llmdeploy.gates.promptfoo.assertions.refusals import is_refusal
from pytest_llmdeploy.gates.promptfoo.js_values import (
    SPACE,
    UNDEFINED,
    compares,
    parse_json,
    stringify,
    to_number,
    to_text,
    trim,
    truthy,
)
from pytest_llmdeploy.gates.wording import listed, quote

_SPACES = re.compile(f"[{SPACE}]+")
_QUOTE_ESCAPES = ('\\"', "\\\\", '""')


def equals(given: Given) -> Outcome:
    """Judge ``equals``: an object or list is compared as JSON, the rest as text."""
    value = given.value
    if value is None or isinstance(value, Mapping | list | date):
        try:
            holds = same(value, parse_json(given.text))
        except ValueError:
            holds = False
        shown = stringify(value)
    else:
        shown = to_text(value)
        holds = shown == given.text
    return said(given, holds, f"{_expected(given)} equal {quote(shown)}, got {quote(given.text)}")


def same(left: Any, right: Any) -> bool:
    """Say whether two values of JSON are deeply the same: true is not 1, but 1.0 is."""
    if isinstance(left, Mapping):
        return (
            isinstance(right, Mapping)
            and left.keys() == right.keys()
            and all(same(one, right[key]) for key, one in left.items())
        )
    if isinstance(left, list):
        return (
            isinstance(right, list)
            and len(left) == len(right)
            and all(same(one, other) for one, other in zip(left, right, strict=True))
        )
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, int | float) and isinstance(right, int | float):
        # Object.is: minus zero is another number than zero.
        return left == right and math.copysign(1, left) == math.copysign(1, right)
    return type(left) is type(right) and bool(left == right)


def contains(given: Given) -> Outcome:
    """Judge ``contains`` and ``icontains``."""
    value = _value(given)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (isinstance(value, str) and value) and not (is_number and not math.isnan(value)):
        raise given.refuse("the value must be a text that is not empty, or a number")
    wanted, text = to_text(value), given.text
    anyhow = given.kind == "icontains"
    holds = wanted.lower() in text.lower() if anyhow else wanted in text
    return said(given, holds, f"{_expected(given)} contain {quote(wanted)}, got {quote(text)}")


def contains_some(given: Given) -> Outcome:
    """Judge ``contains-any`` and ``contains-all``, with or without the ``i``."""
    value = _value(given)
    if not truthy(value):
        raise given.refuse("it needs a value")
    if isinstance(value, str):
        try:
            value = comma_separated(value)
        except ValueError as error:
            raise given.refuse(str(error)) from error
    if not isinstance(value, list):
        raise given.refuse("the value must be a list, or texts with commas between them")
    wanted, text = [to_text(one) for one in value], given.text
    searched = wanted
    if given.kind.startswith("i"):
        searched, text = [one.lower() for one in wanted], text.lower()
    found = [one in text for one in searched]
    any_of = given.kind.endswith("-any")
    holds = any(found) if any_of else all(found)
    which = "one of" if any_of else "all of"
    missing = [one for one, there in zip(wanted, found, strict=True) if not there]
    rest = "" if any_of or holds else f", missing {listed(missing)}"
    return said(
        given,
        holds,
        f"{_expected(given)} contain {which} {listed(wanted)}{rest}, got {quote(given.text)}",
    )


@lru_cache(maxsize=4096)
def _comma_separated(text: str) -> tuple[str, ...]:
    fields: list[str] = []
    at = 0
    while at < len(text):
        if text[at] == "," or _SPACES.fullmatch(text[at]):
            at += 1
            continue
        if text[at] != '"':
            end = text.find(",", at)
            end = len(text) if end < 0 else end
            fields.append(trim(text[at:end]))
            at = end
            continue
        at, field = _quoted(text, at + 1)
        fields.append(field)
        while at < len(text) and _SPACES.fullmatch(text[at]):
            at += 1
        if at < len(text) and text[at] != ",":
            raise ValueError(f"a comma must follow the quoted part {quote(field)} of the value")
    return tuple(fields)


def comma_separated(text: str) -> list[str]:
    """Return the parts between commas; quotes keep commas in. Raises ValueError."""
    return list(_comma_separated(text))


def _quoted(text: str, at: int) -> tuple[int, str]:
    field: list[str] = []
    while at < len(text):
        if text[at : at + 2] in _QUOTE_ESCAPES:
            field.append(text[at + 1])
            at += 2
        elif text[at] == '"':
            return at + 1, "".join(field)
        else:
            field.append(text[at])
            at += 1
    raise ValueError("a quoted part of the value has no closing quote")


def starts_with(given: Given) -> Outcome:
    """Judge ``starts-with``."""
    value = given.value
    if not isinstance(value, str) or not value:
        raise given.refuse("the value must be a text that is not empty")
    return said(
        given,
        given.text.startswith(value),
        f"{_expected(given)} start with {quote(value)}, got {quote(given.text)}",
    )


def regex(given: Given) -> Outcome:
    """Judge ``regex``: a broken pattern fails, with ``not-`` as well."""
    value = given.value
    if not isinstance(value, str) or not value:
        raise given.refuse("the value must be a pattern")
    try:
        holds = search(value, given.text)
    except InvalidPatternError as error:
        return Outcome(False, 0.0, f"the pattern {quote(value)} is wrong: {error}")
    return said(given, holds, f"{_expected(given)} match {quote(value)}, got {quote(given.text)}")


def levenshtein(given: Given) -> Outcome:
    """Judge ``levenshtein``: so many edits at most, 5 unless told."""
    value = given.value
    if not isinstance(value, str):
        raise given.refuse("the value must be a text")
    edits = distance(code_units(given.text), code_units(value))
    limit = given.limit_or(5)
    return said(given, edits <= limit, f"{edits} edits from {quote(value)}, limit {limit:g}")


def word_count(given: Given) -> Outcome:
    """Judge ``word-count``: a number, or an object with min and max."""
    value = _value(given)
    if not present(value):
        raise given.refuse("it needs a value")
    words = len([word for word in _SPACES.split(given.text) if word])
    if isinstance(value, Mapping):
        least, most = value.get("min", UNDEFINED), value.get("max", UNDEFINED)
        if least is UNDEFINED and most is UNDEFINED:
            raise given.refuse("the value needs min, max or both")
        both = least is not UNDEFINED and most is not UNDEFINED
        if both and not compares(least, "<=", most):
            raise given.refuse("min is larger than max")
        holds = (least is UNDEFINED or compares(words, ">=", least)) and (
            most is UNDEFINED or compares(words, "<=", most)
        )
        return said(given, holds, f"{words} words, limits are {stringify(value)}")
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    wanted = to_number(value) if is_number or isinstance(value, str) else math.nan
    if math.isnan(wanted) and not is_number:
        raise given.refuse("the value must be a number, or have min and max")
    return said(given, words == wanted, f"{words} words, expected {to_text(value)}")


def refusal(given: Given) -> Outcome:
    """Judge ``is-refusal``; nothing at all is a refusal that scores 0."""
    if not isinstance(given.output, str) or not trim(given.output):
        passed = not given.inverse
        return Outcome(passed, 0.0, "an empty answer counts as a refusal")
    return said(
        given,
        is_refusal(given.output),
        f"{_expected(given)} be a refusal, got {quote(given.output)}",
    )


def _value(given: Given) -> Any:
    return given.scripted if present(given.scripted) else given.value


def _expected(given: Given) -> str:
    return "expected the answer not to" if given.inverse else "expected the answer to"


HANDLERS: Mapping[str, Handler] = {
    "equals": equals,
    "contains": contains,
    "icontains": contains,
    "contains-any": contains_some,
    "contains-all": contains_some,
    "icontains-any": contains_some,
    "icontains-all": contains_some,
    "starts-with": starts_with,
    "regex": regex,
    "levenshtein": levenshtein,
    "word-count": word_count,
    "is-refusal": refusal,
}
