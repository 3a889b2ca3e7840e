"""Assertions on the answer as a whole value: equal to this, or JSON of this schema."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from pytest_llmdeploy.config.sentences import shown
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
from pytest_llmdeploy.gates.wording import middle_cut, quote


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
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise BadValue(f"the schema is not JSON: {error}") from error
    if value is None:
        return Check("to be JSON", lambda context: _judge_json(context, None))
    if not isinstance(value, Mapping | bool):
        raise BadValue(f"the value must be a JSON Schema, got {shown(value)}")
    try:
        validator = _validator(json.dumps(value, sort_keys=True))
    except (TypeError, ValueError, RecursionError) as error:
        raise BadValue(f"the JSON Schema is wrong: {error}") from error
    return Check("to be JSON of the schema", lambda context: _judge_json(context, validator))


def _judge_json(context: AssertionContext, validator: Any) -> Finding:
    output = context.answer.text
    try:
        instance = _parse(output)
    except ValueError as error:
        fenced = output.lstrip().startswith("```")
        hint = " (it stands in a Markdown code fence)" if fenced else ""
        return Finding(holds=False, came=f"got {quote(output)}{hint}: {error}")
    if validator is None:
        return Finding(holds=True, came=f"got {quote(output)}")
    from jsonschema.exceptions import best_match  # type: ignore[import-untyped]
    from referencing.exceptions import Unresolvable

    try:
        worst = best_match(validator.iter_errors(instance))
    except (Unresolvable, RecursionError) as error:
        raise NotEvaluable(f"is-json: the schema cannot be followed: {error!r}") from error
    if worst is None:
        return Finding(holds=True, came=f"got {quote(output)}")
    return Finding(False, f"at {worst.json_path}: {middle_cut(worst.message)}; got {quote(output)}")


@lru_cache(maxsize=1024)
def _validator(schema_text: str) -> Any:
    """Return the compiled schema; a key is never fetched from anywhere but the schema itself."""
    try:
        import jsonschema  # type: ignore[import-untyped]
        from referencing.exceptions import Unresolvable
        from referencing.jsonschema import DRAFT202012, EMPTY_REGISTRY
    except ImportError as error:
        raise MissingExtraError("quality gates", "gates", "jsonschema") from error
    schema = json.loads(schema_text)
    kind_of_schema = jsonschema.validators.validator_for(
        schema, default=jsonschema.Draft202012Validator
    )
    try:
        kind_of_schema.check_schema(schema)
    except jsonschema.SchemaError as error:
        raise ValueError(f"at {error.json_path}: {middle_cut(error.message)}") from error
    references = set(_texts_of("$ref", schema))
    if references and not any(_texts_of("$id", schema)):
        resolver = EMPTY_REGISTRY.with_resource("", DRAFT202012.create_resource(schema)).resolver()
        for reference in sorted(references):
            try:
                resolver.lookup(reference)
            except Unresolvable as error:
                raise ValueError(
                    f"$ref {quote(reference)} leads nowhere in it; nothing is fetched from outside"
                ) from error
    return kind_of_schema(schema, registry=EMPTY_REGISTRY)


def _texts_of(key: str, schema: object) -> Iterator[str]:
    if isinstance(schema, dict):
        if isinstance(schema.get(key), str):
            yield schema[key]
        for value in schema.values():
            yield from _texts_of(key, value)
    elif isinstance(schema, list):
        for value in schema:
            yield from _texts_of(key, value)


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
