"""The steps of a release from the switch on: it arrives, it holds, it has lost nothing."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from pytest_llmdeploy.errors import NotMeasuredError, PlatformError
from pytest_llmdeploy.release.convergence import (
    Converged,
    endpoints_lack,
    wait_until_converged,
)
from pytest_llmdeploy.release.journal import SWITCH
from pytest_llmdeploy.release.state import (
    InconclusiveError,
    Outcome,
    Release,
    StepFailedError,
)
from pytest_llmdeploy.release.waiting import patiently
from pytest_llmdeploy.release.zero_loss import judge_losses
from pytest_llmdeploy.verdicts import Verdict
from pytest_llmdeploy.waiting import WaitTimeoutError, wait_until

WATCH_INTERVAL = 0.5


def switch(release: Release) -> Outcome:
    """Move the traffic."""
    if release.running is not None:
        release.failed_before_switch = release.running.progress().failed
    with release.action(SWITCH, old=release.old, new=release.new):
        # Before, not after: from here on users may meet the new version.
        release.moments = replace(release.moments, switch=time.monotonic())
        release.fleet.switch(release.old, release.new)
    return Outcome(f"the service leads to {release.new} (was: {release.old or 'nothing'})")


def converge(release: Release) -> Outcome:
    """Wait until users meet the new version, and only that."""
    switched = release.moments.switch
    assert switched is not None
    try:
        found = _wait_until_converged(release, switched)
    except WaitTimeoutError as error:
        raise StepFailedError(str(error)) from error
    release.moments = replace(release.moments, converged=switched + found.all)
    if release.old is None:
        release.begin_traffic()
    return Outcome(
        f"endpoints are right after {found.endpoints:.2f} s, the first new connection was "
        f"answered by {release.new} after {found.first:.2f} s, all "
        f"{release.config.fresh_connections} in a row from {found.all:.2f} s on",
        {
            "endpoints": found.endpoints,
            "first": found.first,
            "all": found.all,
            "answers": found.answers,
        },
    )


def _wait_until_converged(release: Release, switched: float) -> Converged:
    return wait_until_converged(
        release.fleet,
        release.new,
        release.new_identity,
        lambda: release.checks.identify(release.entry),
        connections=release.config.fresh_connections,
        since=switched,
        timeout=release.config.converge_timeout,
        clock=release.patience,
        check=partial(_check_new, release),
    )


def _check_new(release: Release) -> None:
    """Raise StepFailedError where the new version already loses requests, or crashes."""
    _check_losses(release)
    rollout = patiently(partial(release.fleet.rollout, release.new), [])()
    if rollout is not None and rollout.failure is not None:
        raise StepFailedError(rollout.failure)


def watch(release: Release) -> Outcome:
    """Look at the new version for a while."""
    switched = release.moments.switch
    assert switched is not None
    told: list[str] = []
    present = wait_until(
        patiently(partial(_restarts, release), told),
        what=f"the replicas of {release.new} should be told",
        timeout=release.config.converge_timeout,
        setting="blue_green.converge_timeout",
        interval=WATCH_INTERVAL,
        clock=release.patience,
    )
    begun = time.monotonic()
    # Only what the rollout made: pods that end are what an earlier release left of this colour.
    restarts = {name: present.get(name, 0) for name in release.pods}
    seen = begun
    until = begun + release.config.watch_duration
    while (left := until - time.monotonic()) > 0:
        release.now_doing = f"watches {release.new}, {left:.0f} s left"
        _check_losses(release)
        if patiently(lambda: _look(release, restarts), told)() is not None:
            seen = time.monotonic()
        elif time.monotonic() - seen > release.config.converge_timeout:
            raise PlatformError(
                f"the platform has not answered for {release.config.converge_timeout:g} s "
                f"(blue_green.converge_timeout): {told[-1]}"
            )
        release.patience.sleep(min(WATCH_INTERVAL, left))
    _check_losses(release)
    return Outcome(
        f"{len(restarts)} replicas stayed ready, and no request was lost, for "
        f"{release.config.watch_duration:g} s"
    )


def _restarts(release: Release) -> Mapping[str, int]:
    """Return the restarts of each replica so far."""
    return {pod.name: pod.restarts for pod in release.fleet.pods(release.new)}


def _check_losses(release: Release) -> None:
    if release.running is None:
        return
    lost = release.running.progress().failed - release.failed_before_switch
    if lost > 0:
        raise StepFailedError(f"{lost} requests were lost since the switch")


def _look(release: Release, restarts: Mapping[str, int]) -> bool:
    pods = {pod.name: pod for pod in release.fleet.pods(release.new)}
    for name, before in restarts.items():
        pod = pods.get(name)
        if pod is None or pod.terminating:
            raise StepFailedError(f"replica {name} has gone")
        if pod.restarts > before:
            why = f": {pod.problem}" if pod.problem else ""
            raise StepFailedError(f"replica {name} was restarted{why}")
        if not pod.ready:
            why = f": {pod.problem}" if pod.problem else ""
            raise StepFailedError(f"replica {name} is not ready any more{why}")
    if lack := endpoints_lack(release.fleet, release.new):
        raise StepFailedError(lack)
    return True


def prove_no_loss(release: Release) -> Outcome:
    """Judge what became of every request of the traffic."""
    if release.running is None:
        raise NotMeasuredError("no traffic was sent: blue_green.traffic is needed for a proof")
    detail = release.finish_traffic()
    losses = release.losses
    assert losses is not None
    verdict = judge_losses(losses, release.config.traffic.max_loss)
    if verdict.verdict is Verdict.ERROR:
        raise NotMeasuredError(verdict.reason)
    if verdict.verdict is Verdict.FAIL:
        raise StepFailedError(verdict.reason, {"traffic": detail})
    if verdict.verdict is Verdict.INCONCLUSIVE:
        raise InconclusiveError(verdict.reason, {"traffic": detail})
    straddling = sum(losses.straddling.values())
    release.decided = True
    left = ""
    if losses.last_old is not None:
        left = f", and the former version gave its last answer {losses.last_old:.1f} s after it"
    return Outcome(
        f"{verdict.reason}; {straddling} requests were open at the switch{left}",
        {"traffic": detail, "bound": verdict.bound},
    )


def clean_up(release: Release) -> Outcome:
    """Do with the former version what the file says."""
    old, what = release.old, release.config.old
    if old is None:
        said = "there was no former version"
    elif what == "keep":
        said = f"{old} ({release.old_image}) is kept as it is, ready to be switched back to"
    else:
        converged = release.moments.converged or time.monotonic()
        release.now_doing = f"lets {old} drain"
        drained = converged + release.config.drain_duration
        release.patience.sleep(max(drained - time.monotonic(), 0.0))
        with release.action(what, color=old):
            if what == "scale_down":
                release.fleet.scale(old, 0)
            else:
                release.fleet.delete(old)
        done = "scaled to 0" if what == "scale_down" else "deleted"
        said = f"{old} was {done} {release.config.drain_duration:g} s after its traffic had left"
    return Outcome(said)
