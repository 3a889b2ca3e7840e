"""JSON Schema as promptfoo has it: draft 7, and strict about what a schema may say."""

from __future__ import annotations

import datetime
import ipaddress
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from pytest_llmdeploy.gates.assertions import json_schema
from pytest_llmdeploy.gates.promptfoo.assertions.patterns import translated
from pytest_llmdeploy.gates.promptfoo.js_values import parse_json, stringify

_KNOWN = (
    "$schema $id $defs $vocabulary $comment definitions $ref type nullable minimum maximum "
    "exclusiveMinimum exclusiveMaximum multipleOf minLength maxLength pattern minItems "
    "maxItems uniqueItems minProperties maxProperties required const enum not anyOf oneOf "
    "allOf if then else propertyNames additionalProperties dependencies properties "
    "patternProperties additionalItems items contains format title description default "
    "deprecated readOnly writeOnly examples contentMediaType contentEncoding contentSchema"
)
_KEYWORDS = frozenset(_KNOWN.split())
_ONE = ("not", "if", "then", "else", "propertyNames", "additionalProperties", "additionalItems")
_MANY = ("anyOf", "oneOf", "allOf")
_NAMED = ("properties", "patternProperties", "definitions", "$defs")
_DRAFT_7 = "http://json-schema.org/draft-07/schema"
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[^\s<>\"{}|\\^`]+")
_TEMPLATE = re.compile(
    r"(?:[^\x00-\x20\"'<>%\\^`{|}]|%[0-9a-f]{2}|\{[+#./;?&=,!@|]?[\w%.]+(?::\d{1,4}|\*)?"
    r"(?:,[\w%.]+(?::\d{1,4}|\*)?)*\})*",
    re.IGNORECASE | re.ASCII,
)
_URL = re.compile(
    r"(?:https?|ftp)://(?:\S+(?::\S*)?@)?(?:\d{1,3}(?:\.\d{1,3}){3}"
    r"|(?:[^\W_](?:[\w-]*[^\W_])?\.)+[^\W\d_]{2,})(?::\d{2,5})?(?:/\S*)?",
    re.IGNORECASE,
)
_EMAIL = re.compile(
    r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
    r"@(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?\.)+[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
)
_HOST = re.compile(
    r"(?=.{1,253}\.?\Z)[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
    r"(?:\.[A-Za-z0-9](?:[-0-9A-Za-z]{0,61}[0-9A-Za-z])?)*\.?"
)
_UUID = re.compile(r"(?:urn:uuid:)?[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.IGNORECASE)
_TIME = re.compile(r"(\d\d):(\d\d):(\d\d(?:\.\d+)?)(z|([+-])(\d\d)(?::?(\d\d))?)?", re.IGNORECASE)
_DURATION = re.compile(r"P(?!\Z)((\d+Y)?(\d+M)?(\d+D)?(T(?=\d)(\d+H)?(\d+M)?(\d+S)?)?|(\d+W)?)")
_POINTER = re.compile(r"(?:/(?:[^~/]|~0|~1)*)*")


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
    if isinstance(wanted, str) and wanted not in _FORMATS:
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


def fits(value: object, wanted: str) -> bool:
    """Say whether a value has a format; a value of another kind always does."""
    check = _FORMATS[wanted]
    if wanted in _NUMERIC:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return not is_number or check(value)
    return not isinstance(value, str) or check(value)


def _date(text: Any) -> bool:
    try:
        return bool(re.fullmatch(r"\d{4}-\d\d-\d\d", text)) and bool(
            datetime.date.fromisoformat(text if text[:4] != "0000" else f"2000{text[4:]}")
        )
    except ValueError:
        return False


def _time(text: Any, *, zone: bool = True) -> bool:
    found = _TIME.fullmatch(text)
    if not found or (zone and not found[4]):
        return False
    hour, minute, second = int(found[1]), int(found[2]), float(found[3])
    ahead_hours, ahead_minutes = int(found[6] or 0), int(found[7] or 0)
    if ahead_hours > 23 or ahead_minutes > 59:
        return False
    if hour <= 23 and minute <= 59 and second < 60:
        return True
    sign = -1 if found[5] == "-" else 1
    moment = hour * 60 + minute - sign * (ahead_hours * 60 + ahead_minutes)
    return moment % 1440 == 1439 and hour <= 23 and minute <= 59 and second < 61


def _date_time(text: Any, *, zone: bool = True) -> bool:
    parts = re.split(r"[tT]|\s", text)
    return len(parts) == 2 and _date(parts[0]) and _time(parts[1], zone=zone)


def _address(kind: Callable[[str], object]) -> Callable[[Any], bool]:
    def check(text: Any) -> bool:
        try:
            kind(text)
        except ValueError:
            return False
        return "%" not in text

    return check


def _regex(text: Any) -> bool:
    try:
        translated(text, unicode=True)
    except ValueError:
        return False
    return True


def _matches(pattern: re.Pattern[str]) -> Callable[[Any], bool]:
    return lambda text: pattern.fullmatch(text) is not None


_NUMERIC = frozenset({"int32", "int64", "float", "double"})
_FORMATS: Mapping[str, Callable[[Any], bool]] = {
    "date": _date,
    "time": _time,
    "date-time": _date_time,
    "iso-time": lambda text: _time(text, zone=False),
    "iso-date-time": lambda text: _date_time(text, zone=False),
    "duration": _matches(_DURATION),
    "uri": _matches(_URI),
    "uri-reference": lambda text: not re.search(r"[\s<>\"{}|\\^`]", text),
    "uri-template": _matches(_TEMPLATE),
    "url": _matches(_URL),
    "email": _matches(_EMAIL),
    "hostname": _matches(_HOST),
    "ipv4": _address(ipaddress.IPv4Address),
    "ipv6": _address(ipaddress.IPv6Address),
    "regex": _regex,
    "uuid": _matches(_UUID),
    "json-pointer": _matches(_POINTER),
    "json-pointer-uri-fragment": lambda text: (
        text.startswith("#") and _POINTER.fullmatch(text[1:]) is not None
    ),
    "relative-json-pointer": _matches(re.compile(r"(?:0|[1-9]\d*)(?:#|(?:/(?:[^~/]|~0|~1)*)*)")),
    "byte": _matches(re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")),
    "int32": lambda number: number == int(number) and -(2**31) <= number < 2**31,
    "int64": lambda number: number == int(number),
    **dict.fromkeys(("float", "double", "password", "binary"), lambda _: True),
}
