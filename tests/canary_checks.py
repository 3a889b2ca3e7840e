"""What tests let happen to a canary, and how they check what it says."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

from pytest_llmdeploy.release.routed import RoutedFleet
from pytest_llmdeploy.verdicts import Verdict
from tests.canary_faults import BAD, CanarySite
from tests.contract.conftest import wait_until
from tests.contract.test_local_fleet import process_of
from tests.release_faults import BEFORE, Performed

STEPS = [
    *("preflight", "deploy", "rollout", "health", "smoke", "warm-up", "route"),
    *("weight-40", "weight-100", "promote", "zero-loss", "cleanup", "final-state"),
]
CALLS = [
    ("preflight", "color"),
    ("preflight", "entry"),
    ("preflight", "preflight"),
    ("preflight", "router.preflight"),
    ("preflight", "lock.acquire"),
    ("preflight", "journal.read"),
    ("preflight", "image"),
    ("preflight", "rollout"),
    ("preflight", "snapshot"),
    ("preflight", "router.snapshot"),
    ("deploy", "journal.clear"),
    ("deploy", "journal.append"),
    ("deploy", "deploy"),
    ("rollout", "rollout"),
    ("rollout", "pods"),
    ("health", "direct"),
    ("smoke", "direct"),
    ("warm-up", "direct"),
    ("route", "pods"),
    ("route", "journal.append"),
    ("route", "router.prepare"),
    ("route", "router.lacks"),
    ("weight-40", "journal.append"),
    ("weight-40", "router.set_weight"),
    ("weight-40", "router.lacks"),
    ("weight-40", "rollout"),
    ("weight-40", "pods"),
    ("weight-40", "router.read"),
    ("weight-100", "journal.append"),
    ("weight-100", "router.set_weight"),
    ("weight-100", "router.lacks"),
    ("weight-100", "rollout"),
    ("weight-100", "pods"),
    ("weight-100", "router.read"),
    ("promote", "journal.append"),
    ("promote", "switch"),
    ("promote", "router.promote"),
    ("promote", "router.lacks"),
    ("promote", "rollout"),
    ("promote", "endpoints"),
    ("promote", "pods"),
    ("cleanup", "journal.append"),
    ("cleanup", "scale"),
    ("final-state", "color"),
    ("final-state", "image"),
    ("final-state", "journal.append"),
    ("final-state", "lock.release"),
]
"""Each place at which a canary calls the platform or the router."""
LONG = [{"weight": 40, "duration": 0.3, "max_duration": 30, "approve": "exit"}]
REST = [{"weight": 100, "duration": 0.3, "max_duration": 30}]


class Once:
    """Fails one call; for one of the way back the version is a bad one."""

    def __init__(self, call: tuple[str, str], error: BaseException, when: str = BEFORE) -> None:
        self.call = call
        self.error = error
        self.when = when
        self.met = False

    @property
    def image(self) -> str | None:
        return BAD if self.call[0] == "rollback" else None

    def __call__(self, phase: str, method: str, when: str) -> None:
        if (phase, method, when) == (*self.call, self.when) and not self.met:
            self.met = True
            raise self.error


def check(site: CanarySite, done: Performed, before: dict[str, Any]) -> str:
    """Check that what the canary says is what is so; return how it ended."""
    result, final, fleet = done.result, done.final, site.routed()
    assert [step.name for step in result.steps] == STEPS
    entries = site.fleet.journal.read()
    if result.success:
        assert final.verdict is Verdict.PASS
        assert (fleet.color(), fleet.image(result.new_color)) == (result.new_color, result.image)
        assert alone(fleet, result.new_color)
        assert site.is_free()
        assert entries[-1]["state"] == "released"
        return "released"
    assert any(step.verdict is not Verdict.PASS for step in result.steps)
    if final.verdict is Verdict.PASS:
        assert list(fleet.differences(before)) == []
        assert site.is_free()
        if result.rollback is None:
            return "nothing changed"
        assert entries[-1]["state"] == "rolled back"
        return "rolled back"
    assert result.rollback is not None
    assert not result.rollback.succeeded
    assert final.verdict is Verdict.FAIL
    assert final.reason.startswith("ROLLBACK FAILED: ")
    return "rollback failed"


def alone(fleet: RoutedFleet, color: str) -> bool:
    """Return whether the route leads to one colour, without a header route."""
    route = fleet.router.read()
    return route.weights.get(color) == 100 and route.header is None


def split_of(site: CanarySite, color: str) -> int:
    """Return the weight of a colour."""
    return site.routed().router.read().weights.get(color, 0)


def canary_steps_of(done: Performed) -> dict[str, str]:
    """Return the reasons of the steps by their names."""
    return {step.name: step.reason for step in done.result.steps}


def held(site: CanarySite, **options: Any) -> Performed:
    """Return a canary that is held at 40 %."""
    done = site.perform(canary={"phases": LONG + REST}, **options)
    assert done.failed.name == "approve-weight-40", done.failed
    assert site.fleet.journal.read()[-1]["kind"] == "held"
    return done


def during(call: tuple[str, str], act: Callable[[], object]) -> Callable[[str, str, str], None]:
    """Return a fault that does something once at a call."""
    left = [act]

    def fault(phase: str, method: str, when: str) -> None:
        if (phase, method) == call and left:
            left.pop()()

    return fault


def end_process(site: CanarySite, pod: str) -> None:
    """Kill a replica, and wait until its supervisor has noticed."""
    before = {each.name: each.restarts for each in site.fleet.pods(color_of(pod))}
    os.kill(process_of(site.fleet, pod), signal.SIGKILL)
    wait_until(
        lambda: any(
            each.restarts > before.get(each.name, 0) for each in site.fleet.pods(color_of(pod))
        ),
        20,
    )


def color_of(pod: str) -> str:
    return pod.split("-")[1]
