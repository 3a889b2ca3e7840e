"""The steps of a canary, in their order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from pytest_llmdeploy.config.canary import CanaryConfig, PhaseConfig
from pytest_llmdeploy.errors import PlatformError
from pytest_llmdeploy.release.canary.losses import prove_no_shift_loss
from pytest_llmdeploy.release.canary.phase import run_phase
from pytest_llmdeploy.release.canary.shifting import canary_of, make_route, promote, warm_up
from pytest_llmdeploy.release.canary.steering import approve
from pytest_llmdeploy.release.canary.vigil import Vigil
from pytest_llmdeploy.release.prepare import check_health, check_smoke, deploy, preflight, roll_out
from pytest_llmdeploy.release.prove import clean_up
from pytest_llmdeploy.release.state import Act, Held, Outcome, Release
from pytest_llmdeploy.verdicts import Verdict

ALL = 100


def canary_steps(config: CanaryConfig, *, one_shift: bool = False) -> Mapping[str, Act]:
    """Return the steps; `record.FINAL` follows and tells what everything was left in.

    A run that makes one shift ends with the release held there, unless all traffic is moved.
    """
    steps: dict[str, Act] = {
        "preflight": _preflight,
        "deploy": deploy,
        "rollout": roll_out,
        "health": check_health,
        "smoke": check_smoke,
        "warm-up": warm_up,
        "route": make_route,
    }
    for phase in config.phases:
        steps[phase.name] = partial(run_phase, phase)
        if phase.approve is not None:
            steps[f"approve-{phase.name}"] = partial(approve, phase, watch=_watch)
    if not one_shift or config.phases[-1].weight == ALL:
        steps["promote"] = promote
        steps["zero-loss"] = _prove_and_decide
        steps["cleanup"] = clean_up
    else:
        steps["zero-loss"] = _prove_and_hold
    return steps


def _watch(phase: PhaseConfig, release: Release) -> Callable[[], None]:
    return Vigil(phase, release).look


def _preflight(release: Release) -> Outcome:
    if release.fleet.color() is None:
        raise PlatformError(
            "no version runs yet, so there is nothing to compare with: release the first one with "
            "-m blue_green"
        )
    outcome = preflight(release)
    config, held = canary_of(release).config, canary_of(release).resumed_at
    compared = [phase for phase in config.phases if phase.weight < ALL]
    must_show = config.compare.promote_on == "non-inferior" and bool(config.compare.signals)
    if must_show and not compared and held is None:
        raise PlatformError(
            "at weight 100 there is no other version to compare with, so nothing would be shown: "
            "shift to a lower weight first, or set canary.compare.promote_on: no-regression"
        )
    return outcome


def _prove_and_decide(release: Release) -> Outcome:
    outcome = prove_no_shift_loss(release)
    release.decided = True
    return outcome


def _prove_and_hold(release: Release) -> Outcome:
    outcome = prove_no_shift_loss(release)
    made = canary_of(release).shifts[-1]
    why = "shifted, as asked"
    release.held = Held(made.made, made.weight, why, Verdict.PASS, passed=True)
    return outcome
