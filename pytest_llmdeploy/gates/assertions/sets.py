"""Several results as one: the weighted mean of an answer's assertions, and of an assert-set's."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pytest_llmdeploy.config.sentences import shown, unknown_key
from pytest_llmdeploy.gates.assertions.spec import (
    AssertionResult,
    AssertionSet,
    AssertionSpec,
    BadValue,
)

NAME = "assert-set"
MAX_DEPTH = 5
"""So deep may sets stand in sets; who needs more has lost the overview."""
TOLERANCE = 1e-9
"""A score this little below a threshold reaches it: means of thirds are no exact numbers."""
FORM = "write {type: assert-set, assert: [...]}"
_FIELDS = ("type", "assert", "threshold", "weight", "metric")


def together(
    results: Sequence[AssertionResult], threshold: float | None
) -> tuple[bool, float, str]:
    """Return whether results pass as one, their score from 0 to 1, and the reason.

    The score is their weighted mean. Without `threshold` every one must pass; with it the score
    alone decides.
    """
    total = math.fsum(result.weight for result in results)
    score = min(1.0, math.fsum(result.weight * result.score for result in results) / total)
    failed = [result for result in results if not result.passed]
    passed = not failed if threshold is None else reaches(score, threshold)
    if not failed:
        reason = f"{len(results)} of {len(results)} assertions passed"
    else:
        more = f" (and {len(failed) - 1} more failed)" if len(failed) > 1 else ""
        reason = f"{failed[0].type}: {failed[0].reason}{more}"
    if threshold is not None:
        sign = ">=" if passed else "<"
        reason = f"score {score:.3f} {sign} threshold {threshold:g}; {reason}"
    return passed, score, reason


def reaches(score: float, threshold: float) -> bool:
    """Say whether a mean of scores is at least the threshold."""
    return score >= threshold - TOLERANCE


def is_set(raw: object) -> bool:
    """Say whether what a user wrote is meant as a set."""
    if isinstance(raw, str):
        kind: object = raw.partition(":")[0].partition("(")[0].strip()
    elif isinstance(raw, Mapping):
        keys = list(raw)
        kind = raw.get("type", keys[0] if len(keys) == 1 else None)
    else:
        return False
    return isinstance(kind, str) and kind in {NAME, f"not-{NAME}"}


def parse_set(
    raw: Any,
    source: str,
    depth: int,
    *,
    weight: Callable[[str, Mapping[Any, Any]], float],
    metric: Callable[[str, Mapping[Any, Any]], str | None],
    part: Callable[[object], AssertionSpec | AssertionSet],
) -> AssertionSet:
    """Return the set that a user wrote; `part` parses what is in it. Raises BadValue."""
    if not isinstance(raw, Mapping) or "type" not in raw:
        raise BadValue(f"{NAME} holds assertions of its own: {FORM}")
    if raw["type"] != NAME:
        raise BadValue(f"{NAME} has no not-: negate the assertions in it")
    unknown = [str(key) for key in raw if key not in _FIELDS]
    if unknown:
        raise BadValue(f"{NAME} has an {unknown_key(unknown[0], _FIELDS)}")
    if depth > MAX_DEPTH:
        raise BadValue(f"{NAME} stands in more than {MAX_DEPTH - 1} others: flatten them")
    written = raw.get("assert")
    if not isinstance(written, list | tuple):
        raise BadValue(f"{NAME} needs a list of assertions, got {shown(written)}: {FORM}")
    if not written:
        raise BadValue(f"{NAME} has no assertion: it could never fail")
    limit = raw.get("threshold")
    if limit is not None:
        if isinstance(limit, bool) or not isinstance(limit, int | float) or not 0 < limit <= 1:
            raise BadValue(f"{NAME}: threshold must be above 0 and at most 1, got {shown(limit)}")
        limit = float(limit)
    parts = []
    for number, one in enumerate(written, start=1):
        try:
            parts.append(part(one))
        except BadValue as error:
            raise BadValue(f"{NAME}, assertion {number}: {error}") from error
    return AssertionSet(tuple(parts), limit, weight(NAME, raw), metric(NAME, raw), source)


def result_of(spec: AssertionSet, parts: Sequence[AssertionResult]) -> AssertionResult:
    """Return the result of a set from those of its assertions."""
    passed, score, reason = together(parts, spec.threshold)
    return AssertionResult(
        NAME, passed, score, reason, spec.weight, spec.metric, parts=tuple(parts)
    )
