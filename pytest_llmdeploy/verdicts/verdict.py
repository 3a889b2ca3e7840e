"""The four verdicts; none of them is ever folded into another."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum


class Verdict(StrEnum):
    """What a check concluded."""

    PASS = "PASS"  # noqa: S105 - a verdict, not a password
    """Measured, and good enough."""
    FAIL = "FAIL"
    """Measured, and not good enough."""
    INCONCLUSIVE = "INCONCLUSIVE"
    """Measured, but not enough to tell."""
    ERROR = "ERROR"
    """Could not be measured."""


_SEVERITY = (Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.ERROR, Verdict.FAIL)


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the verdict of the whole: FAIL over ERROR over INCONCLUSIVE over PASS.

    No verdict at all is ERROR: nothing was measured.
    """
    return max(verdicts, key=_SEVERITY.index, default=Verdict.ERROR)
