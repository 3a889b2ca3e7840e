"""METEOR without synonyms: words match as they are, or by their stem.

After Banerjee and Lavie (2005) with the weights that later became common: alpha 0.9, beta 3,
gamma 0.5. Matches of synonyms, which need WordNet, are left out.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from typing import Final

from pytest_llmdeploy.gates.measures.stemmer import stem
from pytest_llmdeploy.gates.measures.treebank import tokens

ALPHA: Final = 0.9
"""Weight of recall in the mean of precision and recall."""
BETA: Final = 3
GAMMA: Final = 0.5
"""Most that scattered matches take away."""


def meteor(candidate: str, reference: str) -> float:
    """Return the score, 0 to 1; never quite 1, as even one chunk of matches costs a little."""
    said, wanted = tokens(candidate.lower()), tokens(reference.lower())
    matches = _aligned(said, wanted)
    if not matches:
        return 0.0
    count = len(matches)
    precision, recall = count / len(said), count / len(wanted)
    mean = precision * recall / (ALPHA * precision + (1 - ALPHA) * recall)
    penalty: float = GAMMA * (_chunks(matches) / count) ** BETA
    return mean * (1 - penalty)


def _aligned(said: Sequence[str], wanted: Sequence[str]) -> dict[int, int]:
    """Return which word of the reference each word matches: as it is first, then by its stem."""
    matches: dict[int, int] = {}
    taken: set[int] = set()
    stages: tuple[Callable[[str], str], ...] = (str, stem)
    for form in stages:
        free: dict[str, deque[int]] = defaultdict(deque)
        for index, word in enumerate(wanted):
            if index not in taken:
                free[form(word)].append(index)
        for at, word in enumerate(said):
            if at in matches:
                continue
            place = _best(free.get(form(word)), taken, matches.get(at - 1, -2) + 1, form, wanted)
            if place is not None:
                matches[at] = place
                taken.add(place)
    return matches


def _best(
    places: deque[int] | None,
    taken: set[int],
    following: int,
    form: Callable[[str], str],
    wanted: Sequence[str],
) -> int | None:
    """Return the place that carries the chunk on where that is free, else the first free one."""
    while places and places[0] in taken:
        places.popleft()
    if not places:
        return None
    carries_on = (
        0 <= following < len(wanted)
        and following not in taken
        and form(wanted[following]) == form(wanted[places[0]])
    )
    return following if carries_on else places[0]


def _chunks(matches: dict[int, int]) -> int:
    """Return how many runs of words follow each other in both texts."""
    return sum(matches.get(at - 1, -2) + 1 != place for at, place in matches.items())
