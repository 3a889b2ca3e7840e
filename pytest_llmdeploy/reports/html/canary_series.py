"""The looks of a canary as series over time: read from ``looks.jsonl``, leniently."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field, ValidationError

from pytest_llmdeploy.reports.canary_record import ALL, Part
from pytest_llmdeploy.verdicts.error_split import error_split_e_value
from pytest_llmdeploy.verdicts.sequences import quantile_of

LOOKS = "looks.jsonl"
LARGEST = 64 * 1024 * 1024
"""Bytes that are read; what lies beyond is told, not drawn."""
MOST_POINTS = 90
STABLE, CANARY = "stable", "canary"
Come = tuple[tuple[float | None, int], ...]
"""Values that have come to each bucket: upper edge (null is infinite) and number."""


class Tally(Part):
    """What has come to a version's requests since the look before."""

    requests: int | None = None
    """None where the figures were asked for in vain."""
    errors: int = 0
    latency: Come = ()
    ttft: Come = ()


class Look(Part):
    """One line."""

    phase: str
    weight: int
    at: float
    """Seconds since the epoch."""
    elapsed: float
    tallies: dict[str, Tally] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Point:
    """A version's requests over one or more looks."""

    requests: int
    errors: int
    latency: Come
    ttft: Come

    @property
    def error_rate(self) -> float | None:
        """Share of failed requests; None without requests."""
        return self.errors / self.requests if self.requests else None

    def quantile(self, which: str, q: float) -> float | None:
        """Return a quantile of ``latency`` or ``ttft`` in seconds; None where it is not known."""
        counts: dict[float, int] = {}
        for told, count in getattr(self, which):
            edge = float("inf") if told is None else told
            counts[edge] = counts.get(edge, 0) + count
        found = quantile_of(tuple(sorted(counts.items())), q)
        return found if found is not None and found != float("inf") else None


@dataclass(frozen=True, slots=True)
class Group:
    """One or more looks of a phase, drawn as one."""

    phase: str
    start: float
    """Seconds since the epoch."""
    end: float
    versions: dict[str, Point]
    e_value: float | None
    """Of all requests of the phase until the end; None at a weight of 100, and without figures."""


@dataclass(frozen=True, slots=True)
class Series:
    """All looks of a canary."""

    groups: tuple[Group, ...] = ()
    looks: int = 0
    trouble: str | None = None
    """Why some are missing."""

    def of(self, value: Callable[[Group], float | None]) -> Iterator[tuple[float, float | None]]:
        """Yield time and value of each group; None between two phases breaks the line."""
        before = None
        for group in self.groups:
            if before is not None and before != group.phase:
                yield group.start, None
            before = group.phase
            yield group.end, value(group)


def read_series(path: Path) -> Series:
    """Return the series of a file; empty, with the reason, where there is none."""
    looks: list[Look] = []
    trouble = None
    try:
        with path.open("rb") as file:
            body = file.read(LARGEST + 1)
    except OSError as error:
        return Series(trouble=f"{path.name} cannot be read: {error.strerror or error}")
    lines = body[:LARGEST].split(b"\n")
    if len(body) > LARGEST:
        trouble = f"{path.name} is larger than {LARGEST // 1024**2} MiB: the rest is not shown"
        lines.pop()
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        try:
            looks.append(Look.model_validate_json(line))
        except ValidationError:
            cut = number == len(lines)
            trouble = f"{path.name}:{number} is {'cut' if cut else 'no look'}: left out"
    return Series(_grouped(looks), len(looks), trouble)


def _grouped(looks: Sequence[Look]) -> tuple[Group, ...]:
    size = max(1, -(-len(looks) // MOST_POINTS))
    groups: list[Group] = []
    phases: dict[str, list[Look]] = {}
    for look in looks:
        phases.setdefault(look.phase, []).append(look)
    for name, found in phases.items():
        totals = {STABLE: [0, 0], CANARY: [0, 0]}
        start = found[0].at - found[0].elapsed
        for first in range(0, len(found), size):
            taken = found[first : first + size]
            versions = {
                role: point for role in totals if (point := _point(taken, role)) is not None
            }
            for role, point in versions.items():
                totals[role][0] += point.requests
                totals[role][1] += point.errors
            known = all(requests for requests, _ in totals.values())
            evidence = _evidence(totals, taken[-1].weight) if known else None
            groups.append(Group(name, start, taken[-1].at, versions, evidence))
            start = taken[-1].at
    return tuple(groups)


def _point(looks: Sequence[Look], role: str) -> Point | None:
    found = [tally for look in looks if (tally := look.tallies.get(role)) is not None]
    known = [tally for tally in found if tally.requests is not None]
    if not known:
        return None
    return Point(
        sum(tally.requests or 0 for tally in known),
        sum(tally.errors for tally in known),
        tuple(each for tally in known for each in tally.latency),
        tuple(each for tally in known for each in tally.ttft),
    )


def _evidence(totals: dict[str, list[int]], weight: int) -> float | None:
    failed = totals[CANARY][1]
    try:
        return error_split_e_value(failed, failed + totals[STABLE][1], weight / ALL)
    except ValueError:  # at 100 there is no other version
        return None
