"""The steps of a release before any user meets the new version."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pytest_llmdeploy.errors import ConflictError, LockedError, NotMeasuredError, PlatformError
from pytest_llmdeploy.ports import Rollout, other_color
from pytest_llmdeploy.release.convergence import Identity
from pytest_llmdeploy.release.journal import Situation, situation
from pytest_llmdeploy.release.state import Outcome, Release, StepFailedError
from pytest_llmdeploy.release.waiting import patiently
from pytest_llmdeploy.verdicts import Verdict
from pytest_llmdeploy.waiting import WaitTimeoutError, wait_until

BASELINE_DURATION = 2.0
"""Seconds for which the running version must answer everything before anything is changed."""
FEWEST_BASELINE = 10
LOOK_INTERVAL = 0.25


def preflight(release: Release) -> Outcome:
    """Find out what runs, whether the release may begin, and what to come back to."""
    fleet, order = release.fleet, release.order
    release.entry = fleet.entry().url
    # Before the lock: where rights are missing, all of them are told at once.
    found = fleet.preflight(other_color(fleet.color()), order.image)
    if fatal := [finding.text for finding in found if finding.fatal]:
        raise PlatformError("; ".join(fatal))
    held = _take_lock(release)
    if held is not None:
        return _go_on(release, held)
    release.old = fleet.color()
    release.new = other_color(release.old)
    if release.old is not None:
        release.old_image = fleet.image(release.old)
        release.old_whole = fleet.rollout(release.old).complete
    notes = {finding.name: finding.text for finding in found}
    said = "no version runs yet"
    if release.old is not None:
        release.old_identity = release.checks.identify(release.entry)
        said = _baseline(release)
    release.snapshot = fleet.snapshot()
    reason = f"{order.image} goes to {release.new}; {said}"
    if notes:
        reason += f"; noted: {'; '.join(notes.values())}"
    return Outcome(reason, {"findings": notes})


def _take_lock(release: Release) -> Situation | None:
    """Take the lock; return the held release that this one goes on with.

    Raises LockedError where another release is at work, PlatformError where one is to be finished.
    """
    lock = release.fleet.lock
    try:
        lock.acquire(release.order.holder)
    except LockedError as error:
        if error.alive:
            raise
        held = _unfinished(release)
        lock.steal(release.order.holder)  # its holder is dead, and has left nothing to finish
        return held
    return _unfinished(release)


def _unfinished(release: Release) -> Situation | None:
    """Return the release that is held for this one; raise PlatformError for any other open one."""
    found = situation(release.fleet.journal.read())
    if found is None or not found.is_open:
        return None
    same = found.release["image"] == release.order.image
    if release.canary is not None and found.held is not None and same:
        return found
    go_on = ""
    if found.held is not None:
        go_on = f", or release {found.release['image']} again by canary to go on with it"
    raise PlatformError(
        f"{found.in_words()}, and is not finished; first run "
        f"`llmdeploy rollback --env {release.order.environment}`{go_on}"
    )


def _go_on(release: Release, held: Situation) -> Outcome:
    """Take over what an earlier run has held: its way back is this one's."""
    noted, canary = held.release, release.canary
    assert canary is not None
    assert held.held is not None
    canary.resumed_at = held.held
    canary.resumed_phase, canary.resumed_because = held.held_phase, held.held_because
    canary.resumed_passed = held.held_passed
    release.old, release.new = noted["old_color"], noted["new_color"]
    release.old_image, release.old_whole = noted["old_image"], noted["old_whole"]
    release.old_identity = Identity(*noted["old_identity"])
    release.snapshot = noted["snapshot"]
    _check_still_held(release, held)
    said = _baseline(release)
    return Outcome(f"goes on with {held.in_words()} (run {noted['run']}); {said}")


def _check_still_held(release: Release, held: Situation) -> None:
    """Raise ConflictError where somebody has changed what was held, meanwhile."""
    assert release.canary is not None
    router = release.canary.router
    weight = router.read().weights.get(release.new, 0)
    color, image = release.fleet.color(), release.fleet.image(release.new)
    found = []
    if weight != held.held:
        found.append(f"{router.name} gives {release.new} {weight} % now, not {held.held} %")
    if color != release.old:
        found.append(f"the service leads to {color} now, not to {release.old}")
    if image != release.order.image:
        found.append(f"{release.new} has {image} now, not {release.order.image}")
    if found:
        raise ConflictError(
            f"{held.in_words()}, but somebody else has changed it since: {'; '.join(found)}; "
            f"to bring back what was before it, run "
            f"`llmdeploy rollback --env {release.order.environment}`"
        )


def _baseline(release: Release) -> str:
    """Begin the traffic; return how the running version answers it."""
    running = release.begin_traffic()
    if running is None:
        return f"{release.old_identity} answers"
    begun = time.monotonic()

    def enough() -> bool:
        progress = running.progress()
        # A canary is compared with it, so its own failures are known, and no obstacle.
        if progress.failed and (release.canary is None or progress.failed == progress.ended):
            raise PlatformError(
                f"the running version already loses requests: {progress.failed} of "
                f"{progress.ended} before anything was changed"
            )
        waited = time.monotonic() - begun
        return progress.ended >= FEWEST_BASELINE and waited >= BASELINE_DURATION

    wait_until(
        enough,
        what=f"the running version should answer {FEWEST_BASELINE} requests",
        timeout=release.config.traffic.timeout + BASELINE_DURATION,
        setting="blue_green.traffic.timeout",
        clock=release.patience,
    )
    ended = running.progress().ended
    failed = running.progress().failed
    how = f"all but {failed} of" if failed else "all of"
    return f"{release.old_identity} answers {how} {ended} requests"


