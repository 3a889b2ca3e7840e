"""One probe of a capacity search: traffic at one rate, for as long as it takes to decide."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from pytest_llmdeploy.config.load import SHORTEST_PROBE, LoadConfig
from pytest_llmdeploy.config.objectives import RATES, Objective
from pytest_llmdeploy.errors import NotMeasuredError
from pytest_llmdeploy.load.capacity import GeneratorLimitError, Probe
from pytest_llmdeploy.load.controller import Progress, TrafficResult
from pytest_llmdeploy.load.counts import Count, allowed_share
from pytest_llmdeploy.load.judging import Judged, judge_count, plain, seconds
from pytest_llmdeploy.load.ledger import read_ledger
from pytest_llmdeploy.load.schedule import dispersion
from pytest_llmdeploy.load.selfcheck import allowed_lag, lateness
from pytest_llmdeploy.load.spec import Step, TrafficSpec
from pytest_llmdeploy.load.summary import Tally, tally
from pytest_llmdeploy.verdicts import Verdict, worst
from pytest_llmdeploy.verdicts.drift import judge_backlog
from pytest_llmdeploy.verdicts.histogram import Histogram
from pytest_llmdeploy.verdicts.sequential import judge_share_anytime
from pytest_llmdeploy.verdicts.shares import smallest_n

LONGEST_PROBE = 5
"""Times `duration` that a probe may take where its rate is too low for a verdict in one."""
DECIDED = "the objectives were decided"
FIRST = 20
"""Requests whose answers tell how long the service takes to fill."""


def longest_probe(config: LoadConfig) -> float:
    """Return the seconds that one probe may take at most."""
    return config.warmup + config.duration * LONGEST_PROBE


def most_repeats(config: LoadConfig) -> int:
    """Return how many probes may be sent again, each with twice the processes, at most."""
    return math.ceil(math.log2((config.max_processes or config.processes) / config.processes))


class Send(Protocol):
    """Sends a probe's traffic; `decide` is called now and then, and ends it with a text."""

    def __call__(
        self,
        traffic: TrafficSpec,
        folder: Path,
        processes: int,
        decide: Callable[[Progress], str | None],
    ) -> TrafficResult: ...


@dataclass(frozen=True, slots=True)
class Best:
    """The probe at the highest rate that met the objectives; else the first."""

    rate: float
    result: TrafficResult
    counted: Tally
    judged: Sequence[Judged]


