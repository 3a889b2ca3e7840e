"""The way back to a snapshot: traffic first, then proof, then replicas. May be begun again.

Only where the former version has no replicas any more, for the release had come to its cleanup, do
those come first.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from pytest_llmdeploy.config.release import BlueGreenConfig
from pytest_llmdeploy.errors import LLMDeployError, PlatformError
from pytest_llmdeploy.ports import Fleet, Snapshot
from pytest_llmdeploy.release.convergence import Identity, WhoAnswers, wait_until_converged
from pytest_llmdeploy.release.journal import Journal
from pytest_llmdeploy.release.record import RollbackReport
from pytest_llmdeploy.release.waiting import insist, patiently
from pytest_llmdeploy.waiting import Clock, WaitTimeoutError, wait_until

SETTING = "blue_green.rollback_timeout"


@dataclass(slots=True)
class WayBack:
    """What a rollback needs to know."""

    fleet: Fleet
    config: BlueGreenConfig
    snapshot: Snapshot
    old_color: str | None
    old: Identity
    """How the former version answers."""
    moved: bool
    """Users may have met the new version."""
    who_answers: WhoAnswers
    old_image: str | None = None
    """The former version; needed where its replicas were deleted."""
    clock: Clock = time
    whole: bool = True
    """All replicas of the former version were ready before the release."""
    between: Callable[[], None] = lambda: None
    """Called once traffic is back, before replicas are touched: the time to collect evidence."""


def roll_back(way: WayBack, journal: Journal | None) -> RollbackReport:
    """Bring the snapshot's state back, and prove it. Never raises an error of ours.

    The report's times are seconds from its beginning; whoever knows of the switch adds to them.
    """
    begun = way.clock.monotonic()
    deadline = begun + way.config.rollback_timeout
    safe: float | None = None

    def left() -> float:
        return round(max(deadline - way.clock.monotonic(), 1.0), 1)

    try:
        if way.moved:
            _ensure_former(way, journal, left)
            _note(journal, "restore-traffic")
            insist(
                lambda: way.fleet.restore_traffic(way.snapshot),
                what="the traffic should go back to the former version",
                timeout=left(),
                setting=SETTING,
                clock=way.clock,
            )
            safe = _proven(way, begun, left())
        way.between()
        if way.moved:
            # What the new version is still answering may come to its end.
            way.clock.sleep(way.config.drain_duration)
            deadline += way.config.drain_duration
        _note(journal, "restore-replicas")
        insist(
            lambda: way.fleet.restore_replicas(way.snapshot),
            what="the replicas should be as before",
            timeout=left(),
            setting=SETTING,
            clock=way.clock,
        )
        _until_equal(way, left())
    except LLMDeployError as error:
        return _failed(way, str(error), safe)
    if journal is not None:
        journal.end("rolled back")
    what = "traffic and replicas are" if way.moved else "traffic was never moved; replicas are"
    return RollbackReport(True, f"{what} as before the release", time_to_safe=safe)


def _ensure_former(way: WayBack, journal: Journal | None, left: Callable[[], float]) -> None:
    """Have replicas of the former version where none is left: traffic must not go to nothing."""
    old, told = way.old_color, list[str]()
    if old is None:
        return
    try:
        rollout = way.fleet.rollout(old)
        # Those that are ready while none is wanted are about to end.
        if (rollout.ready and rollout.desired) or way.fleet.color() == old:
            return
        image = way.fleet.image(old)
    except PlatformError:
        return  # what cannot be seen is no reason to leave the traffic where it is
    _note(journal, "restore-former")

    def want() -> None:
        if image is not None:
            way.fleet.scale(old, way.config.replicas)
        elif way.old_image is not None:
            way.fleet.deploy(old, way.old_image, {})

    what = f"replicas of {old}, of which none was left, should be ready"
    insist(want, what=what, timeout=left(), setting=SETTING, clock=way.clock)
    wait_until(
        patiently(lambda: way.fleet.rollout(old).complete, told),
        what=what,
        timeout=left(),
        setting=SETTING,
        interval=0.2,
        clock=way.clock,
    )


def _note(journal: Journal | None, action: str) -> None:
    if journal is not None:
        journal.undoing(action)


def _proven(way: WayBack, begun: float, timeout: float) -> float | None:
    """Return when the former version answered every new connection; None where there is none."""
    if way.old_color is None:
        return None
    converged = wait_until_converged(
        way.fleet,
        way.old_color,
        way.old,
        way.who_answers,
        connections=way.config.fresh_connections,
        since=begun,
        timeout=timeout,
        clock=way.clock,
        setting=SETTING,
    )
    return converged.all


def _until_equal(way: WayBack, timeout: float) -> None:
    told: list[str] = []

    def equal() -> bool:
        told[:] = way.fleet.differences(way.snapshot)
        if not told and way.old_color is not None and way.whole:
            rollout = way.fleet.rollout(way.old_color)
            told[:] = [] if rollout.complete else [f"{way.old_color}: {rollout.waiting_for}"]
        return not told

    try:
        wait_until(
            patiently(equal, told),
            what="everything should be as in the snapshot",
            timeout=timeout,
            setting=SETTING,
            interval=0.2,
            clock=way.clock,
        )
    except WaitTimeoutError as error:
        raise WaitTimeoutError(f"{error}: {'; '.join(told)}") from error


def _failed(way: WayBack, why: str, safe: float | None) -> RollbackReport:
    """Say what state things are in, and what a person has to do."""
    try:
        color = way.fleet.color()
        differences = tuple(way.fleet.differences(way.snapshot))
        state = f"the service leads to {color or 'nothing'} now; before the release it led to "
        state += way.old_color or "nothing"
    except LLMDeployError as error:
        differences = ()
        state = f"the state is unknown, for the platform does not answer: {error}"
    try:
        commands = tuple(way.fleet.commands(way.snapshot))
    except LLMDeployError as error:
        commands = (f"# no commands can be given: {error}",)
    return RollbackReport(
        False,
        f"{why}; {state}",
        time_to_safe=safe,
        differences=differences,
        commands=commands,
    )
