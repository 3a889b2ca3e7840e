"""The requests of this run: what a client saw, by the version that answered.

Kept as tallies of slices of time, so memory does not grow with the number of requests. A slice
counts where all of it lies within the span asked for: nothing from before or after is in a figure.
Slices are cut at the times that were asked for, so at most a quarter of a second is left out, at a
time that nobody had asked for before.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pytest_llmdeploy.errors import NoDataError, NotMeasuredError
from pytest_llmdeploy.metrics.buckets import QUANTILES, from_histogram
from pytest_llmdeploy.ports import Reading, RequestOutcome, Subject, Tally
from pytest_llmdeploy.verdicts.histogram import Histogram

SLICE = 0.25
"""Seconds of a slice, at most."""
MOST_SLICES = 40_000
"""Slices of a version (2.7 hours); beyond, the older half is merged by twos."""
MOST_VERSIONS = 32
"""Versions that are told apart: names come from answers, which may say anything."""
MOST_CUTS = 256
NOT_OURS = frozenset({"cancelled", "dropped", "worker_lost"})
"""How requests end that say nothing about a service: given up, or never sent, by the client."""
TRUNCATED = "truncated"
Who = tuple[str, str] | None
"""``("color", …)`` or ``("version", …)``; None where nobody is known to have answered."""
_OFFERS = frozenset(
    {"tally", "error_rate", "truncated", "throughput", "tokens_per_second", *QUANTILES}
)


@dataclass(slots=True)
class _Slice:
    """What ended between two moments, both of which are times of requests in it."""

    first: float
    last: float
    sent: float
    """When the first of them was sent."""
    requests: int = 0
    errors: int = 0
    truncated: int = 0
    tokens: int = 0
    latency: Histogram = field(default_factory=Histogram)
    ttft: Histogram = field(default_factory=Histogram)
    itl: Histogram = field(default_factory=Histogram)

    def add(self, outcome: RequestOutcome, when: float, sent: float) -> None:
        self.first, self.last = min(self.first, when), max(self.last, when)
        self.sent = min(self.sent, sent)
        self.requests += 1
        self.tokens += outcome.tokens or 0
        self.truncated += outcome.ended == TRUNCATED
        if not outcome.ok:
            self.errors += 1
            return
        for histogram, value in (
            (self.latency, outcome.latency),
            (self.ttft, outcome.ttft),
            (self.itl, outcome.itl),
        ):
            if value is not None and math.isfinite(value):
                histogram.add(max(0.0, value))

    def merge(self, other: _Slice) -> None:
        self.first, self.last = min(self.first, other.first), max(self.last, other.last)
        self.sent = min(self.sent, other.sent)
        self.requests += other.requests
        self.errors += other.errors
        self.truncated += other.truncated
        self.tokens += other.tokens
        self.latency.merge(other.latency)
        self.ttft.merge(other.ttft)
        self.itl.merge(other.itl)


class ClientSource:
    """A MetricsSource of the requests that `drain` hands over."""

    name = "client"

    def __init__(
        self,
        drain: Callable[[], Sequence[RequestOutcome]],
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`drain` returns the requests that have ended since it was called last.

        Their times are made those of `clock` with the difference of the two clocks now, so a clock
        that is set during the run moves no request.
        """
        self._drain = drain
        self._offset = clock() - monotonic()
        self._slices: dict[Who, list[_Slice]] = {}
        self._cuts: deque[float] = deque(maxlen=MOST_CUTS)

    def offers(self, signal: str) -> bool:
        """Whether it can tell a signal: all but the use of CPU and memory."""
        return signal in _OFFERS

    def look(self, subjects: Sequence[Subject] = ()) -> None:  # noqa: ARG002 - all are kept
        """Take over what has ended since; raise NotMeasuredError where the traffic has failed."""
        open_slices: dict[tuple[Who, int, int, int], _Slice] = {}
        for outcome in self._drain():
            if outcome.ended in NOT_OURS:
                continue
            when = outcome.end + self._offset
            sent = (outcome.end if outcome.sent is None else outcome.sent) + self._offset
            who = self._kept(_who(outcome))
            after = sum(cut < when for cut in self._cuts)
            sent_after = sum(cut < sent for cut in self._cuts)
            key = (who, math.floor(when / SLICE), after, sent_after)
            if key not in open_slices:
                open_slices[key] = _Slice(when, when, sent)
                self._slices[who].append(open_slices[key])
            open_slices[key].add(outcome, when, sent)
        for slices in self._slices.values():
            _shorten(slices)

    def _kept(self, who: Who) -> Who:
        """Return the name under which a version is kept; None beyond so many names."""
        if who not in self._slices and len(self._slices) > MOST_VERSIONS:
            who = None
        self._slices.setdefault(who, [])
        return who

    def read(self, signal: str, subject: Subject, since: float, until: float) -> Reading:
        """Return a signal over the requests that ended in a span of time."""
        span = until - since
        query = f"{signal} of {_question(_name(subject), since, until)}"
        known = _known(subject)
        if not self.offers(signal):
            raise NotMeasuredError(f"{query}: the client's requests do not tell it")
        if span <= 0:
            raise NoDataError(f"{query}: the span is empty")
        found = self._between(known, since, until)
        if signal == "throughput" and (found.requests or self._any(since, until)):
            return Reading(found.requests / span, query, found.requests)
        if not found.requests:
            raise NoDataError(f"{query}: no request was answered by it")
        if signal == "error_rate":
            return Reading(found.errors / found.requests, query, found.requests)
        if signal == "truncated":
            return Reading(found.truncated / found.requests, query, found.requests)
        if signal == "tokens_per_second":
            if not found.tokens:
                raise NoDataError(f"{query}: no answer told its number of tokens")
            return Reading(found.tokens / span, query, found.requests)
        field_name, q = QUANTILES[signal]
        histogram: Histogram = getattr(found, field_name)
        value = histogram.quantile(q)
        if value is None:
            raise NoDataError(f"{query}: none of {found.requests} requests has one")
        return Reading(value, query, histogram.total)

    def tally(self, subject: Subject, since: float, until: float) -> Tally:
        """Return what happened to the requests that were sent, and ended, in a span of time.

        A span without any of the version's raises NoDataError.
        """
        query = _question(_name(subject), since, until)
        tally = _tally(self._between(_known(subject), since, until, sent=True), query)
        if not tally.requests:
            raise NoDataError(f"{query}: no request was answered by it")
        return tally

    def unattributed(self, since: float, until: float) -> Tally:
        """Return the requests of which no answer said who gave it; no error where none is."""
        found = self._between((None,), since, until, sent=True)
        return _tally(found, _question("no version", since, until))

    def close(self) -> None:
        """Release nothing: the traffic belongs to its owner."""

    def _any(self, since: float, until: float) -> bool:
        return bool(self._between(tuple(self._slices), since, until).requests)

    def _between(
        self, known: Sequence[Who], since: float, until: float, *, sent: bool = False
    ) -> _Slice:
        """Return what ended, and with `sent` was sent, in a span of time."""
        found = _Slice(until, since, until)
        for who in known:
            for piece in self._slices.get(who, ()):
                begun = piece.sent if sent else piece.first
                if since <= begun and piece.last <= until:
                    found.merge(piece)
        for moment in (since, until):
            if moment not in self._cuts:
                self._cuts.append(moment)
        return found


