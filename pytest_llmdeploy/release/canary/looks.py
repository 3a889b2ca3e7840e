"""What a canary saw, look by look: kept so that it can be judged again, by other limits.

A line of ``looks.jsonl`` is one look. Counts are those since the phase began, kept as what has come
to them since the look before; so a line stays short, and the sums are exact.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from pytest_llmdeploy.ports import Buckets, Tally

STABLE, CANARY = "stable", "canary"
NO_DATA, NOT_MEASURED = "no-data", "not-measured"


@dataclass(frozen=True, slots=True)
class Missing:
    """Something that was asked for in vain."""

    kind: str
    """`NO_DATA` where it is not there, `NOT_MEASURED` where it could not be asked for."""
    why: str
    """With the query."""


@dataclass(frozen=True, slots=True)
class Value:
    """One sample of one signal."""

    value: float
    query: str
    source: str
    n: int | None = None


@dataclass(frozen=True, slots=True)
class Look:
    """What was known at one moment of a phase."""

    phase: str
    weight: int
    """Percent that the router could make."""
    at: float
    """Seconds since the epoch."""
    elapsed: float
    """Seconds since the phase began."""
    tallies: Mapping[str, Tally | Missing]
    """By role, from the phase's beginning until now."""
    source: str = ""
    """Where the tallies come from."""
    sent: Mapping[str, int] = field(default_factory=dict)
    """Answers to this run's own requests by role: the served split."""
    unattributed: int = 0
    """This run's own requests of which nobody is known to have answered them."""
    sample: Mapping[str, Value | Missing] | None = None
    """The signals of `sla` over the last `sample_interval`; None between two samples."""
    answers: Mapping[str, Any] | None = None
    """What `quality` found, once it was asked."""
    lag: float = 0.0
    """Seconds by which the ends of the two tallies may lie apart."""
    failed: Mapping[str, int] = field(default_factory=dict)
    """Of `sent`, those that a client takes for failures: streams that broke off, too."""


class LookWriter:
    """Appends looks to a file."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._file: TextIO | None = None
        self._before: dict[tuple[str, str], Tally] = {}

    def write(self, look: Look) -> None:
        """Append one look."""
        if self._file is None:
            self._file = self._path.open("a", encoding="utf-8")
        self._file.write(json.dumps(self._line(look), separators=(",", ":")) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _line(self, look: Look) -> dict[str, Any]:
        line: dict[str, Any] = {
            "phase": look.phase,
            "weight": look.weight,
            "at": round(look.at, 3),
            "elapsed": round(look.elapsed, 3),
            "source": look.source,
            **({"lag": look.lag} if look.lag else {}),
            "sent": dict(look.sent),
            **({"failed": dict(look.failed)} if any(look.failed.values()) else {}),
            "unattributed": look.unattributed,
            "tallies": {},
        }
        for role, tally in look.tallies.items():
            if isinstance(tally, Missing):
                line["tallies"][role] = {"missing": tally.kind, "why": tally.why}
                continue
            before = self._before.get((look.phase, role), Tally(0, 0))
            line["tallies"][role] = _increase(before, tally)
            self._before[look.phase, role] = tally
        if look.sample is not None:
            line["sample"] = {name: _shown(each) for name, each in look.sample.items()}
        if look.answers is not None:
            line["answers"] = dict(look.answers)
        return line


def read_looks(path: Path) -> Iterator[Look]:
    """Yield the looks of a file; a last line that was cut is left out.

    Raises ValueError, naming the line, for what is no look.
    """
    sums: dict[tuple[str, str], Tally] = {}
    lines = path.read_text(encoding="utf-8").split("\n")
    for number, text in enumerate(lines, 1):
        if not text:
            continue
        try:
            yield _look(json.loads(text), sums)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if number == len(lines):
                return  # the write that a crash cut
            raise ValueError(f"{path}:{number} is no look of a canary: {error!r}") from error


def _look(line: Mapping[str, Any], sums: dict[tuple[str, str], Tally]) -> Look:
    tallies: dict[str, Tally | Missing] = {}
    for role, told in line["tallies"].items():
        if "missing" in told:
            tallies[role] = Missing(told["missing"], told["why"])
            continue
        key = (line["phase"], role)
        tallies[role] = sums[key] = _added(sums.get(key, Tally(0, 0)), told)
    sample = line.get("sample")
    return Look(
        phase=line["phase"],
        weight=line["weight"],
        at=line["at"],
        elapsed=line["elapsed"],
        tallies=tallies,
        source=line["source"],
        lag=line.get("lag", 0.0),
        failed=line.get("failed", {}),
        sent=line["sent"],
        unattributed=line["unattributed"],
        sample=None if sample is None else {key: _read(told) for key, told in sample.items()},
        answers=line.get("answers"),
    )


def _increase(before: Tally, now: Tally) -> dict[str, Any]:
    return {
        "requests": now.requests - before.requests,
        "errors": now.errors - before.errors,
        "latency": _come(before.latency, now.latency),
        "ttft": _come(before.ttft, now.ttft),
        "query": now.query,
    }


def _come(before: Buckets, now: Buckets) -> list[tuple[float | None, int]]:
    """Return how many have come to each bucket; an infinite edge is null."""
    counts = dict(now)
    for edge, count in before:
        counts[edge] = counts.get(edge, 0) - count
    return [
        (None if edge == float("inf") else edge, count)
        for edge, count in sorted(counts.items())
        if count
    ]


def _added(before: Tally, told: Mapping[str, Any]) -> Tally:
    return Tally(
        requests=before.requests + told["requests"],
        errors=before.errors + told["errors"],
        latency=_sum(before.latency, told["latency"]),
        ttft=_sum(before.ttft, told["ttft"]),
        query=told["query"],
    )


def _sum(before: Buckets, come: Iterable[tuple[float | None, int]]) -> Buckets:
    counts = dict(before)
    for told, count in come:
        edge = float("inf") if told is None else told
        counts[edge] = counts.get(edge, 0) + count
    return tuple((edge, count) for edge, count in sorted(counts.items()) if count)


def _shown(value: Value | Missing) -> dict[str, Any]:
    if isinstance(value, Missing):
        return {"missing": value.kind, "why": value.why}
    told: dict[str, Any] = {"value": value.value, "source": value.source, "query": value.query}
    return told if value.n is None else told | {"n": value.n}


def _read(told: Mapping[str, Any]) -> Value | Missing:
    if "missing" in told:
        return Missing(told["missing"], told["why"])
    return Value(told["value"], told["query"], told["source"], told.get("n"))
