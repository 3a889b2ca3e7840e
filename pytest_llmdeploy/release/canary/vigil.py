"""What is watched beside the figures; and all of it, while a person decides about a phase."""

from __future__ import annotations

import time
from functools import partial

from pytest_llmdeploy.config.canary import PhaseConfig
from pytest_llmdeploy.errors import ConflictError, NotMeasuredError
from pytest_llmdeploy.release.canary.judge import PhaseJudge
from pytest_llmdeploy.release.canary.looking import Observer
from pytest_llmdeploy.release.canary.shifting import canary_of
from pytest_llmdeploy.release.state import Release, StepFailedError
from pytest_llmdeploy.release.waiting import patiently
from pytest_llmdeploy.verdicts import Verdict


def check_replicas(release: Release) -> None:
    """Raise StepFailedError where a replica of the new version was restarted, or has gone."""
    found = patiently(partial(release.fleet.pods, release.new), [])()
    if found is None:
        return  # the control plane is away; requests go on to tell
    pods = {pod.name: pod for pod in found}
    canary, now = canary_of(release), time.monotonic()
    for name, restarts in canary.restarts.items():
        pod = pods.get(name)
        why = f": {pod.problem}" if pod is not None and pod.problem else ""
        if pod is None or pod.terminating:
            raise StepFailedError(f"replica {name} has gone")
        if pod.restarts > restarts:
            raise StepFailedError(f"replica {name} was restarted{why}")
        since = canary.unready_since.setdefault(name, now) if not pod.ready else None
        if since is None:
            canary.unready_since.pop(name, None)
        elif now - since >= canary.config.converge_timeout:
            raise StepFailedError(
                f"replica {name} has not been ready for {canary.config.converge_timeout:g} s "
                f"(canary.converge_timeout){why}"
            )


def check_route(release: Release, made: int) -> None:
    """Raise ConflictError where somebody else has changed the weights meanwhile."""
    router = canary_of(release).router
    route = patiently(router.read, [])()
    now = route.weights.get(release.new, 0) if route is not None else made
    if now != made:
        raise ConflictError(
            f"{router.name} gives {release.new} {now} % now, not {made} %: "
            "somebody else has changed it"
        )


class Vigil:
    """Goes on watching a phase that has passed: the new version keeps its traffic meanwhile."""

    def __init__(self, phase: PhaseConfig, release: Release) -> None:
        """The phase's own requests go on to count, so no further part of alpha is spent."""
        canary = canary_of(release)
        own = [each.started for each in canary.phases if each.name == phase.name]
        self._release = release
        self._made = canary.shifts[-1].made if canary.shifts else canary.resumed_at or phase.weight
        self._began = time.monotonic()
        self._next_look = self._next_sample = 0.0
        self._judge = PhaseJudge(canary.config)
        started = own[-1] if own else time.time()
        self._observer = Observer(canary, phase.name, self._made, started)

    def look(self) -> None:
        """Look where it is time to; raise where the version may not keep its traffic.

        Raises StepFailedError for what is shown to be worse, NotMeasuredError where the served
        split is not the weight any more. That figures cannot be had ends no waiting.
        """
        check_replicas(self._release)
        config = canary_of(self._release).config
        elapsed = time.monotonic() - self._began
        if elapsed < min(self._next_look, self._next_sample):
            return
        sampled = elapsed >= self._next_sample
        judgement = self._judge.add(self._observer.look(elapsed, sample=sampled, answers=False))
        check_route(self._release, self._made)
        self._next_look = elapsed + config.look_interval
        if sampled:
            self._next_sample = elapsed + config.sample_interval
        reason = f"while it waited for approval: {judgement.reason}"
        if judgement.is_mismatch:
            raise NotMeasuredError(reason)
        if judgement.verdict is Verdict.FAIL:
            raise StepFailedError(reason)
