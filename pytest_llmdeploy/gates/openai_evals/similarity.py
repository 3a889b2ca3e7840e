"""How alike two texts are, by the metrics of the service's text_similarity grader."""

from __future__ import annotations

import math
import operator
import re
from collections import Counter
from collections.abc import Sequence

from pytest_llmdeploy.errors import NotMeasuredError
from pytest_llmdeploy.gates.assertions import Grading, NotEvaluable
from pytest_llmdeploy.gates.measures.distance import common_subsequence

LONGEST = 50_000
"""Characters of a text that is compared; the work grows with the product of both lengths."""

_NAMES = ("cosine", "fuzzy_match", "bleu", "gleu", "meteor", "rouge_l")
METRICS = (*_NAMES, *(f"rouge_{size}" for size in range(1, 6)))
_NOT_HERE = ("bleu", "gleu", "meteor")


def unsupported(metric: object) -> str | None:
    """Return why a metric of the service is not measured here; None where it is."""
    if metric in _NOT_HERE:
        return f"text_similarity: {metric} is not measured here"
    return None


def measure(metric: str, text: str, reference: str, grading: Grading | None) -> float:
    """Return the score, 0 to 1; raise NotEvaluable."""
    if metric == "cosine":
        return cosine(text, reference, grading)
    longest = max(len(text), len(reference))
    if longest > LONGEST:
        raise NotEvaluable(f"a text of {longest} characters: at most {LONGEST} are compared")
    if metric == "fuzzy_match":
        return fuzzy_match(text, reference)
    said, wanted = words(text), words(reference)
    if metric == "rouge_l":
        return _f1(common_subsequence(said, wanted), len(said), len(wanted))
    size = int(metric.removeprefix("rouge_"))
    first, second = (_grams(one, size) for one in (said, wanted))
    return _f1((first & second).total(), first.total(), second.total())


def words(text: str) -> list[str]:
    """Return the words of a text as rouge-score cuts them: runs of a-z and 0-9, lower case."""
    return re.findall(r"[a-z0-9]+", text.lower())


def _grams(tokens: Sequence[str], size: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(tokens[at : at + size]) for at in range(len(tokens) - size + 1))


def _f1(same: int, said: int, wanted: int) -> float:
    return 2 * same / (said + wanted) if same else 0.0


def fuzzy_match(text: str, reference: str) -> float:
    """Return twice the longest common subsequence over both lengths: rapidfuzz's ``fuzz.ratio``.

    The service names rapidfuzz for this metric, and not which of its functions.
    """
    if not text and not reference:
        return 1.0
    return 2 * common_subsequence(text, reference) / (len(text) + len(reference))


def cosine(text: str, reference: str, grading: Grading | None) -> float:
    """Return the cosine of the texts' vectors, 0 where it is negative; raise NotEvaluable."""
    if grading is None:
        raise NotEvaluable("there is no embeddings endpoint to ask")
    if not text.strip() or not reference.strip():
        return float(text.strip() == reference.strip())
    try:
        vectors = grading.embed([text, reference]).vectors
    except NotEvaluable:
        raise
    except NotMeasuredError as error:
        raise NotEvaluable(f"no embeddings: {error}") from error
    if len(vectors) != 2:
        raise NotEvaluable(f"2 texts were sent, {len(vectors)} embeddings came back")
    return max(0.0, min(1.0, _cosine(*vectors)))


def _cosine(first: Sequence[float], second: Sequence[float]) -> float:
    if len(first) != len(second):
        raise NotEvaluable(f"the embeddings have {len(first)} and {len(second)} numbers")
    length = math.hypot(*first) * math.hypot(*second)
    value = math.fsum(map(operator.mul, first, second)) / length if length else math.nan
    if not math.isfinite(value):
        raise NotEvaluable("the embeddings have no direction: all 0, or no numbers")
    return value
