"""Canaries on the same small fleet: its router, and the sources of figures, may fail as well."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from pytest_llmdeploy.assembly.recoveries import take_lock
from pytest_llmdeploy.config.canary import CanaryConfig, one_shift
from pytest_llmdeploy.events import Measurement
from pytest_llmdeploy.metrics.client import ClientSource
from pytest_llmdeploy.platforms.local_fleet.fleet import LocalFleet
from pytest_llmdeploy.ports import Reading, RequestOutcome, Subject, Tally, Traffic
from pytest_llmdeploy.release.canary.state import CanaryState, Figures
from pytest_llmdeploy.release.canary.steps import canary_steps
from pytest_llmdeploy.release.conductor import Conductor
from pytest_llmdeploy.release.journal import Journal, read_entries, situation
from pytest_llmdeploy.release.record import RollbackReport
from pytest_llmdeploy.release.recovery import Recovery
from pytest_llmdeploy.release.routed import RoutedFleet
from pytest_llmdeploy.release.state import Checks, Order, Release
from pytest_llmdeploy.verdicts import Verdict
from tests.release_faults import CONFIG, Calls, Fault, Faulty, Phase, Site, no_fault

BAD = "app:bad"
"""An image of which every second answer is a failure."""
LATE = "app:late"
"""An image whose answers are failures while there is a file `spoilt`."""
CANARY = """
canary:
  phases:
    - {weight: 40, duration: 0.3, max_duration: 30}
    - {weight: 100, duration: 0.3, max_duration: 30}
  sample_interval: 0.25
  look_interval: 0.1
  sla: {error_rate: 0.3, latency_p95: null, cpu_usage: null, memory_usage: null, points: 1}
  compare: {error_rate: 0.4, latency_p95: null, min_requests: 10}
  warm_up: {requests: 1}
  converge_timeout: 5
  split_tolerance: 0.3
"""
CANARY_CONFIG = (
    CONFIG.replace(
        '      "app:3"',
        '      "app:bad": {variables: {VERSION: "bad", FAIL_EVERY: "2"}}\n'
        '      "app:late": {variables: {VERSION: "late", FAIL_WHILE: spoilt}}\n      "app:3"',
    )
    + CANARY
)


class Blind:
    """A source of figures that offers all, and cannot tell anything."""

    name = "prometheus"

    def __init__(self, error: Exception) -> None:
        self.error = error

    def offers(self, signal: str) -> bool:
        return True

    def look(self, subjects: Sequence[Subject]) -> None:
        pass

    def read(self, signal: str, subject: Subject, since: float, until: float) -> Reading:
        raise self.error

    def tally(self, subject: Subject, since: float, until: float) -> Tally:
        raise self.error

    def close(self) -> None:
        raise self.error


class CanarySite(Site):
    """A fleet, and canaries of its service."""

    @property
    def checks(self) -> Checks:
        warm = Measurement(Verdict.PASS, "it answers")
        return replace(super().checks, warm_up=lambda _url, _timeout: warm)

    def routed(self) -> RoutedFleet:
        """Return fleet and router as another process has them."""
        return RoutedFleet(self.fleet, self.fleet.router(self.canary_config()))

    def canary_config(self, **settings: Any) -> CanaryConfig:
        assert self.loaded.canary is not None
        return CanaryConfig.model_validate(self.loaded.canary.model_dump() | settings)

    def release(
        self,
        fault: Fault = no_fault,
        *,
        holder: str = "tester@here:1",
        image: str | None = None,
        fleet: LocalFleet | None = None,
        traffic: Callable[[Path, str], Traffic | None] | None = None,
        canary: Mapping[str, Any] | None = None,
        weight: int | None = None,
        source: Any = None,
        router: Callable[[Any], Any] = lambda router: router,
        approved: str = "",
        **settings: Any,
    ) -> tuple[Conductor, Release, Calls]:
        """Return a canary; with `weight` one shift. `source` is asked before the client's own."""
        config = self.canary_config(**(canary or {}))
        if weight is not None:
            config = one_shift(config, weight, 0.3)
            patient = config.phases[0].model_copy(update={"max_duration": 30.0})
            config = config.model_copy(update={"phases": (patient,)})
        steps = canary_steps(config, one_shift=weight is not None)
        phase, calls = Phase(tuple(steps)), Calls()

        def hears(method: str, when: str) -> None:
            if when == "before":
                calls.append((str(phase), method))
            fault(str(phase), method, when)

        platform = fleet or self.fleet
        wrapped: Any = Faulty(platform, hears)
        split: Any = Faulty(router(platform.router(config)), hears, "router.")
        routed = RoutedFleet(wrapped, split)
        self.made += 1
        folder = self.folder / f"release-{self.made}"

        def figures(drain: Callable[[], Sequence[RequestOutcome]]) -> Figures:
            own = ClientSource(drain)
            return Figures([own] if source is None else [source], own)

        release = Release(
            order=Order("app", "local", image or self.next_image(), "run", holder),
            config=self.config(settings),
            fleet=routed,
            checks=self.checks,
            traffic_to=partial(traffic or self._traffic, folder),
            journal=Journal(folder / "journal.jsonl", routed.journal),
            on_action=phase.on_action,
            canary=CanaryState(
                config=config,
                router=routed.router,
                make_figures=figures,
                folder=folder,
                control=folder / "control",
                approved=lambda: approved,
                one_shift=weight is not None,
            ),
        )
        return Conductor(release, steps, phase.on_step), release, calls

    def whole_state(self) -> dict[str, Any]:
        """Return the state of fleet and route, once all is at rest."""
        self.state()
        return dict(self.routed().snapshot())

    def undo(self, journal: Path) -> RollbackReport:
        """Take back what is left, as ``llmdeploy rollback`` does it."""
        found = situation(read_entries(journal))
        assert found is not None
        assert found.is_open
        fleet = self.routed()
        take_lock(fleet, take_over=True)
        again = Journal(journal, fleet.journal)
        report = Recovery(found, fleet, self.config({}), self.checks, again).undo()
        if report.succeeded:
            fleet.lock.release()
        return report


CHILD = """
import sys
from pathlib import Path
from tests.canary_faults import die
die(Path(sys.argv[1]), *sys.argv[2:])
"""


def die(folder: Path, phase: str, method: str, when: str, image: str, number: str) -> None:
    """Release in this process, which is killed at one call."""
    from pytest_llmdeploy.config.loader import load_config
    from pytest_llmdeploy.release import prepare
    from pytest_llmdeploy.release.canary import judge

    prepare.BASELINE_DURATION, prepare.FEWEST_BASELINE, judge.SPLIT_ALPHA = 0.1, 3, 1e-9

    def kill(*call: str) -> None:
        if call == (phase, method, when):
            os.kill(os.getpid(), signal.SIGKILL)

    loaded = load_config(folder / "llmdeploy.yaml", "local")
    site = CanarySite(folder, CanarySite.client_of(loaded, folder), loaded, int(number))
    done = site.perform(kill, holder=f"child@here:{os.getpid()}", image=image)
    raise AssertionError(done.failed)


def kill_in_child(
    site: CanarySite, phase: str, method: str, when: str, image: str | None = None
) -> Path:
    """Have a process of its own release, and killed at one call; return its journal."""
    image = image or site.next_image()
    arguments = [str(site.folder), phase, method, when, image, str(site.made)]
    site.made += 1
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stdout
    return site.folder / f"release-{site.made}" / "journal.jsonl"
