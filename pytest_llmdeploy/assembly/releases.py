"""Plugs a release together: fleet, checks, traffic, journal, audit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from pytest_llmdeploy.assembly.canaries import (
    Ask,
    canary_config,
    canary_image,
    canary_state,
    check_canary,
    drill_config,
    edit_route,
    routed_fleet,
)
from pytest_llmdeploy.assembly.fleets import (
    blue_green_config,
    ends_with_run,
    make_fleet,
    service_name,
    sweep_clusters,
)
from pytest_llmdeploy.assembly.release_parts import Stage, holder, release_checks, release_traffic
from pytest_llmdeploy.assembly.targets import digest
from pytest_llmdeploy.config.canary import CanaryConfig
from pytest_llmdeploy.config.release import BlueGreenConfig
from pytest_llmdeploy.errors import NotBegunError, NotMeasuredError, PlatformError
from pytest_llmdeploy.events import Measurement
from pytest_llmdeploy.liveness import Pulse
from pytest_llmdeploy.redaction import Redactor
from pytest_llmdeploy.release.blue_green import STEPS
from pytest_llmdeploy.release.canary.steps import canary_steps
from pytest_llmdeploy.release.conductor import Conductor, KeepEvidence
from pytest_llmdeploy.release.drills import DRILLS, ROLLOUT_TIMEOUT, judge_drill
from pytest_llmdeploy.release.evidence import keep_evidence
from pytest_llmdeploy.release.journal import Journal
from pytest_llmdeploy.release.record import ReleaseResult, StepRecord
from pytest_llmdeploy.release.run import JOURNAL, PULSE, ReleaseRun, write_result
from pytest_llmdeploy.release.state import Act, Order, Release
from pytest_llmdeploy.release.waiting import AbortedError, Patience

if TYPE_CHECKING:
    from pytest_llmdeploy.config.loader import LoadedConfig
    from pytest_llmdeploy.ports import Fleet, RoutableFleet, Router
    from pytest_llmdeploy.run import Run

BLUE_GREEN, CANARY = "blue_green", "canary"
RECORDS = (BLUE_GREEN, CANARY)
"""Folders of a run's records in which releases have theirs."""


def check_rehearsal(loaded: LoadedConfig, what: str) -> None:
    """Raise NotMeasuredError where faults must not, or cannot, be planted."""
    where, environment = loaded.environment_name, loaded.environment
    if environment.protected or (environment.reference is None and environment.kind is None):
        raise NotMeasuredError(
            f"{what} faults into the reference service: "
            f"the environment '{where}' is protected, or runs something else"
        )