def deploy(release: Release) -> Outcome:
    """Have the new version's replicas made."""
    order = release.order
    resumed = None if release.canary is None else release.canary.resumed_at
    release.journal.begin(
        {
            "run": order.run_id,
            "service": order.service,
            "environment": order.environment,
            "image": order.image,
            "holder": order.holder,
            "origin": dict(order.origin),
            "old_color": release.old,
            "new_color": release.new,
            "old_image": release.old_image,
            "old_whole": release.old_whole,
            "old_identity": [release.old_identity.color, release.old_identity.version],
            "snapshot": release.snapshot,
            "stage": "blue_green" if release.canary is None else "canary",
            "resumed_at": resumed,
        },
        resumed=resumed is not None,
    )
    release.moments = replace(release.moments, deploy=time.monotonic())
    if resumed is not None:
        # Users meet the new version already, and its number of replicas may be the weight.
        release.moments = replace(release.moments, switch=release.moments.deploy)
        return Outcome(f"{order.image} is deployed as {release.new} already, and is left as it is")
    with release.action("deploy", color=release.new, image=order.image):
        release.fleet.deploy(release.new, order.image, order.variables)
    replicas = release.config.replicas
    return Outcome(f"{replicas} replicas of {order.image} are wanted as {release.new}")


def roll_out(release: Release) -> Outcome:
    """Wait until all of them are ready."""
    told: list[str] = []

    def complete() -> Rollout | None:
        rollout = release.fleet.rollout(release.new)
        if rollout.failure is not None:
            raise StepFailedError(rollout.failure, {"rollout": rollout.waiting_for})
        told[:] = [rollout.waiting_for]
        release.now_doing = f"rollout of {release.new}: {rollout.waiting_for}"
        return rollout if rollout.complete else None

    begun = time.monotonic()
    try:
        wait_until(
            patiently(complete, told),
            what=f"all replicas of {release.new} should be ready",
            timeout=release.config.rollout_timeout,
            setting="blue_green.rollout_timeout",
            interval=LOOK_INTERVAL,
            clock=release.patience,
        )
    except WaitTimeoutError as error:
        raise StepFailedError(f"{error}; last: {told[-1] if told else 'nothing'}") from error
    pods = [p for p in release.fleet.pods(release.new) if p.ready and not p.terminating]
    release.pods = tuple(sorted(pod.name for pod in pods))
    seconds = time.monotonic() - begun
    reason = f"{len(pods)} of {len(pods)} replicas are ready after {seconds:.1f} s"
    digests = sorted({pod.digest for pod in pods if pod.digest is not None})
    detail = {"pods": list(release.pods), "seconds": seconds, "digests": digests}
    return Outcome(reason, detail)


def check_health(release: Release) -> Outcome:
    """Make the health checks on each replica, whatever gets traffic."""
    deadline = time.monotonic() + release.config.health_timeout
    for pod in release.pods:
        release.patience.check()
        if time.monotonic() > deadline:
            asked = len({each["pod"] for each in release.health})
            raise StepFailedError(
                f"only {asked} of {len(release.pods)} replicas could be checked within "
                f"{release.config.health_timeout:g} s (blue_green.health_timeout)"
            )
        with release.fleet.direct(pod) as url:
            outcomes = release.checks.health(url)
            identity = release.checks.identify(url)
        release.health += (
            {"pod": pod, "check": name, "verdict": str(found.verdict), "reason": found.reason}
            for name, found in outcomes
        )
        bad = [(n, found) for n, found in outcomes if found.verdict is not Verdict.PASS]
        if bad:
            name, found = bad[0]
            raise StepFailedError(f"replica {pod}, {name}: {found.reason}", _health_detail(release))
        _check_identity(release, pod, identity)
        release.new_identity = identity
    if not release.health:
        raise NotMeasuredError("no health check was made: the file has none")
    checks = len(release.health) // len(release.pods)
    reason = f"{checks} checks pass on each of {len(release.pods)} replicas: {release.new_identity}"
    return Outcome(reason, _health_detail(release))


def _check_identity(release: Release, pod: str, identity: Identity) -> None:
    if identity.color is not None and identity.color != release.new:
        raise StepFailedError(
            f"replica {pod} says that it is {identity.color}, not {release.new}: "
            "does its image read COLOR?",
            _health_detail(release),
        )
    if release.old is not None and identity.is_same(release.old_identity) is not False:
        raise PlatformError(
            f"{pod} answers as {identity}, which cannot be told from the running version's "
            f"{release.old_identity}: let /health name its color, or set service.version_header "
            "and give versions different names"
        )


def _health_detail(release: Release) -> Mapping[str, Any]:
    return {"health_checks": list(release.health)}


def check_smoke(release: Release) -> Outcome:
    """Make the smoke checks on one replica, before it gets traffic."""
    pod = release.pods[0]
    with release.fleet.direct(pod) as url:
        outcomes = release.checks.smoke(url)
    for name, found in outcomes:
        if found.verdict is not Verdict.PASS:
            raise StepFailedError(f"smoke check '{name}' fails on {pod}: {found.reason}")
    if not outcomes:
        raise NotMeasuredError("no smoke check was made: the file has none")
    names = ", ".join(name for name, _ in outcomes)
    return Outcome(f"{names} pass on {pod}, which has no traffic yet")
