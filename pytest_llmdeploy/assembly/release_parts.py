"""What a release works with: its checks, its requests, and who performs it."""

from __future__ import annotations

import getpass
import math
import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_llmdeploy.assembly.fleets import blue_green_config
from pytest_llmdeploy.assembly.targets import check_target, load_target, service_at
from pytest_llmdeploy.checks.exchange import Target
from pytest_llmdeploy.checks.identity import identify, measure_status
from pytest_llmdeploy.checks.measure import measure_health, measure_smoke
from pytest_llmdeploy.checks.smoke import smoke_checks
from pytest_llmdeploy.config.canary import CanaryConfig
from pytest_llmdeploy.config.models import SmokeCheck
from pytest_llmdeploy.config.release import BlueGreenConfig, TrafficConfig
from pytest_llmdeploy.errors import MissingExtraError
from pytest_llmdeploy.events import Measurement
from pytest_llmdeploy.ports import COLOR_HEADER, REFERENCE_VERSION_HEADER, Traffic
from pytest_llmdeploy.release.convergence import Identity
from pytest_llmdeploy.release.state import Checks
from pytest_llmdeploy.verdicts import Verdict

if TYPE_CHECKING:
    from pytest_llmdeploy.config.loader import LoadedConfig

LONGEST_RELEASE = 3600.0
"""Seconds of traffic that a release can have besides its phases; it ends with the release."""


@dataclass(frozen=True, slots=True)
class Stage:
    """What a release sends."""

    traffic: TrafficConfig
    rate: float
    """Arrivals per second."""
    known_duration: float
    """Seconds for which it surely is sent; a protected environment must allow so much."""
    longest: float
    """Seconds for which it can be sent."""

    @classmethod
    def blue_green(cls, config: BlueGreenConfig) -> Stage:
        """Return what a blue/green release sends."""
        rate = _rate(config.traffic, config.watch_duration)
        return cls(config.traffic, rate, config.watch_duration, LONGEST_RELEASE)

    @classmethod
    def canary(
        cls, config: CanaryConfig, blue_green: BlueGreenConfig, *, one_each: bool = False
    ) -> Stage:
        """Return what a canary sends.

        With `one_each` no connection is used twice: where connections are what is split, the
        requests of a kept one are all one version's, and say nothing about the weight.
        """
        traffic = config.traffic or blue_green.traffic
        if one_each:
            clients = traffic.clients
            new = clients.new_connection + clients.keep_alive
            kept = clients.model_copy(update={"keep_alive": 0, "new_connection": new})
            traffic = traffic.model_copy(update={"clients": kept})
        phases = config.phases
        waits = sum(phase.approve is not None for phase in phases) * config.approve_timeout
        longest = LONGEST_RELEASE + waits + sum(phase.longest for phase in phases)
        known = sum(phase.duration for phase in phases)
        return cls(traffic, _rate(traffic, blue_green.watch_duration), known, longest)


def _rate(traffic: TrafficConfig, watch_duration: float) -> float:
    """Return the arrivals per second; where the file gives none, what max_loss needs."""
    # 0 of n lost rules out a share of 3/n at 95 %; a margin, for some fall outside the watch.
    return traffic.rate or math.ceil(3.2 / traffic.max_loss / watch_duration * 10) / 10


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

    def who_with(url: str, headers: Mapping[str, str]) -> Identity:
        return Identity(*identify(target(url), path, headers))

    def warm_up(url: str, timeout: float) -> Measurement:
        return measure_smoke(target(url), SmokeCheck(kind="completion", timeout=timeout))

    return Checks(health, smoke, who, who_with, warm_up)


def release_traffic(
    loaded: LoadedConfig,
    folder: Path,
    url: str,
    *,
    stage: Stage | None = None,
    waiting: Callable[[], None] = lambda: None,
    outcomes: bool = False,
    headers: Mapping[str, str] | None = None,
) -> Traffic | None:
    """Return the requests that prove that a release loses none.

    `stage` says what is sent, and for how long; without it a blue/green release does. `waiting` is
    called while another load run of this machine goes on; with `outcomes` each
    request is told when it has ended; `headers` are sent besides the service's own. Raises
    NotMeasuredError where load may not be put on the address, MissingExtraError.
    """
    try:
        from pytest_llmdeploy.load.background import BackgroundTraffic
        from pytest_llmdeploy.load.guards import check_host, check_limits
        from pytest_llmdeploy.load.plan import read_prompts
        from pytest_llmdeploy.load.spec import Step, Timeouts, TrafficSpec
    except ModuleNotFoundError as error:
        raise MissingExtraError("blue_green", "load", error.name or "zstandard") from None
    stage = stage or Stage.blue_green(blue_green_config(loaded))
    wanted = stage.traffic
    check_host(url, loaded.environment_name, loaded.environment)
    rate = stage.rate
    target = load_target(loaded, service_at(loaded, url))
    header = target.version_header or REFERENCE_VERSION_HEADER
    spec = TrafficSpec(
        targets=(
            replace(
                target,
                version_header=header,
                color_header=COLOR_HEADER if outcomes else None,
                headers={**target.headers, **(headers or {})},
            ),
        ),
        steps=(Step(rate, rate, stage.longest),),
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
    known = replace(spec, steps=(Step(rate, rate, stage.known_duration),))
    limits = check_limits(known, loaded.environment_name, loaded.environment)
    if limits is not None:
        spec = replace(spec, max_tokens_total=limits.tokens)
    return BackgroundTraffic(spec, folder, loaded.root, loaded.redactor, waiting)
