"""Assertions as a project would write them, some of them badly."""

from __future__ import annotations

import sys
from typing import Any

from pytest_llmdeploy.gates.assertions import AssertionContext, AssertionResult


def polite(output: str, context: AssertionContext) -> bool:
    return "please" in output


def share(output: str, context: AssertionContext) -> float:
    return float(output)


def mapping(output: str, context: AssertionContext) -> Any:
    return {"pass": "please" in output, "score": 0.25, "reason": "no please"}


def result(output: str, context: AssertionContext) -> AssertionResult:
    return AssertionResult("mine", passed=True, score=0.9, reason="fine")


def uses_context(output: str, context: AssertionContext) -> bool:
    return bool(context.vars["word"] in output and context.case_id == "c")


def returns(output: str, context: AssertionContext) -> Any:
    return {
        "none": None,
        "text": "yes",
        "empty": {},
        "typo": {"passed": True},
        "nan": float("nan"),
        "above": 1.5,
        "huge": 10**400,
        "pass": {"pass": "yes"},
        "score": {"score": "high"},
    }[output]


def raises(output: str, context: AssertionContext) -> bool:
    raise ValueError("no such word")


def exits(output: str, context: AssertionContext) -> bool:
    sys.exit(0)


async def is_async(output: str, context: AssertionContext) -> bool:
    return True


NOT_A_FUNCTION = 3
