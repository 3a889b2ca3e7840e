"""Plugs a release together: fleet, checks, traffic, journal, audit."""

from __future__ import annotations

import getpass
import math
import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from pytest_llmdeploy.assembly.fleets import (
    blue_green_config,
    make_fleet,
    service_name,
    sweep_clusters,
)
from pytest_llmdeploy.assembly.targets import check_target, digest, load_target, service_at
from pytest_llmdeploy.checks.exchange import Target
from pytest_llmdeploy.checks.identity import identify, measure_status
from pytest_llmdeploy.checks.measure import measure_health, measure_smoke
from pytest_llmdeploy.checks.smoke import smoke_checks
from pytest_llmdeploy.config.release import BlueGreenConfig
from pytest_llmdeploy.errors import (
    MissingExtraError,
    NotBegunError,
    NotMeasuredError,
    PlatformError,
)
from pytest_llmdeploy.events import Measurement
from pytest_llmdeploy.liveness import Pulse
from pytest_llmdeploy.ports import REFERENCE_VERSION_HEADER, Traffic
from pytest_llmdeploy.redaction import Redactor
from pytest_llmdeploy.release.blue_green import BlueGreen, KeepEvidence
from pytest_llmdeploy.release.convergence import Identity
from pytest_llmdeploy.release.drills import DRILLS, ROLLOUT_TIMEOUT, judge_drill
from pytest_llmdeploy.release.evidence import keep_evidence
from pytest_llmdeploy.release.journal import Journal
from pytest_llmdeploy.release.record import ReleaseResult, StepRecord
from pytest_llmdeploy.release.run import JOURNAL, PULSE, ReleaseRun, write_result
from pytest_llmdeploy.release.state import Checks, Order, Release
from pytest_llmdeploy.release.waiting import AbortedError, Patience
from pytest_llmdeploy.verdicts import Verdict

if TYPE_CHECKING:
    from pytest_llmdeploy.config.loader import LoadedConfig
    from pytest_llmdeploy.ports import Fleet
    from pytest_llmdeploy.run import Run

LONGEST_RELEASE = 3600.0
"""Seconds of traffic that a release can have; it is ended when the release ends."""
RECORDS = "blue_green"


def holder() -> str:
    """Return who releases from this process: ``user@host:pid``."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}:{os.getpid()}"


def release_checks(loaded: LoadedConfig) -> Checks:
    """Return what is asked of replicas and of the service's entry."""
    path = blue_green_config(loaded).liveness.path

    def target(url: str) -> Target:
        return check_target(loaded, service_at(loaded, url))

    def health(url: str) -> list[tuple[str, Measurement]]:
        found = []
        for check in loaded.health.checks:
            measured = measure_health(target(url), check)
            found.append((check.name, measured))
            if check.path == path and measured.verdict is Verdict.PASS:
                status = measure_status(target(url), check)
                found += [(f"{check.name}-status", status)] if status else []
        return found

    def smoke(url: str) -> list[tuple[str, Measurement]]:
        return [
            (check.title, measure_smoke(target(url), check))
            for check in smoke_checks(loaded.smoke, loaded.service, url)
        ]

    def who(url: str) -> Identity:
        return Identity(*identify(target(url), path))

    return Checks(health, smoke, who)


