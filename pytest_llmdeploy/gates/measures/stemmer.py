"""English words without their endings, after Porter (1980), "An algorithm for suffix stripping"."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

_CONSONANT: Final = "(?:[^aeiouy]|(?:^|(?<=[aeiou]))y)"
_VOWEL: Final = "(?:[aeiou]|(?<![aeiou])(?<!^)y)"
_MEASURE: Final = re.compile(f"{_VOWEL}+{_CONSONANT}+")
_HAS_VOWEL: Final = re.compile(_VOWEL)
_SHORT: Final = re.compile(f"{_CONSONANT}{_VOWEL}(?![wxy]){_CONSONANT}$")
_DOUBLE: Final = re.compile(r"([^aeiouylsz])\1$")
_STEP_2: Final = (
    ("ational", "ate"), ("tional", "tion"), ("enci", "ence"), ("anci", "ance"), ("izer", "ize"),
    ("abli", "able"), ("alli", "al"), ("entli", "ent"), ("eli", "e"), ("ousli", "ous"),
    ("ization", "ize"), ("ation", "ate"), ("ator", "ate"), ("alism", "al"), ("iveness", "ive"),
    ("fulness", "ful"), ("ousness", "ous"), ("aliti", "al"), ("iviti", "ive"), ("biliti", "ble"),
)  # fmt: skip
_STEP_3: Final = (
    ("icate", "ic"), ("ative", ""), ("alize", "al"), ("iciti", "ic"), ("ical", "ic"),
    ("ful", ""), ("ness", ""),
)  # fmt: skip
_STEP_4: Final = (
    "ement", "ance", "ence", "able", "ible", "ment", "ant", "ent", "ism", "ate", "iti", "ous",
    "ive", "ize", "ion", "al", "er", "ic", "ou",
)  # fmt: skip
LONGEST: Final = 60
"""Letters of a word that is still one; what is longer stays as it is."""


@lru_cache(maxsize=65536)
def stem(word: str) -> str:
    """Return the stem of a word in lower case; what is no word of a-z is its own."""
    if not 2 < len(word) <= LONGEST or not (word.isascii() and word.isalpha()):
        return word
    word = _plural(word)
    word = _past(word)
    if word.endswith("y") and _HAS_VOWEL.search(word[:-1]):
        word = word[:-1] + "i"
    for pairs in (_STEP_2, _STEP_3):
        word = _replaced(word, pairs)
    word = _without_suffix(word)
    return _tidied(word)


def _measure(part: str) -> int:
    """Return how often vowels are followed by consonants."""
    return len(_MEASURE.findall(part))


def _plural(word: str) -> str:
    if word.endswith(("sses", "ies")):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word


def _past(word: str) -> str:
    if word.endswith("eed"):
        return word[:-1] if _measure(word[:-3]) > 0 else word
    for ending in ("ed", "ing"):
        part = word.removesuffix(ending)
        if part != word and _HAS_VOWEL.search(part):
            break
    else:
        return word
    if part.endswith(("at", "bl", "iz")):
        return part + "e"
    if _DOUBLE.search(part):
        return part[:-1]
    return part + "e" if _measure(part) == 1 and _SHORT.search(part) else part


def _replaced(word: str, pairs: tuple[tuple[str, str], ...]) -> str:
    fitting = [pair for pair in pairs if word.endswith(pair[0])]
    if not fitting:
        return word
    ending, instead = max(fitting, key=lambda pair: len(pair[0]))
    part = word.removesuffix(ending)
    return part + instead if _measure(part) > 0 else word


def _without_suffix(word: str) -> str:
    ending = next((one for one in _STEP_4 if word.endswith(one)), None)
    if ending is None:
        return word
    part = word.removesuffix(ending)
    if _measure(part) <= 1 or (ending == "ion" and not part.endswith(("s", "t"))):
        return word
    return part


def _tidied(word: str) -> str:
    if word.endswith("e"):
        part = word[:-1]
        measure = _measure(part)
        if measure > 1 or (measure == 1 and not _SHORT.search(part)):
            word = part
    return word[:-1] if word.endswith("ll") and _measure(word[:-1]) > 1 else word
