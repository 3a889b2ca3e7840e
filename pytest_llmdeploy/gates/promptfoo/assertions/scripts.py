"""Assertions that are code: python, and javascript; what code may return, and what it means."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from pytest_llmdeploy.gates.promptfoo import code
from pytest_llmdeploy.gates.promptfoo.assertions.given import Given, Handler, Outcome
from pytest_llmdeploy.gates.promptfoo.js_values import UNDEFINED, parse_json, stringify, to_text
from pytest_llmdeploy.gates.wording import quote
from pytest_llmdeploy.untrusted import one_line

_SNAKE = {"pass_": "pass", "named_scores": "namedScores", "component_results": "componentResults"}
_OBJECTS = ("namedScores", "namedScoreWeights", "tokensUsed")
_FLOAT = re.compile(r"\s*([+-]?(?:Infinity|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?))")


def python(given: Given) -> Outcome:
    """Judge ``python``: what raises fails, with ``not-`` as well."""

    def run(source: str, context: Any) -> Any:
        return code.python_text("python", source, [given.output, context], given.row)

    return _judged("python", given, run, of_script)


def javascript(given: Given) -> Outcome:
    """Judge ``javascript``: what throws fails, with ``not-`` as well."""

    def run(source: str, context: Any) -> Any:
        seen = {"output": given.output, "context": context}
        return code.javascript_text("javascript", _body(source), seen)

    return _judged("javascript", given, run, _of_javascript)


def _judged(
    kind: str,
    given: Given,
    run: Callable[[str, Any], Any],
    outcome_of: Callable[[Given, Any], Outcome],
) -> Outcome:
    if not isinstance(given.value, str):
        raise given.refuse("the value must be code, or file:// and a file")
    code.refuse_unless_allowed(kind, given.row)
    returned = given.scripted
    try:
        if returned is UNDEFINED:
            context = code.context_of(given.assertion, given.row, given.answer)
            returned = run(given.value, context)
        return outcome_of(given, returned)
    except (code.RaisedError, ValueError) as error:
        return Outcome(False, 0.0, f"the code failed: {error}")


def _body(text: str) -> str:
    """Return the body of the function that promptfoo makes of an assertion's text.

    A text of several lines is one. On one line its last part is returned where it begins with a
    declaration, and all of it otherwise.
    """
    text = text.rstrip()
    if "\n" in text:
        return text
    text = re.sub(r";+\s*$", "", text.strip())
    if not re.match(r"(?:const|let|var)\s", text):
        return f"return {text}"
    end = _last_semicolon(text)
    rest = text[end + 1 :].strip()
    return f"{text[: end + 1]} return {rest}" if end >= 0 and rest else text


def _last_semicolon(text: str) -> int:
    """Return where the last semicolon outside of quotes is; -1 where there is none."""
    within, last = "", -1
    escaped = False
    for place, letter in enumerate(text):
        if escaped or letter == "\\":
            escaped = not escaped
        elif letter in "'\"`" and within in ("", letter):
            within = "" if within else letter
        elif letter == ";" and not within:
            last = place
    return last


def _of_javascript(given: Given, returned: Any) -> Outcome:
    if isinstance(returned, bool):
        holds = returned != given.inverse
        return Outcome(holds, 1.0 if holds else 0.0, f"the code returned {to_text(returned)}")
    if isinstance(returned, int | float):
        if not math.isfinite(returned):
            raise given.refuse(f"the code returned {to_text(returned)}, which is no score")
        limit = given.limit()
        holds = returned > 0 if limit is None else returned >= limit
        reason = f"the code returned {to_text(returned)}"
        return Outcome(holds != given.inverse, float(returned), reason)
    result = returned if isinstance(returned, Mapping) else {}
    passed, score, why = result.get("pass"), result.get("score"), result.get("reason")
    if (
        not isinstance(passed, bool)
        or isinstance(score, bool)
        or not isinstance(score, int | float)
        or not isinstance(why, str)
        or any(not isinstance(result.get(key), Mapping | list | None) for key in _OBJECTS)
        or not isinstance(result.get("componentResults", []), list)
    ):
        raise ValueError(
            f"it returned {quote(stringify(returned))}, neither true or false, nor a number, nor "
            "an object with pass, score and reason"
        )
    verdict = passed != given.inverse
    if given.inverse:
        why = "passed" if verdict else f"the code said it passes: {why}"
    return Outcome(verdict, float(score), one_line(why))


def of_script(given: Given, returned: Any) -> Outcome:
    """Return the outcome of what Python code returned; raise ValueError for what means nothing."""
    if isinstance(returned, str):
        lower = returned.lower()
        if lower in ("true", "false"):
            returned = lower == "true"
        elif returned.startswith("{"):
            returned = parse_json(returned)
    if isinstance(returned, bool):
        passed = returned != given.inverse
        return Outcome(passed, 1.0 if passed else 0.0, f"the code returned {to_text(returned)}")
    if isinstance(returned, Mapping | list):
        return _of_object(given, returned)
    number = _FLOAT.match(to_text(returned))
    if not number:
        raise ValueError(f"it returned {quote(to_text(returned))}, neither verdict nor score")
    score = float(number[1].replace("Infinity", "inf"))
    limit = given.limit()
    holds = score > 0 if limit is None else score >= limit
    return Outcome(holds != given.inverse, score, f"the code returned {score:g}")


def _of_object(given: Given, returned: Any) -> Outcome:
    result = dict(returned) if isinstance(returned, Mapping) else {}
    for snake, camel in _SNAKE.items():
        if snake in result:
            result.setdefault(camel, result[snake])
    passed, score, reason = result.get("pass"), result.get("score"), result.get("reason")
    if (
        not isinstance(passed, bool)
        or isinstance(score, bool)
        or not isinstance(score, int | float)
        or not isinstance(reason, str)
        or any(not isinstance(result.get(key), Mapping | list | None) for key in _OBJECTS)
        or not isinstance(result.get("componentResults"), list | None)
    ):
        raise ValueError("what it returned needs pass, score and reason")
    limit = given.limit()
    if limit is not None and score < limit:
        passed = False
        reason = f"its score {score:g} is below the threshold {limit:g}: {reason}"
    verdict = passed != given.inverse
    if given.inverse:
        reason = "passed" if verdict else f"the code said it passes: {reason}"
    return Outcome(verdict, float(score), one_line(reason))


HANDLERS: Mapping[str, Handler] = {"python": python, "javascript": javascript}
