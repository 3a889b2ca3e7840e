"""Feeds the judge of real canaries with looks that are drawn, canary by canary.

The judge is asked where its answer can matter, which cheap bounds tell: evidence of errors at every
look; of quantiles, and of what may pass, at looks that are a tenth further on each time. So a rare
short-lived alarm of a quantile may be missed, and a time may be a tenth too long.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random

from pytest_llmdeploy.config.canary import CanaryConfig, PhaseConfig
from pytest_llmdeploy.release.canary.calibration.cases import Effect
from pytest_llmdeploy.release.canary.calibration.figures import DRAWN, Figures
from pytest_llmdeploy.release.canary.calibration.model import binomial, worsened
from pytest_llmdeploy.release.canary.calibration.suspicion import ALL, Sides, Suspicion
from pytest_llmdeploy.release.canary.judge import Judgement, PhaseJudge
from pytest_llmdeploy.release.canary.looks import (
    CANARY,
    NO_DATA,
    STABLE,
    Look,
    Missing,
    Value,
)
from pytest_llmdeploy.verdicts import Verdict

CAUGHT, INCONCLUSIVE, ERROR, PROMOTED = "caught", "inconclusive", "error", "promoted"
MOST_LOOKS = 40
"""Looks of a phase that are drawn, besides its samples."""
GROWTH = 1.1
_SAMPLED = {"latency_p95": ("latency", 0.95), "latency_p99": ("latency", 0.99)} | {
    "ttft_p95": ("ttft", 0.95)
}


@dataclass(frozen=True, slots=True)
class SimulatedRun:
    """What became of one simulated canary."""

    outcome: str
    by: str = ""
    """Signal and rule that decided."""
    weight: int = 0
    """Of the phase in which it ended."""
    seconds: float = 0.0
    """From the first weight on."""
    exposed: int = 0
    """Requests that the new version answered."""


@dataclass(slots=True)
class Simulated:
    """What became of all simulated canaries of a case."""

    wanted: int
    runs: list[SimulatedRun] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Place:
    """What a simulation knows of where the canary runs."""

    replicas: int
    memory_bytes: float
    """Memory that a replica may use."""
    names_colors: bool = False
    """Answers tell where the router sent a request, whatever the version calls itself."""


def judged_by(config: CanaryConfig, figures: Figures) -> tuple[CanaryConfig, tuple[str, ...]]:
    """Return the policy without limits that nothing is known for, and those."""
    left_out: list[str] = []
    sla: dict[str, None] = {}
    compare: dict[str, None] = {}
    for key in config.sla.limits:
        signal = key.removeprefix("min_")
        unknown = not figures.gauges.get(signal) if signal not in DRAWN else False
        if unknown or (signal == "ttft_p95" and not figures.ttft):
            sla[key] = None
            left_out.append(f"sla.{key}")
    if not figures.ttft:
        compare = dict.fromkeys(n for n in config.compare.signals if n.startswith("ttft"))
        left_out += [f"compare.{name}" for name in compare]
    quality = config.quality
    if quality is not None and figures.answers is None:
        quality = None
        left_out.append("quality")
    return (
        config.model_copy(
            update={
                "sla": config.sla.model_copy(update=sla),
                "compare": config.compare.model_copy(update=compare),
                "quality": quality,
            }
        ),
        tuple(left_out),
    )


def simulate(
    config: CanaryConfig,
    figures: Figures,
    effect: Effect,
    place: Place,
    *,
    number: int,
    random: Random,
    budget: float = math.inf,
    tell: Callable[[int], None] = lambda _done: None,
) -> Simulated:
    """Simulate up to `number` canaries of a version with that effect, within `budget` seconds.

    At least ten are. `config` must be judged by what `figures` tell (`judged_by`).
    """
    found = Simulated(number)
    until = time.monotonic() + budget
    sides = Sides(figures, worsened(figures, effect))
    world = _World(config, figures, effect, place, sides, random)
    for done in range(number):
        if done >= 10 and time.monotonic() >= until:
            break
        found.runs.append(_one(world))
        tell(done + 1)
    return found


@dataclass(frozen=True, slots=True)
class _World:
    """What all simulated canaries of a case share."""

    config: CanaryConfig
    figures: Figures
    effect: Effect
    place: Place
    sides: Sides
    random: Random


def _one(world: _World) -> SimulatedRun:
    config, sides = world.config, world.sides
    seconds, exposed = 0.0, 0
    for phase in config.phases:
        sides.clear()
        judgement, elapsed = _Phase(world, phase, exposed).until_known()
        seconds, exposed = seconds + elapsed, exposed + sides.requests[CANARY]
        if judgement.verdict is Verdict.PASS:
            continue
        outcome = {Verdict.FAIL: CAUGHT, Verdict.ERROR: ERROR}.get(judgement.verdict, INCONCLUSIVE)
        return SimulatedRun(outcome, decided_by(judgement), phase.weight, seconds, exposed)
    return SimulatedRun(PROMOTED, "", config.phases[-1].weight, seconds, exposed)


def decided_by(judgement: Judgement) -> str:
    """Return the first signal that has the judgement's verdict, and its rule."""
    for finding in judgement.findings:
        if finding.verdict is judgement.verdict:
            return f"{finding.signal} ({finding.rule})"
    return ""


