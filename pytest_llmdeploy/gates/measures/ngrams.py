"""ROUGE-1, BLEU and GLEU: scores from 0 to 1 on the n-grams that two texts share."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

from pytest_llmdeploy.gates.measures.spaces import SPACE, trim
from pytest_llmdeploy.gates.measures.treebank import tokens

_SPACES = re.compile(f"[{SPACE}]+")
_ORDERS = (1, 2, 3, 4)
_NOTHING = 1e-7
"""Stands for a precision of 0, so that one order without a match does not make all 0."""


def rouge_1(candidate: str, reference: str) -> float:
    """Return the F1 of the words that both have."""
    left, right = tokens(candidate), tokens(reference)
    overlap = _overlap(_grams(left, 1), _grams(right, 1))
    if not overlap:
        return 0.0
    precision, recall = overlap / len(left), overlap / len(right)
    low, high = min(precision, recall), max(precision, recall)
    return precision if precision == recall else min(high, low * (2 / (1 + low / high)))


def bleu_score(candidate: str, wanted: Sequence[str]) -> float:
    """Return BLEU of orders 1 to 4 (Papineni et al. 2002), of those that have an n-gram."""
    if not trim(candidate):
        return 0.0
    words = _words(candidate)
    others = [_words(one) for one in wanted]
    closest = min((len(one) for one in others), key=lambda n: (abs(n - len(words)), n))
    logs = []
    for order in _ORDERS:
        grams = _grams(words, order)
        if not grams:
            continue
        matched = max(_overlap(grams, _grams(one, order)) for one in others)
        logs.append(math.log(matched / grams.total() or _NOTHING))
    brevity = 1.0 if len(words) > closest else math.exp(1 - closest / len(words))
    return brevity * math.exp(sum(one / len(logs) for one in logs))


def gleu_score(candidate: Sequence[str], reference: Sequence[str]) -> float:
    """Return the smaller of precision and recall over the n-grams of orders 1 to 4."""
    if not candidate:
        return 0.0
    if candidate == reference:
        return 1.0
    matched = left = right = 0
    for order in _ORDERS:
        ours, theirs = _grams(candidate, order), _grams(reference, order)
        matched += _overlap(ours, theirs)
        left += ours.total()
        right += theirs.total()
    return min(matched / left, matched / right) if left and right else 0.0


def _words(text: str) -> list[str]:
    return _SPACES.split(trim(text.lower()))


def without_stops(text: str) -> list[str]:
    words = [word.rstrip(".") for word in _words(text)]
    return words if any(words) else []


def _grams(words: Sequence[str], order: int) -> Counter[str]:
    return Counter(
        " ".join(words[start : start + order]) for start in range(len(words) - order + 1)
    )


def _overlap(ours: Counter[str], theirs: Counter[str]) -> int:
    return sum(min(count, theirs[gram]) for gram, count in ours.items() if gram in theirs)
