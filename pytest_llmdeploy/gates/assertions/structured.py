"""Assertions on the answer as a whole value: equal to this, or JSON of this schema."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pytest_llmdeploy.gates.assertions.json_schema import schema_of, worst_error
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


def _equals(value: Any) -> Check:
    if value is None:
        raise BadValue("it needs a value")
    if isinstance(value, str):
        return _equals_text(value.strip())

    def judge(context: AssertionContext) -> Finding:
        output = context.answer.text
        try:
            holds = _same_json(_parse(output), value)
        except ValueError as error:
            return Finding(holds=False, came=f"got {quote(output)}, which is not JSON: {error}")
        return Finding(holds, f"got {quote(output)}")

    try:
        shown = quote(json.dumps(value, ensure_ascii=False, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise BadValue(f"the value cannot be written as JSON: {error}") from error
    return Check(f"to equal the JSON {shown}", judge)


def _equals_text(wanted: str) -> Check:
    def judge(context: AssertionContext) -> Finding:
        output = context.answer.text.strip()
        return Finding(output == wanted, f"got {quote(output)}")

    return Check(f"to equal {quote(wanted)}", judge)


def _is_json(value: Any) -> Check:
    compiled = schema_of(value)
    expectation = "to be JSON" if compiled is None else "to be JSON of the schema"
    return Check(expectation, lambda context: _judge_json(context, compiled))


def _judge_json(context: AssertionContext, compiled: Any) -> Finding:
    output = context.answer.text
    try:
        instance = _parse(output)
    except ValueError as error:
        fenced = output.lstrip().startswith("```")
        hint = " (it stands in a Markdown code fence)" if fenced else ""
        return Finding(holds=False, came=f"got {quote(output)}{hint}: {error}")
    if compiled is None:
        return Finding(holds=True, came=f"got {quote(output)}")
    wrong = worst_error(compiled, instance)
    if wrong is None:
        return Finding(holds=True, came=f"got {quote(output)}")
    return Finding(holds=False, came=f"{wrong}; got {quote(output)}")


def _parse(output: str) -> Any:
    """Return the JSON value; NaN and Infinity are no JSON. Raises ValueError."""
    try:
        return json.loads(output, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise NotEvaluable("the answer is JSON nested too deeply to be read") from error


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _same_json(left: object, right: object) -> bool:
    """Compare as JSON does: 1 equals 1.0, but not true; the order of keys is nothing."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict) and isinstance(right, Mapping):
        return left.keys() == right.keys() and all(
            _same_json(value, right[key]) for key, value in left.items()
        )
    if isinstance(left, list) and isinstance(right, list | tuple):
        return len(left) == len(right) and all(map(_same_json, left, right))
    return left == right


TYPES: Mapping[str, AssertionType] = {
    "equals": without_threshold(_equals),
    "is-json": without_threshold(_is_json),
}
