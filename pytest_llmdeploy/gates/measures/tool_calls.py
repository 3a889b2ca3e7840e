"""How near calls of tools are to those that were expected: names, order, arguments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set


def f1(wanted: Set[str], called: Set[str]) -> float:
    """Return the F1 of two sets of names; 0 where they share none."""
    both = len(wanted & called)
    if not both:
        return 0.0
    precision, recall = both / len(called), both / len(wanted)
    return 2 * precision * recall / (precision + recall)


def in_order(wanted: Sequence[str], called: Sequence[str]) -> bool:
    """Say whether all wanted names come in this order, whatever comes between them."""
    rest = iter(called)
    return all(name in rest for name in wanted)


def same(wanted: object, given: object) -> bool:
    """Compare values of JSON: 1 is 1.0 and not true; the order of keys is nothing."""
    if isinstance(wanted, bool) or isinstance(given, bool):
        return wanted is given
    if isinstance(wanted, Mapping) and isinstance(given, Mapping):
        return wanted.keys() == given.keys() and all(
            same(value, given[key]) for key, value in wanted.items()
        )
    if isinstance(wanted, list | tuple) and isinstance(given, list | tuple):
        return len(wanted) == len(given) and all(map(same, wanted, given))
    return wanted == given


def covers(wanted: object, given: object) -> bool:
    """Say whether all that is wanted is there: objects may have more keys, lists are compared."""
    if isinstance(wanted, Mapping) and isinstance(given, Mapping):
        return all(key in given and covers(value, given[key]) for key, value in wanted.items())
    return same(wanted, given)
