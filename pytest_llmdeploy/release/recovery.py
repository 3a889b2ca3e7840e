"""Undoes, or finishes, a release that was interrupted: from its journal, in any process."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from pytest_llmdeploy.config.release import BlueGreenConfig
from pytest_llmdeploy.errors import PlatformError
from pytest_llmdeploy.ports import Fleet
from pytest_llmdeploy.release.convergence import Identity, endpoints_lack
from pytest_llmdeploy.release.journal import Journal, Situation
from pytest_llmdeploy.release.record import RollbackReport
from pytest_llmdeploy.release.rollback import WayBack, roll_back
from pytest_llmdeploy.release.routed import RoutedFleet
from pytest_llmdeploy.release.state import Checks, StepFailedError
from pytest_llmdeploy.release.waiting import patiently
from pytest_llmdeploy.waiting import WaitTimeoutError, wait_until


@dataclass(frozen=True, slots=True)
class Recovery:
    """An interrupted release, and what it takes to end it."""

    situation: Situation
    fleet: Fleet
    config: BlueGreenConfig
    checks: Checks
    journal: Journal

    def undo(self) -> RollbackReport:
        """Bring back what was before the release."""
        release = self.situation.release
        entry = self.fleet.entry().url
        return roll_back(
            WayBack(
                fleet=self.fleet,
                config=self.config,
                snapshot=release["snapshot"],
                old_color=release["old_color"],
                old=Identity(*release["old_identity"]),
                old_image=release["old_image"],
                whole=release["old_whole"],
                moved=self.situation.may_have_switched,
                who_answers=lambda: self.checks.identify(entry),
            ),
            self.journal,
        )

    def keep(self) -> str:
        """Let the new version stay; raise PlatformError where users do not meet it alone, and well.

        Returns what is so in a sentence.
        """
        release = self.situation.release
        new, image = release["new_color"], release["image"]
        color = self.fleet.color()
        if color != new:
            raise PlatformError(
                f"the service leads to {color}, not to {new}: there is nothing to keep; "
                "without --keep-new the former state is brought back"
            )
        if isinstance(self.fleet, RoutedFleet):
            # All that the service's name leads to, the route must lead to as well.
            self.fleet.router.promote(new)
        told: list[str] = []

        def well() -> bool:
            rollout = self.fleet.rollout(new)
            lack = endpoints_lack(self.fleet, new)
            if rollout.complete and lack is None:
                return True
            if rollout.failure is not None:
                raise StepFailedError(rollout.failure)
            told[:] = [lack if rollout.complete and lack else rollout.waiting_for]
            return False

        try:
            wait_until(
                patiently(well, told),
                what=f"{new} should be complete, and alone have the traffic",
                timeout=self.config.converge_timeout,
                setting="blue_green.converge_timeout",
            )
        except StepFailedError as error:
            raise PlatformError(f"{new} is not complete: {error}") from error
        except WaitTimeoutError as error:
            raise PlatformError(f"{error}; last: {told[-1]}") from error
        self.journal.end("kept")
        return f"the service leads to {new}, {image}, as the interrupted release wanted it"


def describe(situation: Situation, fleet: Fleet) -> list[str]:
    """Return what an interrupted release has left, in lines for a person."""
    release: Any = situation.release
    ago = max(time.time() - situation.last, 0.0)
    lines = [
        f"{situation.in_words()}, {ago:.0f} s ago (run {release['run']}, by {release['holder']})",
        f"before it: {release['old_color'] or 'nothing'} had the traffic",
    ]
    color = fleet.color()
    lines.append(f"now: {color or 'nothing'} has the traffic")
    lines += [
        f"  {each}: {image}, {fleet.rollout(each).waiting_for}"
        for each in (release["old_color"], release["new_color"])
        if each is not None and (image := fleet.image(each)) is not None
    ]
    differences = fleet.differences(release["snapshot"])
    lines += [f"differs from before: {difference}" for difference in differences]
    return lines
