"""Figures about versions, and where they come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Subject:
    """One of the two versions that are compared."""

    role: str
    """``stable`` or ``canary``."""
    color: str
    version: str | None
    """What it calls itself in answers; None where it does not say."""
    pods: tuple[str, ...] = ()
    """Its ready replicas."""


Buckets = tuple[tuple[float, int], ...]
"""A distribution: upper edge (seconds, the last may be infinite) and number of values above the
edge before and up to this one; edges grow."""


@dataclass(frozen=True, slots=True)
class Tally:
    """What happened to a version's requests in a span of time."""

    requests: int
    errors: int
    latency: Buckets = ()
    """Seconds until answers were whole; only `client` leaves failed ones out. Empty: not known."""
    ttft: Buckets = ()
    """Seconds until the first token of streamed answers; empty: not known."""
    query: str = ""
    """What was asked for it, for people."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One value of one signal."""

    value: float
    """Finite."""
    query: str
    """What was asked for it, for people."""
    n: int | None = None
    """Requests behind it, where it is about requests."""


class MetricsSource(Protocol):
    """Where figures about versions come from.

    Times are those of time.time(). What is asked but not there (no series, no request, stale, NaN)
    raises NoDataError; what could not be asked, or is ambiguous (several series), raises
    NotMeasuredError; both with the query in their text.
    """

    @property
    def name(self) -> str:
        """``client``, ``prometheus`` or ``scrape``."""
        ...

    def offers(self, signal: str) -> bool:
        """Whether it can tell this signal (`config.canary.SIGNALS`), or ``tally``."""
        ...

    def look(self, subjects: Sequence[Subject]) -> None:
        """Take note of what is now; called every `canary.look_interval` or more often."""
        ...

    def read(self, signal: str, subject: Subject, since: float, until: float) -> Reading:
        """Return a signal over a span of time."""
        ...

    def tally(self, subject: Subject, since: float, until: float) -> Tally:
        """Return what happened to the requests in a span of time."""
        ...

    def close(self) -> None:
        """Release connections."""
        ...
