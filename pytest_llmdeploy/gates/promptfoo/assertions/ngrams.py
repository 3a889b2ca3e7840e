"""Assertions on n-grams: rouge-n, bleu, gleu."""

from __future__ import annotations

from collections.abc import Mapping

from pytest_llmdeploy.gates.measures.ngrams import (
    bleu_score,
    gleu_score,
    rouge_1,
    without_stops,
)
from pytest_llmdeploy.gates.promptfoo.assertions.given import (
    Given,
    Handler,
    Outcome,
    references,
    scored,
)


def rouge(given: Given) -> Outcome:
    """Judge ``rouge-n``: F1 of single words, counted as often as both have them."""
    if not isinstance(given.value, str):
        raise given.refuse("the value must be a text")
    score = rouge_1(given.text.lower(), given.value.lower())
    return scored(given, score, "ROUGE-1", 0.75)


def bleu(given: Given) -> Outcome:
    """Judge ``bleu`` against one or several references."""
    wanted = references(given)
    if not wanted:
        raise given.refuse("it needs a reference")
    return scored(given, bleu_score(given.text, wanted), "BLEU", 0.5)


def gleu(given: Given) -> Outcome:
    """Judge ``gleu``: the best of the references counts."""
    wanted = references(given)
    if not wanted:
        raise given.refuse("it needs a reference")
    candidate = without_stops(given.text)
    best = max((gleu_score(candidate, without_stops(one)) for one in wanted), default=0.0)
    return scored(given, best, "GLEU", 0.5)


HANDLERS: Mapping[str, Handler] = {"rouge-n": rouge, "bleu": bleu, "gleu": gleu}
