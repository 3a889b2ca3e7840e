"""Assertions on how much of expected texts is in the answer: edits, and shared words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
from pytest_llmdeploy.gates.measures import ngrams
from pytest_llmdeploy.gates.measures.distance import distance
from pytest_llmdeploy.gates.measures.meteor import meteor
from pytest_llmdeploy.gates.wording import listed, quote

LONGEST_OF_EDITS = 20_000
"""Characters of a text whose edits are counted: the work grows with the product of two lengths."""
LONGEST = 100_000
"""Characters of a text whose words are compared."""
TOLERANCE = 1e-9

Measure = Callable[[str, Sequence[str]], float]
"""Score from 0 to 1 of an answer against one or several references."""


def _levenshtein(value: Any, threshold: float | None) -> Check:
    if not isinstance(value, str):
        raise BadValue(f"the value must be a text, got {shown(value)}")
    limit = 5.0 if threshold is None else threshold
    if limit < 0:
        raise BadValue(f"the threshold is a number of edits from 0, got {limit:g}")
    _refuse_long("value", value, LONGEST_OF_EDITS, BadValue)

    def judge(context: AssertionContext) -> Finding:
        output = context.answer.text
        _refuse_long("answer", output, LONGEST_OF_EDITS, NotEvaluable)
        edits = distance(output, value)
        return Finding(edits <= limit, f"it is {edits} away: {quote(output)}")

    return Check(f"to be at most {limit:g} edits away from {quote(value)}", judge)


def _scored(name: str, measure: Measure, default: float) -> AssertionType:
    def prepare(value: Any, threshold: float | None) -> Check:
        texts = value if isinstance(value, list | tuple) else [value]
        if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
            raise BadValue(f"the value must be a text or a list of texts, got {shown(value)}")
        limit = default if threshold is None else threshold
        if not 0 < limit <= 1:
            raise BadValue(f"the threshold must be above 0 and at most 1, got {limit:g}")
        for text in texts:
            _refuse_long("value", text, LONGEST, BadValue)

        def judge(context: AssertionContext) -> Finding:
            output = context.answer.text
            _refuse_long("answer", output, LONGEST, NotEvaluable)
            best = min(1.0, measure(output, texts))
            holds = best >= limit - TOLERANCE
            return Finding(holds, f"it has {best:.3f}: {quote(output)}", best)

        return Check(f"to have {name} of at least {limit:g} against {listed(texts)}", judge)

    return prepare


def _refuse_long(
    what: str, text: str, most: int, error: type[BadValue] | type[NotEvaluable]
) -> None:
    if len(text) > most:
        raise error(f"the {what} has {len(text)} characters, at most {most} are compared")


def _rouge(output: str, references: Sequence[str]) -> float:
    return max(ngrams.rouge_1(output.lower(), one.lower()) for one in references)


def _gleu(output: str, references: Sequence[str]) -> float:
    words = ngrams.without_stops(output)
    return max(ngrams.gleu_score(words, ngrams.without_stops(one)) for one in references)


def _meteor(output: str, references: Sequence[str]) -> float:
    return max(meteor(output, one) for one in references)


TYPES: Mapping[str, AssertionType] = {
    "levenshtein": _levenshtein,
    "rouge-n": _scored("ROUGE-1", _rouge, 0.75),
    "bleu": _scored("BLEU", ngrams.bleu_score, 0.5),
    "gleu": _scored("GLEU", _gleu, 0.5),
    "meteor": _scored("METEOR", _meteor, 0.5),
}
