"""How near two vectors are. A vector that says nothing is an error, never a near one."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from pytest_llmdeploy.gates.assertions.spec import NotEvaluable

Vector = Sequence[float]


def compare(measure: str, first: Vector, second: Vector) -> float:
    """Return cosine, dot product or euclidean distance; raise NotEvaluable."""
    if len(first) != len(second) or not first:
        raise NotEvaluable(f"vectors of {len(first)} and {len(second)} numbers cannot be compared")
    value = _MEASURES[measure](first, second)
    if not math.isfinite(value):
        raise NotEvaluable(f"the {measure} of the vectors is {value}")
    return value


def _dot(first: Vector, second: Vector) -> float:
    return math.fsum(a * b for a, b in zip(first, second, strict=True))


def _cosine(first: Vector, second: Vector) -> float:
    lengths = math.hypot(*first) * math.hypot(*second)
    if lengths == 0:
        raise NotEvaluable("a vector is zero: the model knows no word of the text")
    return min(1.0, max(-1.0, _dot(first, second) / lengths))


_MEASURES: Mapping[str, Callable[[Vector, Vector], float]] = {
    "cosine": _cosine,
    "dot": _dot,
    "euclidean": math.dist,
}
