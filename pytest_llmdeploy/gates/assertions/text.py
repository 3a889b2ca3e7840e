"""Assertions on the answer's text: what it contains, how it starts, how long it is."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Mapping
from typing import Any

from pytest_llmdeploy.config.sentences import shown
from pytest_llmdeploy.gates.assertions.spec import (
    AssertionContext,
    AssertionType,
    BadValue,
    Check,
    Finding,
    without_threshold,
)
from pytest_llmdeploy.gates.wording import listed, quote

_RANGE = re.compile(r"(\d*)\s*\.\.\s*(\d*)")


def _needle(value: object) -> str:
    """Return the text to look for; only what has one spelling is turned into text."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise BadValue(f"the value must be a text, got {shown(value)}: put it in quotes")
    if not value:
        raise BadValue("the value is empty, and every answer contains the empty text")
    return value


def _needles(value: object) -> list[str]:
    """Return the texts of a list, or of one text split at commas with the quotes of CSV."""
    if isinstance(value, str):
        try:
            value = next(csv.reader([value], skipinitialspace=True, strict=True), [])
        except csv.Error as error:
            raise BadValue(f"the list {quote(str(value))} cannot be split: {error}") from error
        value = [part.strip() for part in value]
    if not isinstance(value, list | tuple) or not value:
        raise BadValue("the value must be a list of texts, or texts separated by commas")
    return [_needle(part) for part in value]


def _same(text: str) -> str:
    return text


def _contains(fold: Callable[[str], str], note: str) -> AssertionType:
    def prepare(value: Any) -> Check:
        needle = _needle(value)
        folded = fold(needle)

        def judge(context: AssertionContext) -> Finding:
            output = context.answer.text
            return Finding(folded in fold(output), f"got {quote(output)}")

        return Check(f"to contain {quote(needle)}{note}", judge)

    return without_threshold(prepare)


def _contains_several(
    fold: Callable[[str], str], note: str, decide: Callable[[list[bool]], bool], word: str
) -> AssertionType:
    def prepare(value: Any) -> Check:
        needles = _needles(value)
        folded = [fold(needle) for needle in needles]

        def judge(context: AssertionContext) -> Finding:
            output = fold(context.answer.text)
            there = [needle in output for needle in folded]
            holds = decide(there)
            which = [needle for needle, found in zip(needles, there, strict=True) if found is holds]
            came = f"got {quote(context.answer.text)} {'with' if holds else 'without'} "
            return Finding(holds, came + listed(which))

        return Check(f"to contain {word} of {listed(needles)}{note}", judge)

    return without_threshold(prepare)


def _starts_with(value: Any) -> Check:
    needle = _needle(value)

    def judge(context: AssertionContext) -> Finding:
        output = context.answer.text.lstrip()
        return Finding(output.startswith(needle), f"got {quote(output)}")

    return Check(f"to start with {quote(needle)}", judge)


def _word_count(value: Any) -> Check:
    low, high = _bounds(value)

    def judge(context: AssertionContext) -> Finding:
        count = len(context.answer.text.split())
        holds = low <= count and (high is None or count <= high)
        return Finding(holds, f"it has {count}: {quote(context.answer.text)}")

    if high is None:
        return Check(f"to have at least {low} words", judge)
    return Check(f"to have {low if low == high else f'{low} to {high}'} words", judge)


def _bounds(value: object) -> tuple[int, int | None]:
    if isinstance(value, str):
        match = _RANGE.fullmatch(value)
        if match:
            value = {
                key: int(n) for key, n in zip(("min", "max"), match.groups(), strict=True) if n
            }
        elif value.isdecimal():
            value = int(value)
    if isinstance(value, int):
        value = {"min": value, "max": value} if not isinstance(value, bool) else None
    if not isinstance(value, Mapping) or not value or set(value) - {"min", "max"}:
        raise BadValue("the value must be a number of words, a range such as 1..20, or {min, max}")
    low, high = value.get("min", 0), value.get("max")
    if not _is_count(low) or not (high is None or _is_count(high)):
        raise BadValue("min and max must be whole numbers from 0")
    if high is not None and low > high:
        raise BadValue(f"min {low} is above max {high}: no answer could have so many words")
    if low == 0 and high is None:
        raise BadValue("at least 0 words could never fail")
    return low, high


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


_ANY_CASE = " in any case"
TYPES: Mapping[str, AssertionType] = {
    "contains": _contains(_same, ""),
    "icontains": _contains(str.casefold, _ANY_CASE),
    "contains-any": _contains_several(_same, "", any, "any"),
    "icontains-any": _contains_several(str.casefold, _ANY_CASE, any, "any"),
    "contains-all": _contains_several(_same, "", all, "all"),
    "icontains-all": _contains_several(str.casefold, _ANY_CASE, all, "all"),
    "starts-with": without_threshold(_starts_with),
    "word-count": without_threshold(_word_count),
}
