"""Searches with a deadline, as a pattern and an answer can take for ever together; regex."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from pytest_llmdeploy.errors import MissingExtraError
from pytest_llmdeploy.gates.assertions.spec import (
    AssertionContext,
    AssertionType,
    BadValue,
    Check,
    Finding,
    NotEvaluable,
    without_threshold,
)
from pytest_llmdeploy.gates.wording import quote

REGEX_TIMEOUT = 1.0
"""Seconds until a search is given up and the assertion is not evaluable."""
_FLAGS = "imsx"


def search(kind: str, pattern: str, text: str, flags: str = "") -> bool:
    """Return whether `text` matches; raise NotEvaluable when REGEX_TIMEOUT does not suffice.

    `kind` is the assertion's type, for the message. Raises BadValue for what is no pattern.
    """
    try:
        return _compiled(pattern, flags).search(text, timeout=REGEX_TIMEOUT) is not None
    except TimeoutError as error:
        raise NotEvaluable(
            f"{kind}: the pattern {quote(pattern)} was not decided within {REGEX_TIMEOUT:g} s"
            f" on a text of {len(text)} characters; make it simpler"
        ) from error


@lru_cache(maxsize=4096)
def _compiled(pattern: str, flags: str) -> Any:
    try:
        import regex  # type: ignore[import-untyped]
    except ImportError as error:
        raise MissingExtraError("quality gates", "gates", "regex") from error
    try:
        return regex.compile(f"(?{flags}){pattern}" if flags else pattern)
    except regex.error as error:
        raise BadValue(f"the pattern {quote(pattern)} is wrong: {error.msg}") from error


def _regex(value: Any) -> Check:
    flags = ""
    if isinstance(value, Mapping):
        if set(value) - {"pattern", "flags"}:
            raise BadValue("the value must be a pattern, or {pattern, flags}")
        flags, value = value.get("flags") or "", value.get("pattern")
        if not isinstance(flags, str) or set(flags) - set(_FLAGS):
            raise BadValue(f"flags must be letters out of '{_FLAGS}', not {flags!r}")
    if not isinstance(value, str) or not value:
        raise BadValue("it needs a pattern as its value")
    _compiled(value, flags)

    def judge(context: AssertionContext) -> Finding:
        output = context.answer.text
        return Finding(search("regex", value, output, flags), f"got {quote(output)}")

    return Check(f"to match {quote(value)}", judge)


TYPES: Mapping[str, AssertionType] = {"regex": without_threshold(_regex)}