def _who(outcome: RequestOutcome) -> Who:
    """Return who answered: as what split the traffic says, or else the answer itself."""
    if outcome.color is not None:
        return ("color", outcome.color)
    return None if outcome.version is None else ("version", outcome.version)


def _known(subject: Subject) -> tuple[Who, ...]:
    """Return all that a version's requests may be kept under; each is under one of them."""
    return (("color", subject.color), ("version", _name(subject)))


def _name(subject: Subject) -> str:
    if subject.version is None:
        raise NotMeasuredError(
            f"requests of this run: answers of the {subject.role} version do not say who gave "
            "them (service.version_header), so its requests cannot be told from the other's"
        )
    return subject.version


def _question(version: str, since: float, until: float) -> str:
    return f"requests of this run answered by {version}, {until - since:.1f} s"


def _tally(found: _Slice, query: str) -> Tally:
    return Tally(
        requests=found.requests,
        errors=found.errors,
        latency=from_histogram(found.latency),
        ttft=from_histogram(found.ttft),
        query=query,
    )


def _shorten(slices: list[_Slice]) -> None:
    """Merge the older half by twos where there are too many."""
    if len(slices) <= MOST_SLICES:
        return
    slices.sort(key=lambda piece: piece.first)
    half = len(slices) // 2
    older, slices[:half] = slices[:half], []
    merged = older[::2]
    for piece, other in zip(merged, older[1::2], strict=False):
        piece.merge(other)
    slices[:0] = merged
