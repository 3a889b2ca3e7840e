"""Assertions on how the answer came, not on what it says."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pytest_llmdeploy.gates.assertions.spec import (
    AssertionContext,
    AssertionType,
    BadValue,
    Check,
    Finding,
    NotEvaluable,
)


def _latency(value: Any, threshold: float | None) -> Check:
    if value is not None and threshold is not None:
        raise BadValue("give the seconds once, as value or as threshold")
    limit = _seconds(threshold if value is None else value)

    def judge(context: AssertionContext) -> Finding:
        seconds = context.answer.latency
        if not math.isfinite(seconds):
            raise NotEvaluable(f"latency: the answer's latency is {seconds}")
        return Finding(seconds <= limit, f"it took {seconds:.3f} s")

    return Check(f"to come within {limit:g} s", judge)


def _seconds(value: object) -> float:
    try:
        seconds = float(value) if isinstance(value, int | float | str) else math.nan
    except (ValueError, OverflowError):
        seconds = math.nan
    if isinstance(value, bool) or not 0 < seconds < math.inf:
        raise BadValue("it needs a number of seconds above 0, such as 'latency: 2.5'")
    return seconds


TYPES: Mapping[str, AssertionType] = {"latency": _latency}
