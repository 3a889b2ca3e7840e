"""The tests of templates, by name: what stands behind ``is``."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from pytest_llmdeploy.gates.promptfoo.js_values import (
    UNDEFINED,
    compares,
    strictly_equal,
    to_number,
    truthy,
)


def _remainder(value: Any, divisor: float) -> float:
    number = to_number(value)
    return math.fmod(number, divisor) if math.isfinite(number) and divisor else math.nan


TESTS: Mapping[str, Callable[..., bool]] = {
    "callable": callable,
    "defined": lambda value: value is not UNDEFINED,
    "divisibleby": lambda value, other: _remainder(value, to_number(other)) == 0,
    "eq": strictly_equal,
    "equalto": strictly_equal,
    "sameas": strictly_equal,
    "escaped": lambda _: False,
    "even": lambda value: _remainder(value, 2) == 0,
    "odd": lambda value: _remainder(value, 2) == 1,
    "falsy": lambda value: not truthy(value),
    "truthy": truthy,
    "ge": lambda value, other: compares(value, ">=", other),
    "greaterthan": lambda value, other: compares(value, ">", other),
    "gt": lambda value, other: compares(value, ">", other),
    "le": lambda value, other: compares(value, "<=", other),
    "lessthan": lambda value, other: compares(value, "<", other),
    "lt": lambda value, other: compares(value, "<", other),
    "lower": lambda value: bool(value.lower() == value),
    "upper": lambda value: bool(value.upper() == value),
    "ne": lambda value, other: not strictly_equal(value, other),
    "null": lambda value: value is None,
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "string": lambda value: isinstance(value, str),
    "undefined": lambda value: value is UNDEFINED,
    "iterable": lambda value: isinstance(value, str | list),
    "mapping": lambda value: isinstance(value, Mapping),
}
