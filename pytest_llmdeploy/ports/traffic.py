"""Requests that go on during a release, and what became of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class RequestOutcome:
    """One request that has ended."""

    end: float
    """When it ended, on time.monotonic."""
    version: str | None
    """Who answered; None where no answer said."""
    ok: bool
    """It ended with a whole answer."""
    ended: str
    """How it ended, as in the ledger: ok, timeout, http_5xx, …"""
    latency: float | None
    """Seconds from sending to the end; None where it was not answered."""
    ttft: float | None = None
    """Seconds from sending to the first token; None where it was not streamed."""
    itl: float | None = None
    """Mean seconds between two tokens; None where it was not streamed."""
    tokens: int | None = None
    color: str | None = None
    """Where what splits the traffic sent it, as far as it says; known of failures, too."""
    sent: float | None = None
    """When it was sent, on time.monotonic; None where it was not."""


@dataclass(frozen=True, slots=True)
class TrafficProgress:
    """Requests so far."""

    intended: int
    ended: int
    failed: int
    """Those that ended otherwise than with a whole answer."""


class RunningTraffic(Protocol):
    """Requests that go on while something else happens."""

    def progress(self) -> TrafficProgress:
        """Return the requests so far; raise NotMeasuredError where the traffic has ended badly."""
        ...

    def outcomes(self) -> Sequence[RequestOutcome]:
        """Return the requests that have ended since the last call; raise as `progress`."""
        ...

    def finish(self) -> TrafficLedger:
        """Begin no more requests, let the open ones end, and return all of them."""
        ...


class TrafficLedger(Protocol):
    """Every request of a finished traffic, each of which ended once."""

    @property
    def zero(self) -> float:
        """Zero of the records' times, on time.monotonic."""
        ...

    @property
    def path(self) -> Path:
        """File of the records."""
        ...

    def records(self) -> Iterator[Mapping[str, Any]]:
        """Yield the requests in the order of their ends, with the keys of docs/load.md."""
        ...


class Traffic(Protocol):
    """A source of requests of which every one is accounted for."""

    def start(self) -> RunningTraffic:
        """Begin; returns when the first request is about to be sent. Raises NotMeasuredError."""
        ...
