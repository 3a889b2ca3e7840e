"""The assertion similar: how near the answer's vector is to those of expected texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_llmdeploy.config.sentences import shown
from pytest_llmdeploy.gates.assertions.spec import (
    AssertionContext,
    AssertionType,
    BadValue,
    Check,
    Finding,
    NotEvaluable,
)
from pytest_llmdeploy.gates.assertions.vectors import compare
from pytest_llmdeploy.gates.wording import listed, quote

DEFAULT_THRESHOLD = 0.75
TOLERANCE = 1e-9


def _similar(measure: str) -> AssertionType:
    distance = measure == "euclidean"

    def prepare(value: Any, threshold: float | None) -> Check:
        texts = value if isinstance(value, list | tuple) else [value]
        if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
            raise BadValue(f"the value must be a text or a list of texts, got {shown(value)}")
        limit = DEFAULT_THRESHOLD if threshold is None else threshold
        if limit <= 0 or (measure == "cosine" and limit > 1):
            most = " and at most 1" if measure == "cosine" else ""
            raise BadValue(f"the threshold must be above 0{most}, got {limit:g}")

        def judge(context: AssertionContext) -> Finding:
            if context.grading is None:
                raise NotEvaluable("there is nobody to ask for vectors: set the gate's embeddings")
            if not context.answer.text.strip():
                raise NotEvaluable("the answer is empty: it has no vector")
            embedded = context.grading.embed([context.answer.text, *texts])
            own, *others = embedded.vectors
            if len(others) != len(texts):
                raise NotEvaluable(f"{len(others) + 1} vectors came for {len(texts) + 1} texts")
            found = [compare(measure, own, other) for other in others]
            best = min(found) if distance else max(found)
            holds = best <= limit + TOLERANCE if distance else best >= limit - TOLERANCE
            evidence = {"embeddings": embedded.model, "measure": measure, "values": found}
            # A distance, and the product of vectors of any length, are made scores of 0 to 1.
            score = 1 / (1 + best) if distance else min(1.0, max(0.0, best))
            return Finding(
                holds, f"the nearest has {best:.3f}: {quote(context.answer.text)}", score, evidence
            )

        bound = (
            f"a distance of at most {limit:g}" if distance else f"{measure} of at least {limit:g}"
        )
        return Check(f"to be similar to {listed(texts)}, with {bound}", judge)

    return prepare


TYPES: Mapping[str, AssertionType] = {
    "similar": _similar("cosine"),
    "similar:cosine": _similar("cosine"),
    "similar:dot": _similar("dot"),
    "similar:euclidean": _similar("euclidean"),
}
