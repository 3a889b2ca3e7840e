"""Which answers are judged on the spot, as a thread to do it in would take longer than judging.

A thread that starts waits for its turn among the others: about a millisecond an answer, during
which the event loop stands still.
"""

from __future__ import annotations

from pytest_llmdeploy.gates.assertions import AssertionSet, AssertionSpec
from pytest_llmdeploy.gates.case import Case
from pytest_llmdeploy.ports import Answer

LONGEST_TEXT = 20_000
"""Characters of an answer: what takes longer the longer it is leaves the event loop beyond."""
MOST_WORK = 1_000_000
"""Characters of the answer times those of the value: texts of a list are looked for one by one."""
TYPES = frozenset(
    {
        *("contains", "contains-any", "contains-all", "icontains", "icontains-any"),
        *("icontains-all", "starts-with", "word-count", "equals"),
        *("latency", "cost", "finish-reason"),
    }
)
"""Built-in types that need no more than a look through the text, and run nobody else's code."""


def is_instant(case: Case, answer: Answer) -> bool:
    """Return whether judging the answer takes a fraction of a millisecond, whatever it says."""
    length = len(answer.text)
    return (
        length <= LONGEST_TEXT
        and not case.transforms
        and all(_is_cheap(spec, length) for spec in case.assertions)
    )


def _is_cheap(spec: AssertionSpec | AssertionSet, length: int) -> bool:
    if isinstance(spec, AssertionSet):
        return all(_is_cheap(part, length) for part in spec.assertions)
    return (
        spec.type in TYPES and spec.transform is None and len(str(spec.value)) * length <= MOST_WORK
    )
