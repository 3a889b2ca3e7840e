"""Validation errors as plain sentences: what was expected, what stands there, what was meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pytest_llmdeploy.config.text import shortened

_KINDS = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "tuple_type": "a list",
}
_BOUNDS = {
    "greater_than": ("gt", "greater than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}
PATTERNS = {
    r"^[A-Za-z0-9][A-Za-z0-9_.-]*$": (
        "a name of letters, digits, '_', '.' and '-' that starts with a letter or digit"
    ),
    r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$": "a header's name (letters, digits and '-')",
    r"^[\t -~]*$": "one line of plain ASCII, as a header can carry it",
    r"^(/[^/?#\s]+)*$": "a path that starts with '/' and does not end with one, such as /v1",
    r"^https?://[^\s/?#]+(/[^\s?#]*)?$": "an address such as http://127.0.0.1:8000",
    r"^https?://\S+$": "an address such as https://models.example/v1",
    r"^/\S*$": "a path that starts with '/'",
    r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$": (
        "a Kubernetes name (small letters, digits and '-', at most 63)"
    ),
    r"^[a-z0-9]([-a-z0-9]{0,40}[a-z0-9])?$": (
        "a Kubernetes name (small letters, digits and '-', at most 42)"
    ),
    r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$": (
        "the name of a Kubernetes object (small letters, digits, '-' and '.', at most 253)"
    ),
    r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?/[a-z0-9]([-a-z0-9]*[a-z0-9])?:\d+$": (
        "a Service as NAMESPACE/NAME:PORT, such as monitoring/prometheus:9090"
    ),
    r"^https?://[^\s?#@]+$": (
        "an address such as http://prometheus.example:9090 (a user or key goes into token or "
        "headers)"
    ),
    r"^(https?|oci|file)://\S+$": "an address such as https://charts.example or oci://…",
    r"^[0-9A-Za-z.+*~^<>=, -]+$": "a version such as 1.27.1, or a range of versions",
    r"^\d+(\.\d+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$": "a Kubernetes quantity such as 512Mi or 500m",
}
"""What each pattern of the models allows, in words."""
BRANCHES = {"str": "text", "dict[": "a mapping", "tuple[": "a list"}
"""How the tag of a union's branch begins in an error's place, and what the branch takes."""


def suggestion(word: str, choices: Iterable[str]) -> str:
    """Return ``, did you mean 'x'?`` for a near miss, else an empty text."""
    close = difflib.get_close_matches(word, list(choices), n=1)
    return f", did you mean '{close[0]}'?" if close else ""


def unknown_key(key: str, allowed: Iterable[str]) -> str:
    """Say that a key is unknown, with the nearest one or all that there are."""
    names = list(allowed)
    near = suggestion(key, names)
    return f"unknown key '{shortened(key)}'{near or ', expected one of: ' + ', '.join(names)}"


def shown(value: Any, raw: Any = None) -> str:
    """Return a value as a message shows it; `raw` is what the file has in its place.

    What came from a variable is never shown, only the text that names the variable.
    """
    if isinstance(raw, str) and "${" in raw:
        return f"the value of '{shortened(raw)}'"
    if isinstance(value, str):
        return f"'{shortened(value)}'"
    if value is None:
        return "nothing"
    if isinstance(value, bool | float):
        return str(value).lower()
    if isinstance(value, int):  # Python refuses to print thousands of digits
        return shortened(str(value)) if abs(value) < 10**300 else "a huge number"
    return "a mapping" if isinstance(value, dict) else "a list"


def expected(kinds: Iterable[str], value: Any, raw: Any) -> str:
    """Say which kinds of value can stand here and what does instead."""
    *others, last = dict.fromkeys(kinds)
    wanted = f"{', '.join(others)} or {last}" if others else last
    hint = ""
    if "text" in {*others, last} and isinstance(value, bool | int | float):
        hint = ": put it in quotes"
    return f"expected {wanted}, got {shown(value, raw)}{hint}"


def sentence(error: Mapping[str, Any], raw: Any) -> str:
    """Return the sentence for one of pydantic's errors, except missing and unknown keys."""
    kind, value, context = error["type"], error["input"], error.get("ctx", {})
    if kind in _KINDS:
        return expected([_KINDS[kind]], value, raw)
    if kind in _BOUNDS:
        name, words = _BOUNDS[kind]
        return f"must be {words} {context[name]:g}, got {shown(value, raw)}"
    others: dict[str, Callable[[], str]] = {
        "string_pattern_mismatch": lambda: (
            f"expected {PATTERNS[context['pattern']]}, got {shown(value, raw)}"
        ),
        "string_too_long": lambda: (
            f"must have at most {context['max_length']} characters, got {len(value)}"
        ),
        "too_short": lambda: "needs at least one entry",
        "literal_error": lambda: _choice(context["expected"], value, raw),
        "value_error": lambda: str(context["error"]),
    }
    return others.get(kind, lambda: f"not valid here: {shown(value, raw)}")()


def _choice(listed: str, value: Any, raw: Any) -> str:
    choices = re.findall(r"'([^']*)'", listed)
    what = shown(value, raw)
    near = suggestion(value, choices) if what == f"'{value}'" else ""
    return f"{what} is not one of: {', '.join(choices)}{near}"
