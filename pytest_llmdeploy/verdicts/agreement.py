"""How well those who judge the same things agree: judges with people, or with each other.

Cohen's kappa ("A coefficient of agreement for nominal scales", Educational and Psychological
Measurement 20, 1960) is for two who judge everything; Krippendorff's alpha ("Content Analysis") for
any number of them, with gaps. Both are 1 for perfect agreement and 0 for that of chance.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from typing import NamedTuple

from pytest_llmdeploy.verdicts.proportions import bounds


class Agreement(NamedTuple):
    """How two agree."""

    n: int
    """Things that both judged."""
    share: float | None
    """Of these, how many they judged alike; None when there were none."""
    lower: float
    """The share is at least this, with the confidence asked for (Wilson)."""
    upper: float
    kappa: float | None
    """Cohen's kappa; None where both gave one and the same label throughout: then agreement is no
    evidence of judgement. None without anything to judge."""


def cohens_kappa(pairs: Iterable[tuple[Hashable, Hashable]], confidence: float = 0.95) -> Agreement:
    """Return how well two agree, from the labels both gave to each thing."""
    counts = Counter(pairs)
    n = counts.total()
    if not n:
        return Agreement(0, None, 0.0, 1.0, None)
    alike = sum(number for (first, second), number in counts.items() if first == second)
    firsts: Counter[Hashable] = Counter()
    seconds: Counter[Hashable] = Counter()
    for (first, second), number in counts.items():
        firsts[first] += number
        seconds[second] += number
    by_chance = sum(number * seconds[label] for label, number in firsts.items())  # of n * n
    kappa = (n * alike - by_chance) / (n * n - by_chance) if by_chance < n * n else None
    lower, upper = bounds("wilson", alike / n, n, confidence)
    return Agreement(n, alike / n, lower, upper, kappa)


def krippendorffs_alpha(units: Iterable[Sequence[Hashable | None]]) -> float | None:
    """Return Krippendorff's alpha for labels without order; a unit is all labels of one thing.

    None among them stands for no label. Things with fewer than two labels say nothing. None where
    nothing was labelled twice, and where only one label was ever given.
    """
    totals: Counter[Hashable] = Counter()
    observed = 0.0
    for unit in units:
        labels = Counter(label for label in unit if label is not None)
        m = labels.total()
        if m < 2:
            continue
        totals += labels
        observed += sum(number * (m - number) for number in labels.values()) / (m - 1)
    n = totals.total()
    expected = sum(number * (n - number) for number in totals.values())
    return 1 - (n - 1) * observed / expected if expected else None
