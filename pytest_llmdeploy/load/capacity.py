"""How much more could it take: a search for the highest arrival rate that meets the objectives."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pytest_llmdeploy.errors import NotMeasuredError
from pytest_llmdeploy.load.judging import plain
from pytest_llmdeploy.verdicts import Verdict

MOST_PROBES = 24
SMALLEST_SHARE = 1 / 256
"""Share of the first rate below which the search gives up."""


class GeneratorLimitError(NotMeasuredError):
    """Give the generator more: it, and not the service, is too slow for a rate."""


@dataclass(frozen=True, slots=True)
class Probe:
    """Traffic at one rate, and whether the objectives held."""

    rate: float
    verdict: Verdict
    met: bool
    """What was measured met the objectives, whether or not that is certain."""
    n: int
    good: float | None
    """Share of the requests that ended well."""
    ttft_p95: float | None
    e2e_p95: float | None
    in_flight_slope: float | None
    """Requests per second by which the number in flight grew."""
    stable: bool | None
    duration: float
    reason: str

    def to_json(self) -> dict[str, Any]:
        """Return builtins."""
        return asdict(self) | {"verdict": str(self.verdict)}


@dataclass(frozen=True, slots=True)
class Capacity:
    """What the search found."""

    rate: float | None
    """Highest rate at which the objectives were met; None where there is none."""
    low: float | None
    """Highest rate at which they certainly hold."""
    high: float | None
    """Lowest rate at which they are certainly missed."""
    probes: tuple[Probe, ...]
    verdict: Verdict
    reason: str

    def to_json(self) -> dict[str, Any]:
        """Return builtins."""
        probes = [probe.to_json() for probe in sorted(self.probes, key=lambda each: each.rate)]
        return asdict(self) | {"verdict": str(self.verdict), "probes": probes}


Ask = Callable[[float], Probe]


def search(
    probe: Ask, first: float, most: float, precision: float, least: float | None
) -> Capacity:
    """Grow the rate until the objectives are missed, then bisect; `probe` asks at one rate.

    `least` is the rate that must be found for PASS; without it any rate found passes.
    """
    probes = [probe(first)]
    low = first if probes[0].met else None
    high = None if probes[0].met else first
    while len(probes) < MOST_PROBES:
        if high is None:
            if low is None or low >= most:
                break
            rate = min(low * 2, most)
        elif low is None:
            rate = high / 2
            if rate < first * SMALLEST_SHARE:
                break
        elif high / low - 1 <= precision:
            break
        else:
            rate = math.sqrt(low * high)
        try:
            probes.append(probe(rate))
        except GeneratorLimitError as error:
            if low is None:
                raise
            return _found(probes, low, most, least, f"the generator ends the search: {error}")
        if probes[-1].met:
            low = rate
        else:
            high = rate
    return _found(probes, low, most, least)


def _found(
    probes: Sequence[Probe],
    rate: float | None,
    most: float,
    least: float | None,
    ended: str | None = None,
) -> Capacity:
    passed = [each.rate for each in probes if each.verdict is Verdict.PASS]
    missed = [each.rate for each in probes if each.verdict is Verdict.FAIL]
    high = min(missed, default=None)
    low = max((each for each in passed if high is None or each < high), default=None)
    between = (
        f"{plain(low)}/s hold for certain" if low is not None else "no rate holds for certain"
    ) + (f", {plain(high)}/s certainly do not" if high is not None else ", no limit was found")
    if rate is None:
        slowest = min(each.rate for each in probes)
        reason = f"the objectives were missed at {plain(slowest)}/s already"
        verdict = Verdict.FAIL if least is not None and high is not None else Verdict.INCONCLUSIVE
        if least is not None and high is not None and high > least:
            verdict = Verdict.INCONCLUSIVE
        return Capacity(None, None, high, tuple(probes), verdict, reason)
    limit = f" (the search ends at max_rate {plain(most)}/s)" if rate >= most else ""
    if rate < most and len(probes) == MOST_PROBES:
        limit = f" (the search ends after {MOST_PROBES} probes)"
    if ended:
        limit = f" ({ended})"
    reason = f"{plain(rate)} requests/s meet the objectives{limit}; {between}"
    verdict = Verdict.PASS if low is not None else Verdict.INCONCLUSIVE
    if least is not None:
        if low is not None and low >= least:
            verdict = Verdict.PASS
        elif high is not None and high <= least:
            verdict = Verdict.FAIL
        else:
            verdict = Verdict.INCONCLUSIVE
        reason += f"; min_rate is {plain(least)}/s"
    return Capacity(rate, low, high, tuple(probes), verdict, reason)