class Prober:
    """Asks whether the objectives hold at a rate; ends a probe as soon as that is decided."""

    def __init__(
        self, config: LoadConfig, traffic: TrafficSpec, folder: Path, send: Send, processes: int
    ) -> None:
        self._config = config
        self._traffic = traffic
        self._folder = folder
        self._send = send
        self._objectives = [each for each in config.parsed_objectives if each.metric not in RATES]
        self._alpha = 1 - config.confidence
        self._number = 0
        self._rate = 0.0
        self._tokens_left = traffic.max_tokens_total
        self._missed: tuple[Objective, Count] | None = None
        """The objective that was missed for certain while the probe went on."""
        self.processes = processes
        """Load generator processes; more of them once fewer were too slow."""
        self.whole = False
        """Probes take their whole time, also where they are decided before."""
        self.best: Best | None = None
        self._met_rate = 0.0

    def __call__(self, rate: float) -> Probe:
        """Send the traffic at `rate`; raise NotMeasuredError where the generator is too slow."""
        config = self._config
        while True:
            traffic, result = self._sent(rate)
            late = lateness(result, allowed_lag(traffic, config.max_dispatch_lag))
            if late is None:
                break
            more = min(self.processes * 2, config.max_processes or self.processes)
            if more == self.processes:
                raise GeneratorLimitError(f"generator saturated at {plain(rate)} req/s: {late}")
            self.processes = more
        duration = traffic.traffic_duration
        window = min(duration, max(result.duration, config.warmup)) if result.stopped else duration
        counted = tally(result, config.parsed_objectives, traffic.good, config.warmup, window)
        judged = self._judged(result, counted)
        probe = self._probe(rate, result, counted, judged, window)
        if self.best is None or (probe.met and rate >= self._met_rate):
            self.best = Best(rate, result, counted, judged)
        if probe.met:
            self._met_rate = max(self._met_rate, rate)
        return probe

    def _sent(self, rate: float) -> tuple[TrafficSpec, TrafficResult]:
        """Send one probe; raise NotMeasuredError where it is none."""
        if self._tokens_left is not None and self._tokens_left <= 0:
            raise self._used_up()
        self._number += 1
        self._rate, self._missed = rate, None
        # Another seed each time: the probes are independent looks.
        traffic = replace(
            self._traffic,
            steps=(Step(rate, rate, self._duration(rate)),),
            seed=self._traffic.seed + self._number - 1,
            max_tokens_total=self._tokens_left,
        )
        folder = self._folder / f"probe-{self._number:02}"
        result = self._send(traffic, folder, self.processes, self._decided)
        result.check_complete()
        if self._tokens_left is not None:
            self._tokens_left -= result.tokens
        if result.stopped not in (None, DECIDED):
            if self._tokens_left is not None and self._tokens_left <= 0:
                raise self._used_up()
            raise NotMeasuredError(f"the probe at {plain(rate)}/s was stopped: {result.stopped}")
        return traffic, result

    def _used_up(self) -> NotMeasuredError:
        cap = self._traffic.max_tokens_total
        return NotMeasuredError(
            f"the cap of {cap} completion tokens for the whole search was reached "
            f"in probe {self._number}, at {plain(self._rate)}/s"
        )

    def _duration(self, rate: float) -> float:
        config = self._config
        needed = max(
            (smallest_n(allowed_share(each), config.confidence) or 0 for each in self._objectives),
            default=0,
        )
        longest = config.duration * LONGEST_PROBE
        return config.warmup + max(config.duration, min(2 * needed / rate, longest))

    def _judged(self, result: TrafficResult, counted: Tally) -> list[Judged]:
        """Return the verdicts; the one that ended the probe alone, where one was missed."""
        confidence = self._config.confidence
        judged = [
            counted.judge(each, confidence, result.gaps) for each in self._config.parsed_objectives
        ]
        if self._missed is None:
            return judged
        # What was open then was given up, and the others were judged by what is quick to end.
        objective, count = self._missed
        value = next(each.value for each in judged if each.name == objective.name)
        return [judge_count(objective, count, confidence, value)]

    def _probe(
        self,
        rate: float,
        result: TrafficResult,
        counted: Tally,
        judged: Sequence[Judged],
        window: float,
    ) -> Probe:
        if broken := [each for each in judged if each.verdict is Verdict.ERROR]:
            raise NotMeasuredError(broken[0].reason)
        verdict = worst(each.verdict for each in judged)
        met = self._missed is None and all(
            _met(each, objective, counted.counts.of)
            for each, objective in zip(judged, self._config.parsed_objectives, strict=True)
        )
        reason = next((each.reason for each in judged if each.verdict is verdict), "")
        filled = _filled(result.ledger)
        begin = max(self._config.warmup, filled)
        samples = [(at, n) for at, n in result.in_flight if begin <= at <= window]
        times, numbers = [at for at, _ in samples], [n for _, n in samples]
        drift = judge_backlog(
            times,
            numbers,
            rate,
            answer_duration=filled,
            dispersion=dispersion(self._traffic),
        )
        if drift.stable is False:
            verdict, met = Verdict.FAIL, False
            reason = f"not stable: {plain(drift.slope or 0.0, 2)} more in flight each second"
        elif drift.stable is None and verdict is Verdict.PASS:
            verdict = Verdict.INCONCLUSIVE
            reason = (
                f"too short to see whether a backlog grows: answers take {seconds(filled)}, "
                f"and the probe was over after {seconds(window)}"
            )
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

    def _decided(self, progress: Progress) -> str | None:
        """End a probe once it is decided, whatever becomes of the requests that are open.

        Those that end first are no sample of all: errors are quick. So what is open counts as good
        for a FAIL, and as missed for a PASS.
        """
        if self.whole:
            return None
        verdicts, still_open = set(), progress.in_flight
        for objective in self._objectives:
            if objective.metric == "itl":
                verdicts.add(Verdict.INCONCLUSIVE)
                continue
            count = progress.counts.of[objective.name]
            allowed, n = allowed_share(objective), count.n + still_open
            if judge_share_anytime(count.bad, n, allowed, self._alpha)[0] is Verdict.FAIL:
                self._missed = objective, Count(n, count.bad)
                return DECIDED
            verdicts.add(judge_share_anytime(count.bad + still_open, n, allowed, self._alpha)[0])
        # A queue takes its time to build up: no rate passes on its first seconds, nor on those in
        # which the service fills. By Little's law a request is open for in_flight / rate.
        filling = 2 * still_open / self._rate if self._rate else 0.0
        longest = max(self._config.duration / 2, SHORTEST_PROBE)
        long_enough = progress.elapsed >= max(self._config.warmup, filling) + longest
        only_shares = len(self._objectives) == len(self._config.objectives)
        if long_enough and only_shares and verdicts == {Verdict.PASS}:
            return DECIDED
        return None


def _filled(ledger: Path) -> float:
    """Return the seconds after which a service that keeps up has as much in flight as it will.

    That is what an answer takes before a queue has built up: the 95th percentile of the first ones.
    """
    taken = Histogram()
    for record in read_ledger(ledger):
        if record["i"] < FIRST and not record.get("turn"):
            taken.add(max(record["end"] - record["at"], 0.0))
    return taken.quantile(0.95) or 0.0


def _met(judged: Judged, objective: Objective, counts: Mapping[str, Count]) -> bool:
    """Return whether the measured number meets the objective, certain or not."""
    if objective.metric in RATES:
        return judged.value is not None and judged.value >= objective.limit
    if objective.percentile is None and judged.value is not None:
        fine = judged.value <= objective.limit
        return fine if objective.at_most else judged.value >= objective.limit
    count = counts[objective.name]
    n, bad = (count.gaps.m, count.gaps.x) if objective.metric == "itl" else (count.n, count.bad)
    return n > 0 and bad <= allowed_share(objective) * n
