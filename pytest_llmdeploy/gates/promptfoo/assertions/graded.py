"""Assertions that a judge or an embeddings endpoint decides: by the types of our own suites."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache

from pytest_llmdeploy.gates.assertions import AssertionContext
from pytest_llmdeploy.gates.assertions.registry import AssertionRegistry
from pytest_llmdeploy.gates.assertions.spec import AssertionType, BadValue
from pytest_llmdeploy.gates.promptfoo.assertions.given import Given, Handler, Outcome
from pytest_llmdeploy.gates.promptfoo.js_values import UNDEFINED

_DEFAULTS: Mapping[str, float | None] = {
    "similar": 0.75,
    "similar:cosine": 0.75,
    "similar:dot": 0.75,
    "similar:euclidean": 0.75,
    "llm-rubric": None,
    "g-eval": 0.7,
    "factuality": None,
    "model-graded-factuality": None,
    "model-graded-closedqa": None,
    "answer-relevance": 0.5,
    "context-faithfulness": 0.5,
    "context-recall": 0.5,
    "context-relevance": 0.5,
}
"""Thresholds that promptfoo takes where none is written."""
_SAME = {"model-graded-factuality": "factuality", "similar:cosine": "similar"}
_NEVER_INVERSE = ("factuality", "model-graded-factuality", "model-graded-closedqa")
"""``not-`` changes nothing about these there."""


@lru_cache(maxsize=1)
def native() -> Mapping[str, AssertionType]:
    """Return our own types by name."""
    registry = AssertionRegistry()
    return {name: registry._types[name] for name in registry.names}


def name_of(kind: str) -> str:
    """Return what our own types call the type."""
    return _SAME.get(kind, kind)


def graded(given: Given) -> Outcome:
    """Judge by a model; what it cannot decide fails, with ``not-`` as well."""
    if given.assertion.get("rubricPrompt") or given.row.options.get("rubricPrompt"):
        raise given.refuse("a rubricPrompt of its own is not asked here")
    if given.assertion.get("contextTransform"):
        raise given.refuse("contextTransform is not run here")
    value = None if given.value is UNDEFINED else given.value
    limit = given.limit(_DEFAULTS[given.kind])
    try:
        check = native()[name_of(given.kind)](value, limit)
    except BadValue as error:
        raise given.refuse(str(error)) from error
    context = AssertionContext(
        answer=replace(given.answer, text=given.text),
        case_id=given.row.id,
        vars=given.row.vars,
        messages=given.messages,
        output=given.output,
        grading=given.grading,
        value=value,
        threshold=limit,
    )
    found = check.judge(context)
    if found.holds is None:
        return Outcome(False, 0.0, found.came, found.evidence)
    inverse = given.inverse and given.kind not in _NEVER_INVERSE
    score = float(found.holds) if found.score is None else found.score
    passed = found.holds != inverse
    return Outcome(passed, 1 - score if inverse else score, found.came, found.evidence)


HANDLERS: Mapping[str, Handler] = {kind: graded for kind in _DEFAULTS if name_of(kind) in native()}