class Releases:
    """The releases that this process can perform, one of each kind per file."""

    def __init__(
        self,
        run: Run,
        waiting: Callable[[], Callable[[Callable[[], str]], None]],
        ask: Ask | None = None,
    ) -> None:
        """`ask` asks a gate's cases at an address; without it a canary compares no answers."""
        self._run = run
        self._waiting = waiting
        self._ask = ask
        self._runs: dict[tuple[Path, str], ReleaseRun] = {}
        self._fleets: dict[Path, RoutableFleet] = {}
        self._numbers = count(1)

    def fleet(self, loaded: LoadedConfig) -> RoutableFleet:
        """Return the fleet of the file's environment."""
        if loaded.path not in self._fleets:
            if loaded.environment.platform == "kind":
                sweep_clusters()
            self._fleets[loaded.path] = make_fleet(
                loaded,
                self._run.prepare(),
                self._run.owner,
                self._run.id,
                keep=self._run.keep,
            )
        return self._fleets[loaded.path]

    def run(self, loaded: LoadedConfig, stage: str) -> ReleaseRun:
        """Return the file's release of a kind; raise NotBegunError where no image is given."""
        image = canary_image(loaded, self._run) if stage == CANARY else self._run.image
        if image is None:
            raise NotBegunError("which version? Give it: --llmdeploy-image REF")
        key = (loaded.path, stage)
        if key not in self._runs:
            folder = self._folder(loaded, stage)
            keep = partial(keep_evidence, self._run.output / "evidence", stage)

            def prepare(on_step: Callable[[StepRecord], None]) -> Conductor:
                if stage == CANARY:
                    made = self._canary(loaded, image, folder, keep, on_step)
                else:
                    release = self.release(loaded, image, folder)
                    made = self._made(release, STEPS, keep, on_step)
                made.between(self._end_when_announced)
                return made

            self._runs[key] = ReleaseRun(
                folder,
                self._turn(),
                prepare,
                lambda line: self._waiting()(line),  # noqa: PLW0108 - it is set later
                stage,
            )
        return self._runs[key]

    def canary_config(self, loaded: LoadedConfig) -> CanaryConfig:
        """Return the section, with the one shift that the run is to make."""
        return canary_config(loaded, self._run)

    def canary_steps(self, loaded: LoadedConfig) -> Mapping[str, Act]:
        """Return the steps of the file's canary."""
        return canary_steps(self.canary_config(loaded), one_shift=self._run.weight is not None)

    def _canary(
        self,
        loaded: LoadedConfig,
        image: str,
        folder: Path,
        keep: KeepEvidence,
        on_step: Callable[[StepRecord], None],
    ) -> Conductor:
        release = self.canary(loaded, image, folder)
        return self._made(release, self.canary_steps(loaded), keep, on_step)

    def canary(
        self,
        loaded: LoadedConfig,
        image: str,
        folder: Path,
        *,
        variables: Mapping[str, str] | None = None,
        config: BlueGreenConfig | None = None,
        canary: CanaryConfig | None = None,
        through: Callable[[Router], Router] = lambda router: router,
    ) -> Release:
        """Return a canary of `image`, ready to be performed; its traces go below `folder`."""
        canary = canary or self.canary_config(loaded)
        check_canary(loaded)
        platform = self.fleet(loaded)
        fleet = routed_fleet(loaded, platform, through)
        release = self.release(
            loaded, image, folder, variables=variables, config=config, fleet=fleet
        )
        stage = Stage.canary(canary, release.config, one_each=fleet.router.splits_connections)
        release.traffic_to = partial(
            release_traffic,
            loaded,
            folder,
            stage=stage,
            waiting=release.patience.check,
            outcomes=True,
        )
        release.canary = canary_state(
            loaded,
            fleet,
            platform,
            folder,
            config=canary,
            one_shift=self._run.weight is not None,
            ask=self._ask,
        )
        return release

    def rehearse(
        self,
        loaded: LoadedConfig,
        name: str,
        *,
        variables: Mapping[str, str],
        config: BlueGreenConfig,
        canary: CanaryConfig,
        through: Callable[[Router], Router],
    ) -> tuple[ReleaseResult, Path]:
        """Perform a canary of the running image with a fault; return the result, and its folder.

        What is promoted is taken back. Raises NotMeasuredError where the environment is not for it.
        """
        check_rehearsal(loaded, "a calibration plants")
        folder = self._folder(loaded, CANARY).with_name(f"calibrate-{name}")
        release = self.canary(
            loaded,
            loaded.environment.stable_image,
            folder,
            variables=variables,
            config=config,
            canary=canary,
            through=through,
        )
        steps = canary_steps(canary)
        return self._perform(release, steps, folder, name, take_back=True), folder

    def drill(self, loaded: LoadedConfig, name: str) -> Measurement:
        """Perform a rollback drill; raise NotMeasuredError where the environment is not for it."""
        drill = DRILLS[name]
        environment = loaded.environment
        check_rehearsal(loaded, "drills plant")
        config = blue_green_config(loaded)
        timeout = min(config.rollout_timeout, ROLLOUT_TIMEOUT)
        config = config.model_copy(update={"rollout_timeout": timeout})
        folder = self._folder(loaded, CANARY if drill.canary else BLUE_GREEN)
        folder = folder.with_name(f"drill-{name}")
        image = drill.image or environment.stable_image
        steps, between = STEPS, None
        if drill.canary:
            canary = drill_config(canary_config(loaded), drill)
            release = self.canary(
                loaded, image, folder, variables=drill.variables, config=config, canary=canary
            )
            steps = canary_steps(canary)
            if drill.edits_route:
                between = partial(edit_route, self.fleet(loaded).router(canary), release)
        else:
            release = self.release(loaded, image, folder, variables=drill.variables, config=config)
        result = self._perform(
            release, steps, folder, f"drill {name}", take_back=True, between=between
        )
        verdict, reason = judge_drill(drill, result)
        return Measurement(verdict, reason, {"release": result.to_json()})

    def deploy(self, loaded: LoadedConfig, image: str) -> ReleaseResult:
        """Release `image` and return what became of it; a failed release has been rolled back."""
        number = next(self._numbers)
        worker = self._run.worker or "main"
        folder = self._folder(loaded, BLUE_GREEN).with_name(f"deploy-{worker}-{number}")
        return self._perform(self.release(loaded, image, folder), STEPS, folder, BLUE_GREEN)

    def deploy_canary(self, loaded: LoadedConfig, image: str) -> ReleaseResult:
        """Release `image` by a canary and return what became of it, as `deploy` does."""
        number = next(self._numbers)
        worker = self._run.worker or "main"
        folder = self._folder(loaded, CANARY).with_name(f"deploy-{worker}-{number}")
        steps = self.canary_steps(loaded)
        return self._perform(self.canary(loaded, image, folder), steps, folder, CANARY)

    def _perform(
        self,
        release: Release,
        steps: Mapping[str, Act],
        folder: Path,
        what: str,
        *,
        take_back: bool = False,
        between: Callable[[], None] | None = None,
    ) -> ReleaseResult:
        """Perform a release here and now; one that should not have passed is taken back.

        `between` is called while the release waits, again and again.
        """
        keep = partial(keep_evidence, self._run.output / "evidence", folder.name)
        performed = self._made(release, steps, keep)

        def tell() -> None:
            if between is not None:
                between()
            self._waiting()(lambda: f"{what}: {performed.now_doing}")

        performed.between(tell)
        with self._turn():
            held = Pulse(folder / PULSE)
            try:
                result = performed.run()
                if take_back and result.success:
                    result = replace(result, success=False, rollback=performed.take_back())
            finally:
                held.stop()
        write_result(folder, result)
        return result

    def _end_when_announced(self) -> None:
        """End a worker's release with the run: the worker itself may have no item to wait in."""
        if self._run.worker is not None and self._run.end_announced():
            raise AbortedError("the run was interrupted")

    def _turn(self) -> FileLock:
        """Return what one release at a time holds, over all processes of the run."""
        return FileLock(self._run.prepare() / "releases.lock")

    def _folder(self, loaded: LoadedConfig, stage: str) -> Path:
        name = f"{loaded.environment_name}-{digest(loaded)}"
        return self._run.prepare() / "records" / stage / name

    def release(
        self,
        loaded: LoadedConfig,
        image: str,
        folder: Path,
        *,
        variables: Mapping[str, str] | None = None,
        config: BlueGreenConfig | None = None,
        fleet: Fleet | None = None,
    ) -> Release:
        """Return a release of `image`, ready to be performed; its traces go below `folder`."""
        config = config or blue_green_config(loaded)
        fleet = fleet or self.fleet(loaded)
        order = Order(
            service=service_name(loaded),
            environment=loaded.environment_name,
            image=image,
            run_id=self._run.id,
            holder=holder(),
            origin={"config": str(loaded.path.absolute()), "output": str(self._run.output)},
            variables=variables or {},
            ends_with_run=not self._run.keep and ends_with_run(loaded),
        )
        patience = Patience()
        return Release(
            order=order,
            config=config,
            fleet=fleet,
            checks=release_checks(loaded),
            traffic_to=partial(release_traffic, loaded, folder, waiting=patience.check),
            journal=Journal(folder / JOURNAL, fleet.journal),
            on_action=partial(self._audit, order, loaded.redactor),
            patience=patience,
        )

    @staticmethod
    def _made(
        release: Release,
        steps: Mapping[str, Act],
        keep: KeepEvidence,
        on_step: Callable[[StepRecord], None] = lambda _record: None,
    ) -> Conductor:
        """Return what performs the release; its verdicts go into the audit trail."""

        def tell(record: StepRecord) -> None:
            on_step(record)  # first: items wait for it
            if not record.skipped:
                told = {"step": record.name, "verdict": str(record.verdict)}
                digests = record.detail.get("digests")
                more = {"digests": digests} if digests else {}
                release.on_action("verdict", {**told, "reason": record.reason, **more})

        return Conductor(release, steps, tell, keep)

    def _audit(
        self, order: Order, redact: Redactor, action: str, detail: Mapping[str, Any]
    ) -> None:
        from pytest_llmdeploy.reports.audit import AUDIT, append

        entry = {
            "event": action,
            "who": order.holder,
            "service": order.service,
            "environment": order.environment,
            "image": order.image,
            "detail": redact.deep(dict(detail)),
        }
        try:
            append(self._run.prepare() / AUDIT, entry)
        except OSError as error:
            raise PlatformError(f"the audit trail cannot be written: {error}") from error

    def close(self) -> list[str]:
        """End releases that are under way, by a rollback; return what has to be said about them."""
        said = [line for run in self._runs.values() for line in run.close()]
        for fleet in self._fleets.values():
            fleet.close()
        return said
