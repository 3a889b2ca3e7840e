"""Assertions that a judge or an embeddings endpoint decides: by the types of our own suites."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from pytest_llmdeploy.gates.assertions import AssertionContext
from pytest_llmdeploy.gates.assertions.registry import AssertionRegistry
from pytest_llmdeploy.gates.assertions.spec import AssertionType, BadValue
from pytest_llmdeploy.gates.promptfoo.assertions.given import Given, Handler, Outcome
from pytest_llmdeploy.gates.promptfoo.assertions.own_rubric import by_own_prompt
from pytest_llmdeploy.gates.promptfoo.js_values import UNDEFINED, stringify

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
_WITHOUT_LIMIT = _NEVER_INVERSE
"""A threshold changes nothing about these either."""
_NEEDS_QUERY = ("context-faithfulness", "context-relevance")
_SHARES = frozenset(_DEFAULTS) - {"similar:dot", "similar:euclidean"} - {*_WITHOUT_LIMIT}
_EPSILON = sys.float_info.epsilon
_CATEGORIES: Mapping[str, tuple[str, float]] = {
    "A": ("subset", 1.0),
    "B": ("superset", 1.0),
    "C": ("agree", 1.0),
    "D": ("disagree", 0.0),
    "E": ("differButFactual", 1.0),
}
"""What options.factuality calls the categories, and their scores where it says nothing."""


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
    own = given.assertion.get("rubricPrompt") or given.row.options.get("rubricPrompt")
    if own and given.kind != "llm-rubric" and not given.kind.startswith("similar"):
        raise given.refuse("a rubricPrompt of its own is asked for llm-rubric only")
    if given.assertion.get("contextTransform"):
        raise given.refuse("contextTransform is not run here")
    value = None if given.value is UNDEFINED else given.value
    if given.kind == "llm-rubric" and isinstance(value, Mapping | list):
        value = stringify(value)
    limit = None if given.kind in _WITHOUT_LIMIT else given.limit(_DEFAULTS[given.kind])
    variables = _variables(given)
    # Beyond 0 to 1 a share always or never reaches its threshold; our own types refuse those.
    beyond = limit is not None and given.kind in _SHARES and not 0 < limit <= 1
    context = AssertionContext(
        answer=replace(given.answer, text=given.text),
        case_id=given.row.id,
        vars=variables,
        messages=given.messages or [{"role": "user", "content": given.row.prompt.rendered}],
        output=given.output,
        grading=given.grading,
        value=value,
        threshold=limit,
    )
    if own and given.kind == "llm-rubric":
        found = by_own_prompt(given, own, value if value is not None else "", limit, context)
    else:
        try:
            check = native()[name_of(given.kind)](value, None if beyond else limit)
        except BadValue as error:
            raise given.refuse(str(error)) from error
        found = check.judge(context)
    if given.kind.startswith("similar") and limit is not None:
        return _nearness(given, found.evidence["values"], limit, found.came, found.evidence)
    if found.holds is None:
        return Outcome(False, 0.0, found.came, found.evidence)
    holds = found.holds
    if beyond and limit is not None:
        holds = limit <= 0 and (holds or given.kind != "llm-rubric")
    score = float(holds) if found.score is None else found.score
    if "factuality" in given.kind and isinstance(given.row.options.get("factuality"), Mapping):
        score = _by_category(given, found.evidence["votes"])
        holds = score > 0
    inverse = given.inverse and given.kind not in _NEVER_INVERSE
    return Outcome(holds != inverse, 1 - score if inverse else score, found.came, found.evidence)


def _variables(given: Given) -> Mapping[str, Any]:
    """Return the row's variables, for a context that promptfoo takes from elsewhere."""
    seen = given.row.vars
    if given.kind in _NEEDS_QUERY and not isinstance(seen.get("query"), str):
        raise given.refuse("it needs a variable 'query' that is a text")
    if given.kind == "context-recall" and not seen.get("context"):
        return {**seen, "context": given.row.prompt.rendered}
    return seen


def _nearness(
    given: Given, values: Sequence[float], limit: float, came: str, evidence: Mapping[str, Any]
) -> Outcome:
    """Return what promptfoo makes of several texts: the first that decides, else the best."""
    distance = given.kind == "similar:euclidean"
    found: list[Outcome] = []
    for value in values:
        near = value <= limit + _EPSILON if distance else value >= limit - _EPSILON
        far = value >= limit - _EPSILON if distance else value <= limit + _EPSILON
        score = 1 / (1 + value) if distance else value
        passed = far if given.inverse else near
        outcome = Outcome(passed, 1 - score if given.inverse else score, came, evidence)
        if passed != given.inverse:
            return outcome
        found.append(outcome)
    choose = min if given.inverse else max
    return choose(found, key=lambda one: one.score)


def _by_category(given: Given, votes: Sequence[Mapping[str, Any]]) -> float:
    """Return the mean of what the config gives for the categories that were voted for."""
    written = given.row.options["factuality"]
    scores = []
    for vote in votes:
        if "category" in vote:
            name, usual = _CATEGORIES[vote["category"]]
            score = written.get(name, usual)
            if isinstance(score, bool) or not isinstance(score, int | float):
                raise given.refuse(f"options.factuality.{name} must be a number")
            scores.append(float(score))
    return math.fsum(scores) / len(scores)


HANDLERS: Mapping[str, Handler] = {kind: graded for kind in _DEFAULTS if name_of(kind) in native()}
