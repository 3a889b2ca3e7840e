"""Assertion types on one answer, a family a module, behind one registry.

Nothing here asks a model or knows a file; what users wrote comes in, results come out.
"""

from pytest_llmdeploy.gates.assertions.registry import AssertionRegistry, evaluate
from pytest_llmdeploy.gates.assertions.spec import (
    AssertionContext,
    AssertionResult,
    AssertionSet,
    AssertionSpec,
    Grading,
    NotEvaluable,
    Origin,
    Transform,
)

__all__ = [
    "AssertionContext",
    "AssertionRegistry",
    "AssertionResult",
    "AssertionSet",
    "AssertionSpec",
    "Grading",
    "NotEvaluable",
    "Origin",
    "Transform",
    "evaluate",
]