class Releases:
    """The releases that this process can perform, one per file."""

    def __init__(
        self, run: Run, waiting: Callable[[], Callable[[Callable[[], str]], None]]
    ) -> None:
        self._run = run
        self._waiting = waiting
        self._runs: dict[Path, ReleaseRun] = {}
        self._fleets: dict[Path, Fleet] = {}
        self._numbers = count(1)

    def fleet(self, loaded: LoadedConfig) -> Fleet:
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

    def run(self, loaded: LoadedConfig) -> ReleaseRun:
        """Return the release of the run's image; raise NotBegunError where none is given."""
        if self._run.image is None:
            raise NotBegunError("which version? Give it: --llmdeploy-image REF")
        if loaded.path not in self._runs:
            folder = self._folder(loaded)
            image = self._run.image
            keep = partial(keep_evidence, self._run.output / "evidence", RECORDS)

            def prepare(on_step: Callable[[StepRecord], None]) -> BlueGreen:
                made = self._made(self.release(loaded, image, folder), keep, on_step)
                made.between(self._end_when_announced)
                return made

            self._runs[loaded.path] = ReleaseRun(
                folder,
                self._turn(),
                prepare,
                lambda line: self._waiting()(line),  # noqa: PLW0108 - it is set later
            )
        return self._runs[loaded.path]

    def drill(self, loaded: LoadedConfig, name: str) -> Measurement:
        """Perform a rollback drill; raise NotMeasuredError where the environment is not for it."""
        drill = DRILLS[name]
        where, environment = loaded.environment_name, loaded.environment
        if environment.protected or (environment.reference is None and environment.kind is None):
            raise NotMeasuredError(
                "drills plant faults into the reference service: "
                f"the environment '{where}' is protected, or runs something else"
            )
        config = blue_green_config(loaded)
        timeout = min(config.rollout_timeout, ROLLOUT_TIMEOUT)
        folder = self._folder(loaded).with_name(f"drill-{name}")
        release = self.release(
            loaded,
            drill.image or environment.stable_image,
            folder,
            variables=drill.variables,
            config=config.model_copy(update={"rollout_timeout": timeout}),
        )
        result = self._perform(release, folder, f"drill {name}", take_back=True)
        verdict, reason = judge_drill(drill, result)
        return Measurement(verdict, reason, {"release": result.to_json()})

    def deploy(self, loaded: LoadedConfig, image: str) -> ReleaseResult:
        """Release `image` and return what became of it; a failed release has been rolled back."""
        number = next(self._numbers)
        folder = self._folder(loaded).with_name(f"deploy-{self._run.worker or 'main'}-{number}")
        return self._perform(self.release(loaded, image, folder), folder, "blue_green")

    def _perform(
        self, release: Release, folder: Path, what: str, *, take_back: bool = False
    ) -> ReleaseResult:
        """Perform a release here and now; one that should not have passed is taken back."""
        keep = partial(keep_evidence, self._run.output / "evidence", folder.name)
        performed = self._made(release, keep)
        performed.between(lambda: self._waiting()(lambda: f"{what}: {performed.now_doing}"))
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

    def _folder(self, loaded: LoadedConfig) -> Path:
        name = f"{loaded.environment_name}-{digest(loaded)}"
        return self._run.prepare() / "records" / RECORDS / name

    def release(
        self,
        loaded: LoadedConfig,
        image: str,
        folder: Path,
        *,
        variables: Mapping[str, str] | None = None,
        config: BlueGreenConfig | None = None,
    ) -> Release:
        """Return a release of `image`, ready to be performed; its traces go below `folder`."""
        config = config or blue_green_config(loaded)
        fleet = self.fleet(loaded)
        order = Order(
            service=service_name(loaded),
            environment=loaded.environment_name,
            image=image,
            run_id=self._run.id,
            holder=holder(),
            origin={"config": str(loaded.path.absolute()), "output": str(self._run.output)},
            variables=variables or {},
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
        keep: KeepEvidence,
        on_step: Callable[[StepRecord], None] = lambda _record: None,
    ) -> BlueGreen:
        """Return what performs the release; its verdicts go into the audit trail."""

        def tell(record: StepRecord) -> None:
            on_step(record)  # first: items wait for it
            if not record.skipped:
                told = {"step": record.name, "verdict": str(record.verdict)}
                digests = record.detail.get("digests")
                more = {"digests": digests} if digests else {}
                release.on_action("verdict", {**told, "reason": record.reason, **more})

        return BlueGreen(release, tell, keep)

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


def release_traffic(
    loaded: LoadedConfig,
    folder: Path,
    url: str,
    *,
    waiting: Callable[[], None] = lambda: None,
    outcomes: bool = False,
    headers: Mapping[str, str] | None = None,
    color_header: str | None = None,
) -> Traffic | None:
    """Return the requests that prove that a release loses none.

    `waiting` is called while another load run of this machine goes on; with `outcomes` each
    request is told when it has ended; `headers` are sent besides the service's own, and
    `color_header` is where what splits the traffic names its choice. Raises NotMeasuredError
    where load may not be put on the address, MissingExtraError.
    """
    try:
        from pytest_llmdeploy.load.background import BackgroundTraffic
        from pytest_llmdeploy.load.guards import check_host, check_limits
        from pytest_llmdeploy.load.plan import read_prompts
        from pytest_llmdeploy.load.spec import Step, Timeouts, TrafficSpec
    except ModuleNotFoundError as error:
        raise MissingExtraError("blue_green", "load", error.name or "zstandard") from None
    config = blue_green_config(loaded)
    wanted = config.traffic
    check_host(url, loaded.environment_name, loaded.environment)
    # 0 of n lost rules out a share of 3/n at 95 %; a margin, for some fall outside the watch.
    rate = wanted.rate or math.ceil(3.2 / wanted.max_loss / config.watch_duration * 10) / 10
    target = load_target(loaded, service_at(loaded, url))
    header = target.version_header or REFERENCE_VERSION_HEADER
    spec = TrafficSpec(
        targets=(
            replace(
                target,
                version_header=header,
                color_header=color_header,
                headers={**target.headers, **(headers or {})},
            ),
        ),
        steps=(Step(rate, rate, LONGEST_RELEASE),),
        arrivals="constant",
        seed=wanted.seed,
        prompts=read_prompts(wanted.prompts, loaded.root),
        words=wanted.prompts.words,
        shared_prefix=wanted.prompts.shared_prefix,
        output_tokens=(1, wanted.max_tokens),
        long_stream_tokens=wanted.long_stream_tokens,
        parameters=wanted.parameters,
        streamed=wanted.streamed,
        clients={name: weight for name, weight in wanted.clients if weight},
        timeouts=Timeouts(
            connect=min(10.0, wanted.timeout),
            first_token=wanted.timeout,
            idle=wanted.timeout,
            total=wanted.timeout,
        ),
        drain=wanted.timeout,
        outcomes=outcomes,
    )
    # What is sent beyond the watch depends on the platform; the part that is known must be allowed.
    known = replace(spec, steps=(Step(rate, rate, config.watch_duration),))
    limits = check_limits(known, loaded.environment_name, loaded.environment)
    if limits is not None:
        spec = replace(spec, max_tokens_total=limits.tokens)
    return BackgroundTraffic(spec, folder, loaded.root, loaded.redactor, waiting)
