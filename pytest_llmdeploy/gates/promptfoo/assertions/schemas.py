"""JSON Schema as promptfoo has it: draft 7, and strict about what a schema may say."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from pytest_llmdeploy.gates.assertions import json_schema
from pytest_llmdeploy.gates.promptfoo.assertions.formats import OF_NUMBERS, OF_TEXTS, fits
from pytest_llmdeploy.gates.promptfoo.assertions.patterns import translated
from pytest_llmdeploy.gates.promptfoo.js_values import parse_json, stringify

_KNOWN: Mapping[str, str] = {
    "core": "$id $schema $ref $comment definitions",
    "any value": "type enum const",
    "numbers": "multipleOf maximum exclusiveMaximum minimum exclusiveMinimum",
    "texts": "maxLength minLength pattern format contentEncoding contentMediaType",
    "lists": "items additionalItems maxItems minItems uniqueItems contains",
    "objects": "maxProperties minProperties required properties patternProperties"
    " additionalProperties dependencies propertyNames",
    "logic": "if then else allOf anyOf oneOf not",
    "notes": "title description default readOnly writeOnly examples",
    "of later drafts": "$defs $vocabulary deprecated contentSchema",
    "of OpenAPI": "nullable",
}
_KEYWORDS = frozenset(name for names in _KNOWN.values() for name in names.split())
_ONE = ("not", "if", "then", "else", "propertyNames", "additionalProperties", "additionalItems")
_MANY = ("anyOf", "oneOf", "allOf")
_NAMED = ("properties", "patternProperties", "definitions", "$defs")
_DRAFT_7 = "http://json-schema.org/draft-07/schema"


@lru_cache(maxsize=1024)
def compiled(schema_text: str) -> Any:
    """Return the compiled schema; raise ValueError for what promptfoo refuses, too."""
    schema = parse_json(schema_text)
    if not isinstance(schema, Mapping | bool):
        raise ValueError("a schema must be an object or a boolean")
    if isinstance(schema, Mapping):
        named = str(schema.get("$schema", _DRAFT_7)).rstrip("#")
        if named != _DRAFT_7:
            raise ValueError(f"the dialect {named} is not known to promptfoo, which has draft 7")
        schema = {**_checked(schema), "$schema": f"{_DRAFT_7}#"}
    validator = json_schema.validator(stringify(schema))
    return validator.evolve(format_checker=_Formats())


def error_of(validator: Any, value: Any) -> str | None:
    """Return how the value breaks the schema; None where it keeps to it. Raises NotEvaluable."""
    return json_schema.worst_error(validator, value)


def _checked(schema: Any) -> Any:
    """Return the schema with its patterns in our dialect; raise ValueError."""
    if not isinstance(schema, Mapping):
        return schema
    unknown = sorted(schema.keys() - _KEYWORDS)
    if unknown:
        raise ValueError(f"the keyword {unknown[0]} is not known to promptfoo, which is strict")
    if "if" in schema and "then" not in schema and "else" not in schema:
        raise ValueError("'if' without 'then' and 'else' does nothing")
    if "additionalItems" in schema and not isinstance(schema.get("items"), list):
        raise ValueError("'additionalItems' without a list of 'items' does nothing")
    wanted = schema.get("format")
    if isinstance(wanted, str) and wanted not in {*OF_TEXTS, *OF_NUMBERS}:
        raise ValueError(f"the format {wanted} is not known to promptfoo")
    return {key: _part(key, value) for key, value in schema.items()}


def _part(key: str, value: Any) -> Any:
    if key == "pattern" and isinstance(value, str):
        return translated(value, unicode=True)
    if key in _ONE or (key in ("items", "contains") and isinstance(value, Mapping)):
        return _checked(value)
    if key in (*_MANY, "items") and isinstance(value, list):
        return [_checked(one) for one in value]
    if key in _NAMED and isinstance(value, Mapping):
        return {
            translated(name, unicode=True) if key == "patternProperties" else name: _checked(one)
            for name, one in value.items()
        }
    if key == "dependencies" and isinstance(value, Mapping):
        return {name: _checked(one) for name, one in value.items()}
    return value


class _Formats:
    """Checks formats in the way that jsonschema asks for it."""

    def check(self, instance: object, wanted: str) -> None:
        from jsonschema.exceptions import FormatError  # type: ignore[import-untyped]

        if not fits(instance, wanted):
            raise FormatError(f"{instance!r} is not a {wanted!r}")
