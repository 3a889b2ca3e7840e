"""Edits and shared words: values by hand, both ways, bounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.gates.judging import holds_and_fails, judged, not_evaluable, refused


@pytest.mark.parametrize(
    ("raw", "good", "bad", "reason"),
    [
        (
            "levenshtein(2): Paris",
            "Pariss!",
            "Pariss!!",
            'expected the answer to be at most 2 edits away from "Paris", it is 3 away: "Pariss!!"',
        ),
        (
            "rouge-n: the cat",
            "the cat",
            "the dog",
            'expected the answer to have ROUGE-1 of at least 0.75 against "the cat", it has 0.500:'
            ' "the dog"',
        ),
        (
            "bleu: the cat sat on",
            "the cat sat on",
            "a dog",
            'expected the answer to have BLEU of at least 0.5 against "the cat sat on", it has'
            ' 0.000: "a dog"',
        ),
        (
            {"gleu": ["x y", "a b"]},
            "a b",
            "a",
            'expected the answer to have GLEU of at least 0.5 against "x y", "a b", it has 0.333:'
            ' "a"',
        ),
        (
            "meteor: the cats sat",
            "the cat sat",
            "cat",
            'expected the answer to have METEOR of at least 0.5 against "the cats sat", it has'
            ' 0.179: "cat"',
        ),
    ],
)
def test_both_ways(raw: str, good: str, bad: str, reason: str) -> None:
    holds_and_fails(raw, good, bad, reason)


def test_what_cannot_work() -> None:
    assert refused("levenshtein") == "levenshtein: the value must be a text, got nothing"
    assert refused("levenshtein(-1): a") == (
        "levenshtein: the threshold is a number of edits from 0, got -1"
    )
    assert refused("bleu(2): x") == "bleu: the threshold must be above 0 and at most 1, got 2"
    assert refused({"gleu": []}) == "gleu: the value must be a text or a list of texts, got a list"


def test_long_answers_are_not_compared() -> None:
    assert not_evaluable("not-levenshtein: a", "a" * 20_001) == (
        "the answer has 20001 characters, at most 20000 are compared"
    )
    assert not_evaluable("rouge-n: a", "a" * 100_001) == (
        "the answer has 100001 characters, at most 100000 are compared"
    )


@given(st.sampled_from(("rouge-n", "bleu", "gleu", "meteor")), st.text(max_size=80), st.text())
def test_scores_lie_between_0_and_1(kind: str, text: str, reference: str) -> None:
    if reference.strip():
        score = judged({kind: [reference]}, text).score
        assert 0 <= score <= 1
        assert judged({f"not-{kind}": [reference]}, text).score == pytest.approx(1 - score)
