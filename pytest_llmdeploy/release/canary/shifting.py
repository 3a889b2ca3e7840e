"""The steps of a canary that change where requests go."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial

from pytest_llmdeploy.errors import NotMeasuredError, PlatformError
from pytest_llmdeploy.ports import Subject
from pytest_llmdeploy.release.canary.fidelity import (
    PROBE_INTERVAL,
    SETTING,
    wait_for_one,
    wait_for_split,
)
from pytest_llmdeploy.release.canary.state import CanaryState, Shift
from pytest_llmdeploy.release.convergence import wait_until_converged
from pytest_llmdeploy.release.journal import SWITCH, WEIGHT
from pytest_llmdeploy.release.state import Outcome, Release, StepFailedError
from pytest_llmdeploy.release.waiting import patiently
from pytest_llmdeploy.verdicts import Verdict
from pytest_llmdeploy.waiting import WaitTimeoutError, wait_until

ALL = 100


def canary_of(release: Release) -> CanaryState:
    """Return what the canary works with."""
    assert release.canary is not None
    return release.canary


def warm_up(release: Release) -> Outcome:
    """Ask the new replicas before users do: the first answers of a cold one are slow."""
    wanted = canary_of(release).config.warm_up
    if not wanted.requests:
        return Outcome("nothing is asked: canary.warm_up.requests is 0")
    times = []
    for pod in release.pods:
        release.now_doing = f"warms {pod} up"
        with release.fleet.direct(pod) as url:
            for number in range(1, wanted.requests + 1):
                release.patience.check()
                begun = time.monotonic()
                asked = release.checks.warm_up(url, wanted.timeout)
                if asked.verdict is not Verdict.PASS:
                    raise StepFailedError(
                        f"request {number} of {wanted.requests} to {pod}: {asked.reason}"
                    )
                times.append(time.monotonic() - begun)
    first, last = times[0], times[-1]
    return Outcome(
        f"{len(release.pods)} replicas answered {wanted.requests} requests each; the first took "
        f"{first:.2f} s, the last {last:.2f} s",
        {"first": first, "last": last},
    )


def make_route(release: Release) -> Outcome:
    """Make a place for the new version, without traffic; prove that the header leads to it."""
    canary, old, new = canary_of(release), release.old, release.new
    assert old is not None
    config = canary.config
    ready = [pod.name for pod in release.fleet.pods(old) if pod.ready and not pod.terminating]
    present = {pod.name: pod.restarts for pod in release.fleet.pods(new)}
    canary.restarts = {name: present.get(name, 0) for name in release.pods}
    canary.stable = Subject("stable", old, release.old_identity.version, tuple(sorted(ready)))
    canary.canary = Subject("canary", new, release.new_identity.version, release.pods)
    if release.running is None:
        raise NotMeasuredError("no traffic was sent: a canary needs requests to be judged by")
    canary.figures = canary.make_figures(release.running.outcomes)
    _check_sources(canary)
    resumed = canary.resumed_at
    if resumed is None:
        with release.action("route", stable=old, canary=new):
            canary.router.prepare(old, new)
    _await_status(release)
    if not canary.router.has_header:
        said = "without a header route"
    else:
        _prove_header(release)
        name = config.router.header
        said = (
            f"{name}: {config.router.header_value} leads to {new} alone, "
            f"{name}: anything else leads nobody there"
        )
    where = "0 %" if resumed is None else f"{resumed} %, as the run before has left it"
    return Outcome(f"{canary.router.name} has {new} at {where}; {said}")


def _check_sources(canary: CanaryState) -> None:
    """Raise NotMeasuredError where a limit is about what nothing tells: before any user is met."""
    assert canary.figures is not None
    limits = canary.config.sla.limits
    signals = {key.removeprefix("min_"): key for key in limits}
    untold = [key for signal, key in signals.items() if canary.figures.source(signal) is None]
    if untold:
        sources = ", ".join(each.name for each in canary.figures.sources) or "none"
        raise NotMeasuredError(
            f"nothing tells {', '.join(untold)} of canary.sla (sources: {sources}): give "
            "canary.metrics another preset, source or query, or set these limits to null"
        )


def _prove_header(release: Release) -> None:
    """Assert the header route in both directions."""
    canary = canary_of(release)
    header = canary.config.router.header
    assert header is not None
    value = canary.config.router.header_value
    directions = [
        ({header: value}, release.new_identity, f"connections with {header}"),
        ({header: f"not-{value}"}, release.old_identity, "without it"),
    ]
    if canary.resumed_at is not None:
        directions.pop()  # by its weight the new version answers these, too
    for headers, wanted, what in directions:
        try:
            wait_for_one(
                partial(release.checks.identify_with, release.entry, headers),
                wanted,
                what=what,
                connections=release.config.fresh_connections,
                timeout=canary.config.converge_timeout,
                clock=release.patience,
            )
        except WaitTimeoutError as error:
            raise PlatformError(
                f"the header route of {canary.router.name} does not do what it says: {error}"
            ) from error


def shift(release: Release, weight: int) -> Shift:
    """Give the new version a weight; return once that is what users meet.

    Raises PlatformError where the served split does not become the weight: that is the
    infrastructure's fault, and says nothing about the version.
    """
    canary, old, new = canary_of(release), release.old, release.new
    assert old is not None
    with release.action(WEIGHT, color=new, weight=weight):
        now = time.monotonic()
        # Before, not after: from here on users may meet the new version.
        if release.moments.switch is None:
            release.moments = replace(release.moments, switch=now)
        shifted = Shift(weight, weight, now)
        canary.shifts.append(shifted)
        shifted.made = canary.router.set_weight(old, new, weight)
    release.now_doing = f"waits until the split is {shifted.made} %"
    _await_status(release)
    try:
        served = wait_for_split(
            lambda: release.checks.identify(release.entry),
            release.old_identity,
            release.new_identity,
            weight=shifted.made,
            tolerance=canary.config.split_tolerance,
            timeout=canary.config.converge_timeout,
            clock=release.patience,
            check=lambda: _check_rollout(release),
        )
    except WaitTimeoutError as error:
        raise PlatformError(
            f"{canary.router.name} took the weight {shifted.made}, but it is not served: {error}. "
            "This says nothing about the new version; look at what routes"
        ) from error
    _note_replicas(release)
    shifted.converged, shifted.proven = served.since, time.monotonic()
    shifted.connections, shifted.share = served.connections, served.share
    if release.moments.converged is None:
        release.moments = replace(release.moments, converged=served.since)
    return shifted


def _note_replicas(release: Release) -> None:
    """Note which replicas are to be watched: a router may have changed their number.

    Restarts of those that were there before count from before.
    """
    canary = canary_of(release)
    found = patiently(partial(release.fleet.pods, release.new), [])()
    if found is not None:
        names = [pod.name for pod in found if not pod.terminating]
        canary.restarts = {name: canary.restarts.get(name, 0) for name in names}
    canary.stable = _with_pods(release, canary.stable)
    canary.canary = _with_pods(release, canary.canary)


def _with_pods(release: Release, subject: Subject | None) -> Subject | None:
    """Return the version with the replicas that it has now: all of them are to tell of it."""
    assert subject is not None
    found = patiently(partial(release.fleet.pods, subject.color), [])()
    if found is None:
        return subject
    ready = sorted(pod.name for pod in found if pod.ready and not pod.terminating)
    return replace(subject, pods=tuple(ready))


def promote(release: Release) -> Outcome:
    """Swap the roles: the new version becomes what the next release starts from."""
    canary, old, new = canary_of(release), release.old, release.new
    release.now_doing = f"makes {new} the stable version"
    before = time.monotonic()
    shifted = Shift(ALL, ALL, before)
    canary.shifts.append(shifted)
    with release.action(SWITCH, old=old, new=new):
        release.fleet.switch(old, new)
    with release.action("promote", color=new):
        canary.router.promote(new)
    _await_status(release)
    try:
        found = wait_until_converged(
            release.fleet,
            new,
            release.new_identity,
            lambda: release.checks.identify(release.entry),
            connections=release.config.fresh_connections,
            since=before,
            timeout=canary.config.converge_timeout,
            clock=release.patience,
            setting=SETTING,
            check=lambda: _check_rollout(release),
        )
    except WaitTimeoutError as error:
        raise PlatformError(
            f"{error}. This says nothing about the new version; look at what routes"
        ) from error
    shifted.converged, shifted.share = before + found.all, 1.0
    shifted.proven = time.monotonic()
    shifted.connections = release.config.fresh_connections
    release.moments = replace(release.moments, converged=before + found.all)
    return Outcome(
        f"{new} ({release.order.image}) is the stable version: the service's name and "
        f"{canary.router.name} lead to it alone, as all {release.config.fresh_connections} new "
        f"connections in a row tell from {found.all:.2f} s on"
    )


def _await_status(release: Release) -> None:
    """Wait until the router's own status says that it is as written; nothing where it has none."""
    canary = canary_of(release)
    told = [""]

    def accepted() -> bool:
        lack = canary.router.lacks()
        told[:] = [lack or ""]
        return lack is None

    try:
        wait_until(
            patiently(accepted, told),
            what=f"{canary.router.name} should be accepted",
            timeout=canary.config.converge_timeout,
            setting=SETTING,
            interval=10 * PROBE_INTERVAL,
            clock=release.patience,
        )
    except WaitTimeoutError as error:
        raise PlatformError(f"{error}; last: {told[-1]}") from error


def _check_rollout(release: Release) -> None:
    """Raise StepFailedError where the new version's replicas fail."""
    rollout = patiently(partial(release.fleet.rollout, release.new), [])()
    if rollout is not None and rollout.failure is not None:
        raise StepFailedError(rollout.failure)
