"""Planted faults: their kinds, how they are written, and which requests they hit."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from enum import StrEnum
from fractions import Fraction
from typing import NamedTuple

from pytest_llmdeploy.errors import LLMDeployError

HEADER = "x-llm-fault"
"""Request header that plants faults into the one request that carries it."""
PLANTED_EXIT = 70
"""Exit code of a process that a planted fault ended."""
_NUMBER = re.compile(r"\d{1,9}(\.\d{1,9})?")


class FaultError(LLMDeployError):
    """Mend the fault's text: an unknown kind or a value that does not fit."""


class Value(StrEnum):
    """What may stand after the equals sign of a kind."""

    SHARE = "a share from 0 to 1"
    NUMBER = "a number of 0 or more"
    COUNT = "a whole number"
    NOTHING = "no value"


class Kind(NamedTuple):
    """One kind of fault."""

    value: Value
    process: bool = False
    """It concerns the process as a whole, so a request's header cannot plant it."""


KINDS: Mapping[str, Kind] = {
    "error-500": Kind(Value.SHARE),
    "error-503": Kind(Value.SHARE),
    "error-429": Kind(Value.SHARE),
    "hang": Kind(Value.SHARE),
    "html": Kind(Value.SHARE),
    "garbage-json": Kind(Value.SHARE),
    "cut-stream": Kind(Value.SHARE),
    "no-done": Kind(Value.SHARE),
    "no-finish": Kind(Value.SHARE),
    "error-event": Kind(Value.SHARE),
    "wrong-usage": Kind(Value.SHARE),
    "empty-answer": Kind(Value.SHARE),
    "worse-answers": Kind(Value.SHARE),
    "wrong-version": Kind(Value.SHARE),
    "latency": Kind(Value.NUMBER),
    "latency-factor": Kind(Value.NUMBER),
    "ttft-factor": Kind(Value.NUMBER),
    "slow-tail": Kind(Value.SHARE),
    "tail-factor": Kind(Value.NUMBER),
    "retry-after": Kind(Value.NUMBER),
    "bad-error-shape": Kind(Value.NOTHING),
    "no-version-header": Kind(Value.NOTHING),
    "not-ready": Kind(Value.NOTHING),
    "unhealthy": Kind(Value.NOTHING),
    "no-metrics": Kind(Value.NOTHING),
    "leak": Kind(Value.NUMBER, process=True),
    "fail-first": Kind(Value.COUNT, process=True),
    "crash-after": Kind(Value.COUNT, process=True),
    "exit-at-start": Kind(Value.NOTHING, process=True),
    "slow-start": Kind(Value.NUMBER, process=True),
}
ARRIVAL = ("error-500", "error-503", "error-429", "hang", "html")
"""Kinds that answer in place of a /v1 route; a request is hit by one of them at most."""


def parse_faults(text: str) -> dict[str, Fraction]:
    """Return kind to value of a comma-separated list of ``kind[=value]``; raise FaultError.

    A kind without a value counts as 1, and so does a share that is left out.
    """
    return dict(_parse(part.strip()) for part in text.split(",") if part.strip())


def _parse(spec: str) -> tuple[str, Fraction]:
    name, equals, text = spec.partition("=")
    kind = KINDS.get(name)
    if kind is None:
        near = difflib.get_close_matches(name, KINDS, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"the kinds are {', '.join(KINDS)}"
        raise FaultError(f"unknown fault {name!r}: {hint}")
    if not equals and kind.value in (Value.SHARE, Value.NOTHING):
        return name, Fraction(1)
    # Digits only: a Fraction of "1e999999999" would take the memory of the whole machine.
    value = Fraction(text) if _NUMBER.fullmatch(text) else None
    if (
        value is None
        or kind.value is Value.NOTHING
        or (kind.value is Value.SHARE and value > 1)
        or (kind.value is Value.COUNT and value.denominator != 1)
    ):
        raise FaultError(f"fault {spec!r}: {name} takes {kind.value}")
    return name, value


class FaultBook:
    """The faults of a process and the counts that say which request is hit next.

    A share earns credit with each request that it could hit, and one full credit hits: 0.02 hits
    exactly every 50th. The seed is where the count begins.
    """

    def __init__(self, values: Mapping[str, Fraction], seed: int = 0) -> None:
        self._values = values
        # A stride prime to the modulus spreads neighbouring seeds over the whole interval.
        start = Fraction(seed * 618_033 % 1_000_000, 1_000_000)
        self._credit = dict.fromkeys(
            (name for name in self._values if KINDS[name].value is Value.SHARE), start
        )
        self._counts: Counter[str] = Counter()

    def value(self, kind: str) -> float | None:
        """Return the value of a kind that is no share, None where it is not planted."""
        return float(self._values[kind]) if kind in self._values else None

    def within(self, kind: str) -> bool:
        """Count one request for a COUNT kind; true while it is among the first of that number."""
        self._counts[kind] += 1
        return self._counts[kind] <= int(self._values.get(kind, 0))

    def drawn(self, kinds: Sequence[str]) -> set[str]:
        """Return those of `kinds` that hit this request, each for itself."""
        self._earn(kinds)
        return {kind for kind in kinds if self._spend(kind)}

    def first_drawn(self, kinds: Sequence[str]) -> str | None:
        """Return the one of `kinds` that hits this request; further ones wait for the next."""
        self._earn(kinds)
        return next((kind for kind in kinds if self._spend(kind)), None)

    def _earn(self, kinds: Sequence[str]) -> None:
        for kind in kinds:
            if kind in self._credit:
                self._credit[kind] += self._values[kind]

    def _spend(self, kind: str) -> bool:
        if self._credit.get(kind, 0) < 1:
            return False
        self._credit[kind] -= 1
        return True


class RequestFaults:
    """What is planted for one request: the process's faults and those of its header."""

    def __init__(self, book: FaultBook, header: str = "") -> None:
        """Raise FaultError for a header that is wrong or that names a fault of the process."""
        self.book = book
        values = parse_faults(header)
        for name, value in values.items():
            if KINDS[name].process:
                raise FaultError(f"fault {name!r} concerns the process, not one request")
            if KINDS[name].value is Value.SHARE and value != 1:
                raise FaultError(f"fault {name!r}: one request has no share, leave the value out")
        self._own = FaultBook(values)

    def value(self, kind: str) -> float | None:
        """Return the value of a kind that is no share, None where it is not planted."""
        own = self._own.value(kind)
        return self.book.value(kind) if own is None else own

    def drawn(self, kinds: Sequence[str]) -> set[str]:
        """Return those of `kinds` that hit this request, each for itself."""
        return self.book.drawn(kinds) | self._own.drawn(kinds)

    def first_drawn(self, kinds: Sequence[str]) -> str | None:
        """Return the one of `kinds` that hits this request; the header's goes first."""
        return self._own.first_drawn(kinds) or self.book.first_drawn(kinds)