@dataclass(slots=True)
class _Phase:
    """One simulated phase."""

    world: _World
    phase: PhaseConfig
    exposed: int
    """Requests of the canary in earlier phases."""

    def until_known(self) -> tuple[Judgement, float]:
        config, phase = self.world.config, self.phase
        judge = PhaseJudge(config)
        suspect = Suspicion(config, phase.weight, self.world.sides)
        window: list[dict[str, Counter[int]]] = []
        counted = [0, 0]
        tried, before, answers = 0.0, 0.0, self._answers()
        for at, is_sample, is_last in moments(config, phase):
            come, errors, requests = self._draw(before, at)
            before = at
            window.append(come)
            counted[0] += requests
            counted[1] += errors
            sample = None
            if is_sample:
                sample = self._sample(window, counted[0], counted[1])
                window, counted = [], [0, 0]
            look = Look(
                phase=phase.name,
                weight=phase.weight,
                at=at,
                elapsed=at,
                tallies={},
                source="simulated",
                sent=dict(self.world.sides.requests),
                sample=sample,
                answers=answers,
            )
            over = at >= phase.duration - 1e-9
            asked = answers is not None
            answers = None
            worth = suspect.surely(sample) or asked or is_last
            if not worth and at >= GROWTH * tried and (over or suspect.maybe()):
                tried = at
                worth = suspect.is_decided(over=over)
            if not worth:
                judge.note(look)
                continue
            roles = (STABLE, CANARY) if phase.weight < ALL else ()
            tallies = {role: self.world.sides.tally(role) for role in roles}
            judgement = judge.add(replace(look, tallies=tallies))
            wrong = judgement.verdict is Verdict.FAIL or any(
                each.rule == "split" for each in judgement.findings
            )
            if wrong or (over and (judgement.verdict is Verdict.PASS or is_last)):
                return judgement, at
        raise AssertionError("a phase's last moment decides")

    def _draw(self, since: float, until: float) -> tuple[dict[str, Counter[int]], int, int]:
        """Draw what ends between two moments; return the canary's, by kind, and its counts."""
        rate, random, sides = self.world.figures.rate, self.world.random, self.world.sides
        total = math.floor(rate * until) - math.floor(rate * since)
        canary = (
            total if self.phase.weight == ALL else binomial(random, total, self.phase.weight / ALL)
        )
        come: dict[str, Counter[int]] = {}
        errors = 0
        compared = self.phase.weight < ALL
        for role, n in ((STABLE, total - canary), (CANARY, canary)):
            failed = binomial(random, n, sides.figures[role].error_rate)
            sides.requests[role] += n
            sides.errors[role] += failed
            if role == CANARY or compared:
                latency = sides.latency[role].draw(random, n - failed)
                ttft = sides.ttft[role].draw(random, n - failed)
                if role == CANARY:
                    come, errors = {"latency": latency, "ttft": ttft}, failed
        return come, errors, canary

    def _sample(
        self, window: Sequence[Mapping[str, Counter[int]]], requests: int, errors: int
    ) -> dict[str, Value | Missing]:
        return dict(self._sampled(window, requests, errors))

    def _sampled(
        self, window: Sequence[Mapping[str, Counter[int]]], requests: int, errors: int
    ) -> Iterator[tuple[str, Value | Missing]]:
        for signal in self.world.config.sla.signals:
            if signal == "throughput":
                yield signal, Value(requests / self.world.config.sample_interval, "", "", requests)
            elif signal in DRAWN and not requests:
                yield signal, Missing(NO_DATA, "no request was answered by it")
            elif signal == "error_rate":
                yield signal, Value(errors / requests, "", "", requests)
            elif signal == "truncated":
                cut = binomial(self.world.random, requests, self.world.effect.truncated)
                yield signal, Value(cut / requests, "", "", requests)
            elif signal in _SAMPLED:
                what, q = _SAMPLED[signal]
                come = sum((each.get(what, Counter()) for each in window), Counter[int]())
                drawn = self.world.sides.latency if what == "latency" else self.world.sides.ttft
                value = drawn[CANARY].value(come, q)
                if math.isfinite(value):
                    yield signal, Value(value, "", "", come.total())
                else:
                    yield signal, Missing(NO_DATA, "none of the requests has one")
            else:
                yield signal, Value(self._gauge(signal), "", "")

    def _gauge(self, signal: str) -> float:
        value = self.world.random.choice(self.world.figures.gauges[signal])
        if signal == "memory_usage" and self.world.effect.leak:
            seen = (self.exposed + self.world.sides.requests[CANARY]) / self.world.place.replicas
            leaked = min(self.world.effect.leak * seen, self.world.effect.leak_limit)
            value += leaked * 1e6 / self.world.place.memory_bytes
        return value

    def _answers(self) -> Mapping[str, int] | None:
        """Return drawn pairs of answers, in the phase in which they are asked."""
        quality, base = self.world.config.quality, self.world.figures.answers
        if quality is None or base is None:
            return None
        if self.phase.weight != self.world.config.answers_weight:
            return None
        kinds = ("both", "only_stable", "only_canary", "neither")
        drawn = Counter(
            self.world.random.choices(
                kinds, weights=[base.get(kind, 0) for kind in kinds], k=sum(base.values())
            )
        )
        for kind, spoilt in (("both", "only_stable"), ("only_canary", "neither")):
            lost = binomial(self.world.random, drawn[kind], self.world.effect.worse)
            drawn[kind] -= lost
            drawn[spoilt] += lost
        return {kind: drawn[kind] for kind in kinds}


def moments(config: CanaryConfig, phase: PhaseConfig) -> list[tuple[float, bool, bool]]:
    """Return when a phase is looked at: (seconds, with a sample, the last).

    Of its looks only `MOST_LOOKS` are kept, evenly; all samples, its duration and its end are.
    """
    longest = phase.longest
    number = math.floor(longest / config.look_interval)
    every = max(1, math.ceil(number / MOST_LOOKS))
    looks = {config.look_interval * k for k in range(every, number + 1, every)}
    samples = {
        config.sample_interval * k
        for k in range(1, math.floor(longest / config.sample_interval) + 1)
    }
    at = sorted({round(each, 6) for each in (*looks, *samples, phase.duration, longest)})
    exact = {round(each, 6) for each in samples}
    return [(each, each in exact, each == at[-1]) for each in at if each <= longest + 1e-9]
