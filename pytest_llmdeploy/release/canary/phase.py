"""One phase: a weight, proven, then watched until something is known about the new version."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass

from pytest_llmdeploy.config.canary import PhaseConfig
from pytest_llmdeploy.errors import NotMeasuredError
from pytest_llmdeploy.release.canary import steering
from pytest_llmdeploy.release.canary.judge import Judgement, PhaseJudge
from pytest_llmdeploy.release.canary.looking import Observer
from pytest_llmdeploy.release.canary.looks import CANARY, STABLE, LookWriter
from pytest_llmdeploy.release.canary.shifting import canary_of, shift
from pytest_llmdeploy.release.canary.state import PhaseRecord, Shift
from pytest_llmdeploy.release.canary.vigil import check_replicas, check_route
from pytest_llmdeploy.release.state import (
    Held,
    InconclusiveError,
    Outcome,
    Release,
    StepFailedError,
)
from pytest_llmdeploy.verdicts import Verdict

TICK = 0.25
"""Seconds between two looks at the replicas and at what people want."""
LOOKS = "looks.jsonl"


def run_phase(phase: PhaseConfig, release: Release) -> Outcome:
    """Shift to the phase's weight, and watch it."""
    canary = canary_of(release)
    if canary.is_behind(phase.weight):
        return Outcome(
            f"not repeated: an earlier run held the release at {canary.resumed_at} % "
            f"({canary.resumed_because or 'nothing is said why'}), and this one goes on with it"
        )
    if steering.wants(canary.control, steering.PROMOTE):
        return Outcome("left out: promoted at once, as a person asked; NOT JUDGED", left_out=True)
    shifted = shift(release, phase.weight)
    return _Watch(release, phase, shifted).until_known()


@dataclass(slots=True)
class _Watch:
    """A phase under way."""

    release: Release
    phase: PhaseConfig
    shifted: Shift

    def until_known(self) -> Outcome:
        """Return when the phase has passed; raise otherwise."""
        canary = canary_of(self.release)
        started = time.time()
        try:
            judgement, elapsed, forced = self._kept_watch(started)
        except (StepFailedError, NotMeasuredError) as error:
            verdict = Verdict.FAIL if isinstance(error, StepFailedError) else Verdict.ERROR
            self._note(Judgement(verdict, str(error), ()), started)
            raise
        self._note(judgement, started)
        detail = {"phase": canary.phases[-1].to_json()}
        split = f"{self.shifted.made} % proven by {self.shifted.connections} new connections"
        if forced:
            reason = (
                f"promoted at once after {elapsed:.0f} s, as a person asked; NOT JUDGED further"
            )
            return Outcome(f"{reason}; {split}", detail)
        reason = f"{judgement.reason}; watched for {elapsed:.1f} s; {split}"
        if judgement.verdict is Verdict.PASS:
            return Outcome(reason, detail)
        if judgement.verdict is Verdict.FAIL:
            raise StepFailedError(reason, detail)
        if judgement.verdict is Verdict.ERROR:
            raise NotMeasuredError(reason)
        if canary.config.inconclusive == "hold":
            why = f"{self.phase.name} stayed inconclusive for {elapsed:.0f} s"
            made, asked = self.shifted.made, self.phase.weight
            self.release.held = Held(made, asked, why, Verdict.INCONCLUSIVE, passed=False)
        raise InconclusiveError(f"not enough to tell: {reason}", detail)

    def _kept_watch(self, started: float) -> tuple[Judgement, float, bool]:
        """Watch, and keep what was seen; raise NotMeasuredError where that cannot be kept."""
        writer = LookWriter(canary_of(self.release).folder / LOOKS)
        try:
            return self._watch(writer, started)
        except OSError as error:
            raise NotMeasuredError(f"what the phase saw cannot be kept: {error}") from error
        finally:
            with suppress(OSError):
                writer.close()

    def _watch(self, writer: LookWriter, started: float) -> tuple[Judgement, float, bool]:
        release, phase, canary = self.release, self.phase, canary_of(self.release)
        config = canary.config
        observer = Observer(canary, phase.name, self.shifted.made, started)
        judge = PhaseJudge(config)
        begun = time.monotonic()  # a clock that is set must not end a phase
        marks = [phase.duration, phase.longest]
        next_look, next_sample = config.look_interval, config.sample_interval
        asks_answers = phase.weight == config.answers_weight
        while True:
            elapsed = time.monotonic() - begun
            check_replicas(release)
            if steering.wants(canary.control, steering.ABORT):
                raise StepFailedError(f"a person asked to abort ({canary.control})")
            if elapsed >= min(next_look, next_sample, *marks):
                marks = [mark for mark in marks if mark > elapsed]
                sampled = elapsed >= next_sample
                look = observer.look(elapsed, sample=sampled, answers=asks_answers)
                asks_answers = False
                writer.write(look)
                judgement = judge.add(look)
                release.now_doing = _line(phase, elapsed, judgement)
                check_route(release, self.shifted.made)
                while next_look <= elapsed:
                    next_look += config.look_interval
                while next_sample <= elapsed:
                    next_sample += config.sample_interval
                if judgement.ends_at_once:
                    return judgement, elapsed, False
                if steering.wants(canary.control, steering.PROMOTE):
                    if judgement.verdict is not Verdict.ERROR:
                        return judgement, elapsed, True
                    release.now_doing += "; NOT promoted as asked, while figures cannot be had"
                waits = steering.wants(canary.control, steering.HOLD)
                if judgement.ends(phase, elapsed) and not waits:
                    return judgement, elapsed, False
                if waits:
                    release.now_doing = f"{phase.name} is held, as a person asked ({elapsed:.0f} s)"
            pause = min(next_look, next_sample, *marks) - elapsed
            release.patience.sleep(min(max(pause, 0.01), TICK))

    def _note(self, judgement: Judgement, started: float) -> None:
        canary_of(self.release).phases.append(
            PhaseRecord(
                name=self.phase.name,
                weight=self.phase.weight,
                made=self.shifted.made,
                started=started,
                duration=time.time() - started,
                verdict=str(judgement.verdict),
                reason=judgement.reason,
                findings=tuple(finding.to_json() for finding in judgement.findings),
            )
        )


def _line(phase: PhaseConfig, elapsed: float, judgement: Judgement) -> str:
    """Return the live line about a phase."""
    told = {finding.signal: finding for finding in judgement.findings}
    counts = next((f for f in judgement.findings if f.rule == "compare" and f.n is not None), None)
    line = f"{phase.name}: {elapsed:.0f} of {phase.duration:g} s"
    if elapsed > phase.duration:
        line = f"{phase.name}: {elapsed:.0f} s, at most {phase.longest:g} s"
    if counts is not None:
        line += f", {CANARY} {counts.n} and {STABLE} {counts.n_stable} requests"
    if (errors := told.get("error_rate")) is not None and errors.e_value is not None:
        line += f", e-value {errors.e_value:.2g}"
    return f"{line}, {judgement.verdict} so far"
