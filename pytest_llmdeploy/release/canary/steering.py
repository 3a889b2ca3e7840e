"""How people steer a canary that is under way: by files in a folder of the run."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from pytest_llmdeploy.config.canary import PhaseConfig
from pytest_llmdeploy.release.canary.shifting import canary_of
from pytest_llmdeploy.release.canary.state import CanaryState
from pytest_llmdeploy.release.state import (
    Held,
    InconclusiveError,
    Outcome,
    Release,
    StepFailedError,
)
from pytest_llmdeploy.verdicts import Verdict
from pytest_llmdeploy.waiting import WaitTimeoutError, wait_until

PROMOTE, HOLD, ABORT = "promote", "hold", "abort"
"""Names of files: go to the end at once; stay in this phase; go back."""
REJECT = "reject"
Watch = Callable[[PhaseConfig, Release], Callable[[], None]]
"""Makes what looks at the version now and then."""
APPROVE_VARIABLE = "LLMDEPLOY_APPROVE"


def _nothing(_phase: PhaseConfig, _release: Release) -> Callable[[], None]:
    return lambda: None


def wants(control: Path, what: str) -> bool:
    """Return whether a person has put that file into the folder."""
    return (control / what).exists()


def approve(phase: PhaseConfig, release: Release, watch: Watch = _nothing) -> Outcome:
    """Wait for the approval of a phase that has passed.

    Without one, the release is held (`env`, `exit`) or goes back (`file`, after approve_timeout).
    While it waits, it calls what `watch` has made; what that raises ends the waiting.
    """
    canary = canary_of(release)
    if _goes_on(phase, canary):
        return Outcome(f"approved by going on with the release that was held at {phase.weight} %")
    if wants(canary.control, PROMOTE):
        return Outcome("promoted at once, as a person asked")
    if phase.approve == "file":
        path = canary.control / f"approve-{phase.name}"
        return _approved_by_file(path, release, watch(phase, release))
    names = {name.strip() for name in canary.approved().split(",")}
    if phase.approve == "env" and not names.isdisjoint({phase.name, "all"}):
        return Outcome(f"{APPROVE_VARIABLE} approves it")
    made = canary.shifts[-1].made if canary.shifts else canary.resumed_at or phase.weight
    why = f"{phase.name} waits for approval"
    release.held = Held(made, phase.weight, why, Verdict.INCONCLUSIVE, passed=True)
    how = "release the same image again"
    if phase.approve == "env":
        how += f" with {APPROVE_VARIABLE}={phase.name}"
    raise InconclusiveError(f"{phase.name} has passed and is not approved; to approve it, {how}")


def _goes_on(phase: PhaseConfig, canary: CanaryState) -> bool:
    """Return whether an earlier run has ended so that going on with it is the approval."""
    if not canary.is_behind(phase.weight):
        return False
    # The last phase's approval by file or variable is still to come: a job that is run again by a
    # machine must not approve.
    return phase.approve == "exit" or not canary.is_last_behind(phase.weight)


def _approved_by_file(path: Path, release: Release, look: Callable[[], None]) -> Outcome:
    path.parent.mkdir(parents=True, exist_ok=True)
    canary = canary_of(release)
    timeout = canary.config.approve_timeout
    release.now_doing = f"waits for approval: touch {path}, or write '{REJECT}' into it"
    begun = time.monotonic()
    empty_before = False

    def decided() -> str | None:
        nonlocal empty_before
        if wants(canary.control, ABORT):
            raise StepFailedError(f"a person asked to abort ({canary.control})")
        if wants(canary.control, PROMOTE):
            return "promoted at once, as a person asked"
        look()
        try:
            said = path.read_text(encoding="utf-8", errors="replace").strip()[:200]
        except OSError:
            return None
        # One that is empty may be about to be written, with a rejection: so it is read twice.
        if not said and not empty_before:
            empty_before = True
            return None
        return said or "touched"

    try:
        said = wait_until(
            decided,
            what=f"{path} should approve the next phase",
            timeout=timeout,
            setting="canary.approve_timeout",
            interval=0.2,
            clock=release.patience,
        )
    except WaitTimeoutError as error:
        raise StepFailedError(f"nobody approved it: {error}") from error
    if said.lower().startswith(REJECT):
        raise StepFailedError(f"a person rejected it: {said}")
    return Outcome(f"approved after {time.monotonic() - begun:.0f} s ({said})")
