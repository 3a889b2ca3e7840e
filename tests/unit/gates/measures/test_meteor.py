"""METEOR and its stems, by values computed by hand and the examples of Porter's paper."""

from __future__ import annotations

import pytest

from pytest_llmdeploy.gates.measures.meteor import meteor
from pytest_llmdeploy.gates.measures.stemmer import stem

PORTER = """
caresses caress  ponies poni  ties ti  cats cat  feed feed  agreed agre  plastered plaster
bled bled  motoring motor  sing sing  conflated conflat  troubled troubl  sized size
hopping hop  tanned tan  falling fall  hissing hiss  fizzed fizz  failing fail  filing file
happy happi  sky sky  relational relat  conditional condit  rational ration  valenci valenc
digitizer digit  conformabli conform  radicalli radic  vileli vile  analogousli analog
vietnamization vietnam  predication predic  operator oper  feudalism feudal  hopefulness hope
callousness callous  formaliti formal  sensibiliti sensibl  triplicate triplic  formative form
formalize formal  electriciti electr  electrical electr  hopeful hope  goodness good
revival reviv  allowance allow  inference infer  airliner airlin  gyroscopic gyroscop
adjustable adjust  defensible defens  irritant irrit  replacement replac  adjustment adjust
dependent depend  adoption adopt  communism commun  activate activ  effective effect
bowdlerize bowdler  probate probat  rate rate  cease ceas  controll control  roll roll
"""


PAIRS = [tuple(pair.split()) for pair in PORTER.replace("\n", "  ").split("  ") if pair]


@pytest.mark.parametrize(("word", "wanted"), PAIRS)
def test_stems_of_the_paper(word: str, wanted: str) -> None:
    assert stem(word) == wanted


@pytest.mark.parametrize(
    ("candidate", "reference", "score"),
    [
        # One chunk of n words costs 0.5 / n^3.
        ("Paris", "paris", 0.5),
        ("a b c d", "a b c d", 1 - 0.5 / 64),
        ("the cat sat", "the cats sat", 1 - 0.5 / 27),
        # Two of two words in two chunks: all of the penalty.
        ("b a", "a b", 0.5),
        # P 1, R 1/2: mean 0.5 / (0.9 + 0.05), one chunk of 2.
        ("a b", "a b c d", 0.5 / 0.95 * (1 - 0.5 / 8)),
        ("x y", "z w", 0.0),
        ("", "a", 0.0),
    ],
)
def test_values_by_hand(candidate: str, reference: str, score: float) -> None:
    assert meteor(candidate, reference) == pytest.approx(score)


def test_a_chunk_is_carried_on_where_it_can_be() -> None:
    # "b a": the a after b is taken, not the first one.
    assert meteor("b a", "a b a") == pytest.approx(2 / 3 / (0.9 + 0.1 * 2 / 3) * (1 - 0.5 / 8))
