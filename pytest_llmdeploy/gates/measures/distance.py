"""How far texts are apart, by columns of bits: thousands of characters take milliseconds."""

from __future__ import annotations

from collections.abc import Sequence


def distance(left: str, right: str) -> int:
    """Return the least number of insertions, deletions and replacements between two texts.

    By columns of bits, as Myers has it (1999, in the form of Hyyro 2003): a column of the table
    is two whole numbers, so a text of thousands of characters takes milliseconds.
    """
    if len(left) > len(right):
        left, right = right, left
    if not left:
        return len(right)
    places: dict[str, int] = {}
    for index, char in enumerate(left):
        places[char] = places.get(char, 0) | 1 << index
    full = (1 << len(left)) - 1
    last = 1 << (len(left) - 1)
    up, down, edits = full, 0, len(left)
    for char in right:
        equal = places.get(char, 0)
        vertical = equal | down
        horizontal = (((equal & up) + up) ^ up) | equal
        more = down | (full & ~(horizontal | up))
        less = up & horizontal
        edits += bool(more & last) - bool(less & last)
        more = ((more << 1) | 1) & full
        less = (less << 1) & full
        up = less | (full & ~(vertical | more))
        down = more & vertical
    return edits


def common_subsequence(first: Sequence[str], second: Sequence[str]) -> int:
    """Return the length of the longest common subsequence.

    Bit-parallel after Hyyrö (2004), "Bit-parallel LCS-length computation revisited".
    """
    places: dict[str, int] = {}
    for position, char in enumerate(first):
        places[char] = places.get(char, 0) | 1 << position
    every = (1 << len(first)) - 1
    row = every
    for char in second:
        matched = row & places.get(char, 0)
        row = ((row + matched) | (row - matched)) & every
    return len(first) - row.bit_count()
