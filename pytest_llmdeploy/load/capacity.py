"""How much more could it take: a search for the highest arrival rate that meets the objectives."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pytest_llmdeploy.config.load import SHORTEST_PROBE, LoadConfig
from pytest_llmdeploy.config.objectives import RATES, Objective
from pytest_llmdeploy.errors import NotMeasuredError
from pytest_llmdeploy.load.controller import Progress, TrafficResult
from pytest_llmdeploy.load.counts import allowed_share
from pytest_llmdeploy.load.judging import Judged, plain
from pytest_llmdeploy.load.selfcheck import lateness
from pytest_llmdeploy.load.spec import Step, TrafficSpec
from pytest_llmdeploy.load.summary import Tally, tally
from pytest_llmdeploy.verdicts import Verdict, worst
from pytest_llmdeploy.verdicts.drift import judge_backlog
from pytest_llmdeploy.verdicts.sequential import judge_share_anytime
from pytest_llmdeploy.verdicts.shares import smallest_n

MOST_PROBES = 24
LONGEST_PROBE = 5
"""Times `duration` that a probe may take where its rate is too low for a verdict in one."""
SMALLEST_SHARE = 1 / 256
"""Share of the first rate below which the search gives up."""
DECIDED = "the objectives were decided"


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


def longest_probe(config: LoadConfig) -> float:
    """Return the seconds that one probe may take at most."""
    return config.warmup + config.duration * LONGEST_PROBE


Send = Callable[[TrafficSpec, Path, Callable[[Progress], str | None]], TrafficResult]


class GeneratorLimitError(NotMeasuredError):
    """Give the generator more: it, and not the service, is too slow for a rate."""


class Prober:
    """Asks whether the objectives hold at a rate; ends a probe as soon as that is decided."""

    def __init__(self, config: LoadConfig, traffic: TrafficSpec, folder: Path, send: Send) -> None:
        self._config = config
        self._traffic = traffic
        self._folder = folder
        self._send = send
        self._objectives = [each for each in config.parsed_objectives if each.metric not in RATES]
        self._alpha = 1 - config.confidence
        self._number = 0
        self._tokens_left = traffic.max_tokens_total
        self.best: tuple[float, TrafficResult, Tally] | None = None
        """The probe at the highest rate that met the objectives; else the first."""
        self._met_rate = 0.0

    def __call__(self, rate: float) -> Probe:
        """Send the traffic at `rate`; raise NotMeasuredError where the generator is too slow."""
        self._number += 1
        config = self._config
        needed = max(
            (smallest_n(allowed_share(each), config.confidence) or 0 for each in self._objectives),
            default=0,
        )
        seconds = max(config.duration, min(2 * needed / rate, config.duration * LONGEST_PROBE))
        duration = config.warmup + seconds
        # Another seed each time: the probes are independent looks.
        traffic = replace(
            self._traffic,
            steps=(Step(rate, rate, duration),),
            seed=self._traffic.seed + self._number - 1,
            max_tokens_total=self._tokens_left,
        )
        folder = self._folder / f"probe-{self._number:02}"
        result = self._send(traffic, folder, self._decided)
        result.check_complete()
        if late := lateness(result, config.max_dispatch_lag):
            raise GeneratorLimitError(f"generator saturated at {plain(rate)} req/s: {late}")
        if result.stopped not in (None, DECIDED):
            raise NotMeasuredError(f"the probe at {plain(rate)}/s was stopped: {result.stopped}")
        window = min(duration, max(result.duration, config.warmup)) if result.stopped else duration
        counted = tally(result, config.parsed_objectives, traffic.good, config.warmup, window)
        if self._tokens_left is not None:
            self._tokens_left = max(self._tokens_left - counted.tokens["completion"], 1)
        judged = [
            counted.judge(each, config.confidence, result.gaps) for each in config.parsed_objectives
        ]
        probe = self._probe(rate, result, counted, judged, window)
        if self.best is None or (probe.met and rate >= self._met_rate):
            self.best = (rate, result, counted)
        if probe.met:
            self._met_rate = max(self._met_rate, rate)
        return probe

    def _probe(
        self,
        rate: float,
        result: TrafficResult,
        counted: Tally,
        judged: Sequence[Judged],
        window: float,
    ) -> Probe:
        config = self._config
        samples = [(at, n) for at, n in result.in_flight if config.warmup <= at <= window]
        drift = judge_backlog([at for at, _ in samples], [n for _, n in samples], rate)
        if broken := [each for each in judged if each.verdict is Verdict.ERROR]:
            raise NotMeasuredError(broken[0].reason)
        verdict = worst(each.verdict for each in judged)
        met = all(_met(each, objective) for each, objective in self._pairs(judged, counted))
        reason = next((each.reason for each in judged if each.verdict is verdict), "")
        if drift.stable is False:
            verdict, met = Verdict.FAIL, False
            reason = f"not stable: {plain(drift.slope or 0.0, 2)} more in flight each second"
        elif drift.stable is None and verdict is Verdict.PASS:
            verdict, reason = Verdict.INCONCLUSIVE, "too short to see whether a backlog grows"
        spreads = counted.spreads
        return Probe(
            rate=rate,
            verdict=verdict,
            met=met,
            n=counted.judged,
            good=counted.judged_ok / counted.judged if counted.judged else None,
            ttft_p95=spreads["ttft"].quantile(0.95),
            e2e_p95=spreads["e2e"].quantile(0.95),
            in_flight_slope=drift.slope,
            stable=drift.stable,
            duration=window,
            reason=reason,
        )

    def _pairs(
        self, judged: Sequence[Judged], counted: Tally
    ) -> list[tuple[Judged, tuple[Objective, Tally]]]:
        objectives = self._config.parsed_objectives
        return [(one, (each, counted)) for one, each in zip(judged, objectives, strict=True)]

    def _decided(self, progress: Progress) -> str | None:
        """End a probe once it is decided; what is open counts as missed for a PASS."""
        verdicts = set()
        for objective in self._objectives:
            if objective.metric == "itl":
                return None
            count = progress.counts.of[objective.name]
            allowed = allowed_share(objective)
            if judge_share_anytime(count.bad, count.n, allowed, self._alpha)[0] is Verdict.FAIL:
                return DECIDED
            bad, n = count.bad + progress.in_flight, count.n + progress.in_flight
            verdicts.add(judge_share_anytime(bad, n, allowed, self._alpha)[0])
        # A queue takes its time to build up: no rate passes on its first seconds.
        longest = max(self._config.duration / 2, SHORTEST_PROBE)
        long_enough = progress.elapsed >= self._config.warmup + longest
        only_shares = len(self._objectives) == len(self._config.objectives)
        if long_enough and only_shares and verdicts == {Verdict.PASS}:
            return DECIDED
        return None


def _met(judged: Judged, what: tuple[Objective, Tally]) -> bool:
    """Return whether the measured number meets the objective, certain or not."""
    objective, counted = what
    if objective.metric in RATES:
        return judged.value is not None and judged.value >= objective.limit
    if objective.percentile is None and judged.value is not None:
        fine = judged.value <= objective.limit
        return fine if objective.at_most else judged.value >= objective.limit
    count = counted.counts.of[objective.name]
    n, bad = (count.gaps.m, count.gaps.x) if objective.metric == "itl" else (count.n, count.bad)
    return n > 0 and bad <= allowed_share(objective) * n
