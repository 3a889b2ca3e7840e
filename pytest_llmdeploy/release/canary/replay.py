"""Judges recorded looks once more, by the policy that was in force or by another one. Pure.

The rules by which a phase ends are those of `phase`: at a regression or a wrong split at once, else
from its duration on as soon as it has passed, at the latest after its longest duration.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pytest_llmdeploy.config.canary import CanaryConfig, PhaseConfig
from pytest_llmdeploy.release.canary.judge import Finding, Judgement, PhaseJudge
from pytest_llmdeploy.release.canary.looks import Look
from pytest_llmdeploy.verdicts import Verdict

ROUNDING = 0.0005
"""Seconds by which the times of looks are rounded."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """What the record says about a phase."""

    verdict: Verdict
    reason: str
    by_figures: bool
    """Its looks gave the verdict: no replica that went, no person, no refusal."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """A phase, judged once more."""

    name: str
    verdict: Verdict
    reason: str
    look: int = 0
    """Number of the look at which it ends, from 1; 0 where there is none."""
    looks: int = 0
    """Looks of the phase in the record."""
    elapsed: float = 0.0
    """Seconds from the phase's beginning to that look."""
    findings: tuple[Finding, ...] = ()

    @property
    def earlier(self) -> bool:
        """Whether it ends before the record does."""
        return self.look < self.looks


class LookError(ValueError):
    """A look that cannot be judged; `number` counts those of the phase from 1."""

    def __init__(self, number: int, cause: Exception) -> None:
        super().__init__(f"cannot be judged: {cause!r}")
        self.number = number


def replay(
    looks: Mapping[str, Sequence[Look]],
    policy: CanaryConfig,
    recorded: Mapping[str, Recorded],
    recorded_policy: CanaryConfig | None = None,
) -> list[Replayed]:
    """Judge the phases of `policy` in their order, until one does not pass.

    `looks` and `recorded` are by the phases' names. `recorded_policy` is what was in force; by it
    is told where a person held a phase. What the record cannot tell is INCONCLUSIVE. Raises
    LookError.
    """
    found = []
    for phase in policy.phases:
        seen = looks.get(phase.name, ())
        held = _was_held(seen, phase, recorded_policy)
        told = _replayed(seen, policy, phase, recorded.get(phase.name), held=held)
        unknown = _quality_unknown(policy, recorded_policy, phase, seen)
        if told.verdict is Verdict.PASS and unknown is not None:
            told = replace(told, verdict=Verdict.INCONCLUSIVE, reason=unknown)
        found.append(told)
        if told.verdict is not Verdict.PASS:
            break
    return found


def _replayed(
    looks: Sequence[Look],
    policy: CanaryConfig,
    phase: PhaseConfig,
    recorded: Recorded | None,
    *,
    held: bool,
) -> Replayed:
    if not looks:
        if recorded is not None and not recorded.by_figures:
            return Replayed(phase.name, recorded.verdict, _fact(recorded))
        why = "the record has no look of it: nothing can be said about this weight"
        return Replayed(phase.name, Verdict.INCONCLUSIVE, why)
    number, judgement, ended = _end(looks, policy, phase, held=held)
    look = looks[number - 1]

    def told(verdict: Verdict, reason: str) -> Replayed:
        findings = judgement.findings
        return Replayed(phase.name, verdict, reason, number, len(looks), look.elapsed, findings)

    if ended:
        return told(judgement.verdict, judgement.reason)
    if recorded is not None and not recorded.by_figures:
        return told(recorded.verdict, _fact(recorded))
    if judgement.verdict is Verdict.ERROR:
        return told(judgement.verdict, judgement.reason)
    wanted = phase.duration if judgement.verdict is Verdict.PASS else phase.longest
    return told(
        Verdict.INCONCLUSIVE,
        f"the record ends after {look.elapsed:.1f} s, the phase takes up to {wanted:g} s; so far "
        f"{judgement.verdict}: {judgement.reason}",
    )


def _end(
    looks: Sequence[Look], policy: CanaryConfig, phase: PhaseConfig, *, held: bool
) -> tuple[int, Judgement, bool]:
    """Return the number of the look at which a phase ends, or the last, and what is known then.

    With `held` the time is over at the last look only.
    """
    judge = PhaseJudge(policy)
    for number, look in enumerate(looks, 1):
        try:
            judgement = judge.add(look)
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise LookError(number, error) from error
        if judgement.ends_at_once:
            return number, judgement, True
        last = number == len(looks)
        if judgement.ends(phase, look.elapsed + ROUNDING) and (last or not held):
            return number, judgement, True
    return len(looks), judgement, False


def _was_held(looks: Sequence[Look], phase: PhaseConfig, recorded: CanaryConfig | None) -> bool:
    """Return whether looks went on after the end that the policy in force had given them."""
    if recorded is None or not looks:
        return False
    was = next((each for each in recorded.phases if each.name == phase.name), None)
    if was is None or (was.duration, was.longest) != (phase.duration, phase.longest):
        return False
    number, judgement, ended = _end(looks, recorded, was, held=False)
    return ended and judgement.verdict is not Verdict.FAIL and number < len(looks)


def _quality_unknown(
    policy: CanaryConfig,
    recorded: CanaryConfig | None,
    phase: PhaseConfig,
    looks: Sequence[Look],
) -> str | None:
    """Return why nothing is known of the answers, where this phase is to compare them."""
    quality = policy.quality
    if quality is None or phase.weight != policy.answers_weight:
        return None
    if not any(look.answers is not None for look in looks):
        return f"quality: no case of gate {quality.gate} was asked in this phase"
    was = recorded.quality if recorded is not None else None
    if was is not None and (was.gate, was.cases) != (quality.gate, quality.cases):
        return f"quality: other cases were asked than gate {quality.gate} would have asked"
    return None


def _fact(recorded: Recorded) -> str:
    return f"no limit decides about this: {recorded.reason}"
