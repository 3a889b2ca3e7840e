"""``platform: local``: the service as a process on this machine, one for the whole run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

from filelock import FileLock

from pytest_llmdeploy.config.models import EnvironmentConfig, ServiceConfig
from pytest_llmdeploy.errors import PlatformError
from pytest_llmdeploy.liveness import is_alive
from pytest_llmdeploy.platforms.guardian import GuardianSpec
from pytest_llmdeploy.platforms.processes import (
    PYTHON,
    REFERENCE_COMMAND,
    command_at,
    free_port,
    last_lines,
    reference_variables,
)
from pytest_llmdeploy.ports import ENGINE_HEADER, REFERENCE_VERSION_HEADER, SCRIPTED, Service
from pytest_llmdeploy.redaction import Redactor
from pytest_llmdeploy.untrusted import one_line
from pytest_llmdeploy.waiting import WaitTimeoutError, wait_until

LOG_LINES_SHOWN = 20
LOCK_MARGIN = 30.0
"""Seconds beyond ready_timeout after which waiting for another worker's start is given up."""


class LocalPlatform:
    """Starts the process when first asked, once for all workers of a run.

    Files below `folder`: ``NAME.log`` (output of the service), ``NAME.json`` (how the start
    ended, for the other workers), ``NAME.pulse`` (held by the guardian while anything runs).
    """

    def __init__(
        self,
        *,
        name: str,
        environment: EnvironmentConfig,
        service: ServiceConfig,
        root: Path,
        folder: Path,
        owner: int,
        redact: Redactor,
    ) -> None:
        self._environment = environment
        self._service = service
        self._root = root
        self._folder = folder
        self._owner = owner
        self._redact = redact
        self._base = folder / name
        self._started: Service | None = None
        self._last = "no answer"
        """What came back when it was last asked whether it is ready."""

    def _file(self, suffix: str) -> Path:
        return self._base.with_name(f"{self._base.name}.{suffix}")

    def service(self) -> Service:
        """Return the running service; the first caller of the run starts it.

        Raises PlatformError when it cannot be started, or has ended by itself since.
        """
        if self._started is not None and (ended := self._ended()) is not None:
            raise self._failure(f"the service has ended during the run: {ended}")
        if self._started is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            with FileLock(
                self._file("lock"), timeout=self._environment.ready_timeout + LOCK_MARGIN
            ):
                self._started = self._join() or self._start()
        return self._started

    def _join(self) -> Service | None:
        """Return what another process of the run started, or raise what it met."""
        try:
            state: dict[str, Any] = json.loads(self._file("json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        if "error" in state:
            raise PlatformError(state["error"])
        return Service(**state)

    def _start(self) -> Service:
        port = free_port()
        command = command_at(self._environment.command or REFERENCE_COMMAND, port)
        guardian = self._launch(command)
        path = self._environment.ready_path
        try:
            version, engine = wait_until(
                lambda: self._ready(port, guardian),
                what=f"the service should answer 200 on {path} (ready_path)",
                timeout=self._environment.ready_timeout,
                setting="ready_timeout",
            )
        except BaseException as error:  # Ctrl-C too: nothing may be left running
            guardian.terminate()
            guardian.wait()
            if isinstance(error, PlatformError):
                raise self._failure(f"the service ended before it was ready: {error}") from error
            if isinstance(error, WaitTimeoutError):
                raise self._failure(f"{error}; last: {self._last}") from error
            raise
        guardian.returncode = 0  # it outlives us by design: Popen must not warn of that
        url = f"http://127.0.0.1:{port}"
        started = Service(
            url=url,
            api_url=url + self._service.base_path,
            version=version,
            log_path=str(self._file("log")),
            scripted=engine == SCRIPTED,
        )
        self._file("json").write_text(json.dumps(asdict(started)), encoding="utf-8")
        return started

    def _launch(self, command: list[str]) -> subprocess.Popen[bytes]:
        variables = {**os.environ, "PYTHONUNBUFFERED": "1", **self._environment.variables}
        if self._environment.reference is not None:
            variables |= reference_variables(self._environment.reference)
        spec = GuardianSpec(
            command=command,
            variables=variables,
            directory=str(self._root),
            log=str(self._file("log")),
            owner=self._owner,
            own_pulse=str(self._file("pulse")),
            exit_file=str(self._file("exit")),
            stop_timeout=self._environment.stop_timeout,
            secrets=list(self._redact.secrets),
        )
        with self._file("log").open("ab") as log:
            guardian = subprocess.Popen(
                [*PYTHON, "pytest_llmdeploy.platforms.guardian"],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )
        assert guardian.stdin is not None
        with guardian.stdin as stdin:
            stdin.write(spec.to_json().encode())
        return guardian

    def _ready(
        self, port: int, guardian: subprocess.Popen[bytes]
    ) -> tuple[str | None, str | None] | None:
        """Return the version and the engine that a ready service names; None while not ready."""
        import httpx

        if (ended := self._ended()) is not None:
            raise PlatformError(ended)
        if guardian.poll() is not None and self._ended() is None:
            raise PlatformError(f"its guardian process ended with code {guardian.returncode}")
        address = f"http://127.0.0.1:{port}{self._environment.ready_path}"
        try:
            answer = httpx.get(address, timeout=2.0, trust_env=False)
        except httpx.HTTPError as error:
            self._last = str(error) or type(error).__name__
            return None
        if answer.status_code != httpx.codes.OK:
            self._last = f"HTTP {answer.status_code}"
            return None
        ours = REFERENCE_VERSION_HEADER if self._environment.reference is not None else ""
        version = answer.headers.get(self._service.version_header or ours)
        return version, answer.headers.get(ENGINE_HEADER)

    def _ended(self) -> str | None:
        """Return how the process ended; None while it runs."""
        try:
            return _how_it_ended(json.loads(self._file("exit").read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None

    def _failure(self, what: str) -> PlatformError:
        """Write down for the other workers what happened, and return it as an error."""
        log = self._file("log")
        lines = [one_line(line) for line in last_lines(log, LOG_LINES_SHOWN)]
        shown = "\n".join(f"  | {line}" for line in lines) or "  | (it printed nothing)"
        text = self._redact(f"{what}\nits last lines, from {log}:\n{shown}")
        self._file("json").write_text(json.dumps({"error": text}), encoding="utf-8")
        return PlatformError(text)


def stop_all(folder: Path, timeout: float) -> list[Path]:
    """End every guardian below `folder`; return the pulses still held after `timeout` seconds."""
    pulses = [pulse for pulse in folder.glob("*.pulse") if is_alive(pulse)]
    for pulse in pulses:
        try:
            os.kill(int(pulse.read_text()), signal.SIGTERM)
        except (ProcessLookupError, ValueError):
            continue
    try:
        wait_until(
            lambda: not any(map(is_alive, pulses)),
            what="the started services should end",
            timeout=timeout,
            setting="stop_timeout",
        )
    except WaitTimeoutError:
        return [pulse for pulse in pulses if is_alive(pulse)]
    return []


def _how_it_ended(state: dict[str, Any]) -> str:
    if "error" in state:
        return f"it could not be started: {state['error']}"
    code = state["exit"]
    if code < 0:
        return f"it was ended by signal {signal.Signals(-code).name}"
    return f"it ended with exit code {code}"
