"""Assertions and transforms in JavaScript, run apart from this process.

The code is an expression, a function's body with ``return``, or a function. It sees ``output``,
which is a value where a transform made one, and ``context``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pytest_llmdeploy.errors import MissingExtraError
from pytest_llmdeploy.gates.assertions import functions
from pytest_llmdeploy.gates.assertions.spec import (
    AssertionContext,
    AssertionType,
    BadValue,
    Check,
    Finding,
    NotEvaluable,
)
from pytest_llmdeploy.gates.wording import quote


def runner(code: Any, example: str) -> Callable[[Any, AssertionContext], Any]:
    """Return what runs the code for an output; raise BadValue where it never could."""
    from pytest_llmdeploy.gates import javascript  # itself needs this package

    if not isinstance(code, str) or not code.strip():
        raise BadValue(f"the value must be code, as in 'javascript: {example}'")
    try:
        javascript.check_installed()
    except MissingExtraError as error:
        raise BadValue(str(error)) from error

    def run(output: Any, context: AssertionContext) -> Any:
        seen = {
            "vars": dict(context.vars),
            "caseId": context.case_id,
            "messages": [dict(message) for message in context.messages],
            "parameters": dict(context.parameters),
            "threshold": context.threshold,
        }
        try:
            return javascript.run(code, {"output": output, "context": seen})
        except javascript.JavaScriptError as error:
            raise NotEvaluable(f"it failed: {error}") from error
        except (TypeError, ValueError) as error:
            raise NotEvaluable(f"what it would see is no JSON: {error}") from error

    return run


def _javascript(value: Any, threshold: float | None) -> Check:
    run = runner(value, "output.length < 100")
    functions.check_threshold(threshold)
    label = f"the code {quote(value.strip(), 80)}"

    def judge(context: AssertionContext) -> Finding:
        output = context.answer.text if context.output is None else context.output
        try:
            returned = run(output, context)
        except NotEvaluable as error:
            raise NotEvaluable(f"{label}: {error}") from error
        return functions.finding_of(label, returned, threshold, context)

    return Check(f"to satisfy {label}", judge)


TYPES: Mapping[str, AssertionType] = {"javascript": _javascript}
