"""Rollback drills: releases of the reference service that must fail, and leave all as it was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from pytest_llmdeploy.release.record import ReleaseResult
from pytest_llmdeploy.verdicts import Verdict

DRILL_VERSION = "drill"
"""What a drill's replicas call themselves, so that answers tell them from the running version."""
ROLLOUT_TIMEOUT = 15.0
"""Seconds after which a drill gives a rollout up that will never be complete."""
MISSING_IMAGE = "registry.invalid/no-such-image:drill"
"""No registry has it, for its name cannot exist (RFC 2606)."""


PHASES = "weight-*"
"""Stands for every phase of a canary."""
DRILL_DURATION, DRILL_MAX_DURATION = 10.0, 20.0
"""Seconds of a phase of a canary's drill, at most."""


@dataclass(frozen=True, slots=True)
class Drill:
    """One planted failure, and where it must be noticed."""

    faults: str
    """What the reference service is told in LLM_FAULTS."""
    noticed: tuple[str, ...]
    """Steps of which one must not pass."""
    what: str
    image: str | None = None
    """Image to release; None: the one that runs, with the faults."""
    canary: bool = False
    """It is a canary that must fail, not a blue/green release."""
    edits_route: bool = False
    """Somebody else changes the weights in the first phase."""
    metrics_down: bool = False
    """The Prometheus that is asked does not answer."""
    told: Verdict = Verdict.FAIL
    """Verdict with which it must be noticed: what is no fault of the version must not FAIL."""

    @property
    def variables(self) -> Mapping[str, str]:
        """Return the environment variables of the drill's replicas."""
        return {"LLM_FAULTS": self.faults, "LLM_VERSION": DRILL_VERSION}


DRILLS: Mapping[str, Drill] = {
    "never-ready": Drill("not-ready", ("rollout",), "a version that never becomes ready"),
    "wrong-health": Drill("unhealthy", ("health",), "a version that says it is degraded"),
    "smoke-fails": Drill("no-done", ("smoke",), "a version whose streams do not end"),
    "image-missing": Drill("", ("rollout",), "an image that is nowhere", MISSING_IMAGE),
    "crashes": Drill(
        "crash-after=40", ("converged", "watch", "zero-loss"), "a version that crashes"
    ),
    "errors-after-switch": Drill(
        "error-500=0.05", ("converged", "watch", "zero-loss"), "a version that fails now and then"
    ),
    "canary-errors": Drill(
        "error-500=0.05", (PHASES,), "a canary that fails now and then", canary=True
    ),
    "canary-route-edited": Drill(
        "",
        (PHASES,),
        "weights that somebody else changed",
        canary=True,
        edits_route=True,
        told=Verdict.ERROR,
    ),
    "canary-metrics-down": Drill(
        "",
        (PHASES,),
        "a Prometheus that does not answer",
        canary=True,
        metrics_down=True,
        told=Verdict.ERROR,
    ),
}


def judge_drill(  # noqa: PLR0911 - a decision list
    drill: Drill, result: ReleaseResult
) -> tuple[Verdict, str]:
    """Return whether the failure was noticed where it must be, and everything is as before.

    Requests that were lost before the traffic was moved are the fault of the release itself, and
    make the drill FAIL.
    """
    bad = next((step for step in result.steps if step.verdict is not Verdict.PASS), None)
    if bad is None:
        back = result.rollback
        told = "it was taken back" if back is not None and back.succeeded else "IT STILL RUNS"
        return Verdict.FAIL, f"{drill.what} was released: nothing noticed it; {told}"
    if bad.verdict is not drill.told:
        if bad.verdict is Verdict.FAIL:
            return Verdict.FAIL, f"{drill.what} was held against the version: {bad.reason}"
        # It was not noticed, but something could not be told.
        return bad.verdict, f"the drill could not be performed: {bad.name}: {bad.reason}"
    if not any(fnmatchcase(bad.name, name) for name in drill.noticed):
        expected = " or ".join(drill.noticed)
        return Verdict.FAIL, f"noticed by {bad.name} and not by {expected}: {bad.reason}"
    back = result.rollback
    if back is None or not back.succeeded:
        why = back.reason if back is not None else "nothing was taken back"
        return Verdict.FAIL, f"{bad.name} noticed it, but the way back failed: {why}"
    if early := result.traffic.get("lost_unmoved", 0):
        return Verdict.FAIL, f"{early} requests were lost while only the former version had traffic"
    sent = result.traffic.get("n", 0)
    if not sent:
        return Verdict.ERROR, "no request was sent: nothing is known about losses"
    reason = f"{bad.name} noticed {drill.what} ({bad.reason}); {back.reason}"
    if back.time_to_detect is not None and back.time_to_safe is not None:
        reason += (
            f"; seen {back.time_to_detect:.1f} s and safe {back.time_to_safe:.1f} s after the "
            f"switch, {back.requests_exposed} of {sent} requests exposed"
        )
    else:
        reason += f"; 0 of {sent} requests lost"
    return Verdict.PASS, reason
