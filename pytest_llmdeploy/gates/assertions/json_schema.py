"""JSON Schema within bounds: patterns have a deadline, nothing is fetched from anywhere."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from pytest_llmdeploy.config.sentences import shown
from pytest_llmdeploy.errors import MissingExtraError
from pytest_llmdeploy.gates.assertions.pattern import search
from pytest_llmdeploy.gates.assertions.spec import BadValue, NotEvaluable
from pytest_llmdeploy.gates.wording import middle_cut, quote
from pytest_llmdeploy.untrusted import one_line

_DATA = ("const", "enum")
"""Keywords below which stands data, no schema."""


@lru_cache(maxsize=1024)
def validator(schema_text: str) -> Any:
    """Return the compiled schema; raise ValueError for one that is wrong."""
    try:
        import jsonschema  # type: ignore[import-untyped]
        import regex  # type: ignore[import-untyped]  # noqa: F401 - patterns need it later
        from referencing.jsonschema import EMPTY_REGISTRY
    except ImportError as error:
        raise MissingExtraError("quality gates", "gates", error.name or "jsonschema") from error
    schema = json.loads(schema_text)
    kind_of_schema = jsonschema.validators.validator_for(
        schema, default=jsonschema.Draft202012Validator
    )
    try:
        kind_of_schema.check_schema(schema)
    except jsonschema.SchemaError as error:
        raise ValueError(f"at {error.json_path}: {middle_cut(error.message)}") from error
    _refuse_what_is_not_there(schema)
    if _has("unevaluatedProperties", schema) and _has("patternProperties", schema):
        raise ValueError(
            "unevaluatedProperties and patternProperties cannot be judged together within a"
            " deadline; use additionalProperties"
        )
    return _bounded(kind_of_schema)(_of_one_dialect(schema), registry=EMPTY_REGISTRY)


def schema_of(value: Any) -> Any:
    """Return the compiled schema that is an assertion's value; None without one.

    A text is a schema as JSON. Raises BadValue.
    """
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise BadValue(f"the schema is not JSON: {error}") from error
    if value is None:
        return None
    if not isinstance(value, Mapping | bool):
        raise BadValue(f"the value must be a JSON Schema, got {shown(value)}")
    try:
        return validator(json.dumps(value, sort_keys=True))
    except (TypeError, ValueError, RecursionError) as error:
        raise BadValue(f"the JSON Schema is wrong: {error}") from error


def worst_error(compiled: Any, instance: object) -> str | None:
    """Return where the value breaks the schema and how; None where it keeps to it.

    Raises NotEvaluable.
    """
    from jsonschema.exceptions import best_match  # type: ignore[import-untyped]
    from referencing.exceptions import Unresolvable

    try:
        worst = best_match(compiled.iter_errors(instance))
    except (Unresolvable, RecursionError) as error:
        raise NotEvaluable(f"the JSON Schema cannot be followed: {error!r}") from error
    if worst is None:
        return None
    return f"at {one_line(worst.json_path)}: {middle_cut(worst.message)}"


def _bounded(kind_of_schema: Any) -> Any:
    """Return the validator class with our search in the place of Python's.

    Python's takes for ever on some patterns and texts, and stops every other thread meanwhile.
    """
    from jsonschema.validators import extend  # type: ignore[import-untyped]

    allow = kind_of_schema.VALIDATORS["additionalProperties"]
    keywords = {
        "pattern": _pattern,
        "patternProperties": _pattern_properties,
        # Looks patterns up as well: it gets what none of them matches.
        "additionalProperties": lambda compiled, value, instance, schema: allow(
            compiled,
            value,
            _unmatched(schema.get("patternProperties", {}), instance),
            {"properties": schema.get("properties", {})},
        ),
    }
    return extend(kind_of_schema, keywords)


def _pattern(_: Any, wanted: str, instance: object, _schema: object) -> Iterator[Exception]:
    from jsonschema import ValidationError

    if isinstance(instance, str) and not _found(wanted, instance):
        yield ValidationError(f"{instance!r} does not match {wanted!r}")


def _pattern_properties(
    compiled: Any, patterns: Mapping[str, Any], instance: object, _schema: object
) -> Iterator[Exception]:
    if not isinstance(instance, dict):
        return
    for wanted, subschema in patterns.items():
        for key, item in instance.items():
            if _found(wanted, key):
                yield from compiled.descend(item, subschema, path=key, schema_path=wanted)


def _unmatched(patterns: Mapping[str, Any], instance: object) -> object:
    if not isinstance(instance, dict):
        return instance
    return {
        key: item
        for key, item in instance.items()
        if not any(_found(wanted, key) for wanted in patterns)
    }


def _found(wanted: str, text: str) -> bool:
    try:
        return search("JSON Schema", wanted, text)
    except BadValue as error:
        raise NotEvaluable(f"JSON Schema: {error}") from error


def _of_one_dialect(schema: Any) -> Any:
    """Return the schema without ``$schema``: for it another class would be taken on the way."""
    if isinstance(schema, dict):
        return {
            key: value if key in _DATA else _of_one_dialect(value)
            for key, value in schema.items()
            if key != "$schema" or not isinstance(value, str)
        }
    return [_of_one_dialect(part) for part in schema] if isinstance(schema, list) else schema


def _refuse_what_is_not_there(schema: Any) -> None:
    """Raise ValueError for a reference that leads nowhere, as far as that is plain to see."""
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import DRAFT202012, EMPTY_REGISTRY

    if any(_texts_of("$id", schema)):
        return
    references = sorted(set(_texts_of("$ref", schema)))
    if not references:
        return
    resolver = EMPTY_REGISTRY.with_resource("", DRAFT202012.create_resource(schema)).resolver()
    for reference in references:
        try:
            resolver.lookup(reference)
        except Unresolvable as error:
            raise ValueError(
                f"$ref {quote(reference)} leads nowhere in it; nothing is fetched from outside"
            ) from error


def _texts_of(key: str, schema: object) -> Iterator[str]:
    return (value for value in _values_of(key, schema) if isinstance(value, str))


def _has(key: str, schema: object) -> bool:
    return any(True for _ in _values_of(key, schema))


def _values_of(key: str, schema: object) -> Iterator[object]:
    if isinstance(schema, dict):
        if key in schema:
            yield schema[key]
        for value in schema.values():
            yield from _values_of(key, value)
    elif isinstance(schema, list):
        for value in schema:
            yield from _values_of(key, value)
