"""Assertion types that a judging model decides: its prompts, its votes, and what they come to.

Nothing here knows who judges: questions go through `Grading`. An answer is data to a judge, and a
judge's answer is data to us.
"""

from pytest_llmdeploy.gates.assertions.graded.types import TYPES

__all__ = ["GRADED_TYPES", "TYPES"]

GRADED_TYPES = frozenset({*TYPES, "similar", "similar:cosine", "similar:dot", "similar:euclidean"})
"""Types that ask somebody: a judge, or who makes vectors."""
