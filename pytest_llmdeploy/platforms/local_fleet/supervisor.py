"""Keep a fleet as its clients want it, for as long as anybody may need it.

Started as ``python -m pytest_llmdeploy.platforms.local_fleet.supervisor`` with a JSON
`SupervisorSpec` on standard input, when the desired state is written already. It lives in a
session of its own and outlives a pytest that is killed, so that another process can finish an
interrupted release. It ends everything on SIGTERM, or when all its owners have ended for long.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path

from pytest_llmdeploy.liveness import Pulse, wait_until_exit
from pytest_llmdeploy.platforms.local_fleet.desired import Desired, DesiredFile, Wanted
from pytest_llmdeploy.platforms.local_fleet.envoy import Envoy
from pytest_llmdeploy.platforms.local_fleet.envoy_files import Routes
from pytest_llmdeploy.platforms.local_fleet.files import write_json
from pytest_llmdeploy.platforms.local_fleet.layout import Layout
from pytest_llmdeploy.platforms.local_fleet.replica import Replica
from pytest_llmdeploy.platforms.local_fleet.spec import SupervisorSpec
from pytest_llmdeploy.platforms.local_fleet.status import FleetStatus
from pytest_llmdeploy.platforms.processes import adopt_orphans, kill_adopted
from pytest_llmdeploy.ports import COLORS
from pytest_llmdeploy.redaction import Redactor

POLL = 0.05
"""Seconds between two looks at the desired state's file."""


class Supervisor:
    """Reconciles the desired state into processes and Envoy's files."""

    def __init__(self, spec: SupervisorSpec) -> None:
        self._spec = spec
        self._layout = Layout(Path(spec.folder))
        self._file = DesiredFile(self._layout.desired)
        self._redact = Redactor(spec.secrets)
        self._stamp: tuple[int, int] | None = None
        self._desired = self._read()
        self._replicas: list[Replica] = []
        self._numbers: dict[tuple[str, int], Iterator[int]] = {}
        self._envoy = Envoy(spec.envoy, self._layout, self._publish)
        self._published: FleetStatus | None = None
        self._wake = asyncio.Event()
        self._stopped = asyncio.Event()
        self._owners = Owners(spec.orphan_timeout, self._stopped)

    async def run(self) -> None:
        """Work until told to stop, then leave nothing behind."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopped.set)
        self._show()
        await self._envoy.start()
        try:
            while not self._stopped.is_set():
                self._owners.know(self._desired.owners)
                self._reconcile()
                self._publish()
                await self._change()
        finally:
            await self._end()

    async def _change(self) -> None:
        """Return when the desired state or a replica has changed, or all is to end."""
        while not self._stopped.is_set():
            if self._wake.is_set():
                self._wake.clear()
                return
            stat = self._layout.desired.stat()
            if (stat.st_ino, stat.st_mtime_ns) != self._stamp:
                self._desired = self._read()
                return
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), POLL)

    def _read(self) -> Desired:
        stat = self._layout.desired.stat()
        self._stamp = stat.st_ino, stat.st_mtime_ns
        desired = self._file.read()
        assert desired is not None
        return desired

    def _reconcile(self) -> None:
        self._replicas = [each for each in self._replicas if not each.task.done()]
        for color in COLORS:
            self._reconcile_color(color, self._desired.colors.get(color))
        self._show()

    def _reconcile_color(self, color: str, wanted: Wanted | None) -> None:
        present = [each for each in self._replicas if each.color == color and not each.removing]
        if wanted is None:
            wanted = Wanted(0, 0)
        current = [each for each in present if each.generation == wanted.generation]
        former = [each for each in present if each.generation != wanted.generation]
        # The ready and the oldest stay.
        for surplus in sorted(current, key=lambda each: not each.ready)[wanted.replicas :]:
            surplus.remove()
        if wanted.replicas and self._desired.templates[wanted.generation].error is None:
            for _ in range(wanted.replicas - len(current)):
                self._replicas.append(self._start(color, wanted.generation))
        if sum(each.ready for each in current) >= wanted.replicas:
            for each in former:
                each.remove()

    def _start(self, color: str, generation: int) -> Replica:
        numbers = self._numbers.setdefault((color, generation), count(1))
        name = f"{self._spec.name}-{color}-{generation}-{next(numbers)}"
        return Replica(
            name=name,
            color=color,
            generation=generation,
            template=self._desired.templates[generation],
            directory=Path(self._spec.directory),
            log=self._layout.replica_log(name),
            redact=self._redact,
            first_back_off=self._spec.first_back_off,
            changed=self._replica_changed,
        )

    def _replica_changed(self) -> None:
        self._show()  # at once: an address that is gone must not wait for anything
        self._publish()
        self._wake.set()

    def _show(self) -> None:
        """Tell Envoy."""
        split = self._desired.split
        ready = [each.status for each in self._replicas if each.ready]
        self._envoy.show(
            Routes(
                weights=self._desired.weights,
                header=None if split is None else split.header,
                named=split is not None,
            ),
            {
                color: [each.port for each in ready if each.color == color and each.port]
                for color in COLORS
            },
        )

    def _publish(self) -> None:
        status = FleetStatus(
            fleet=self._spec.fleet,
            pid=os.getpid(),
            seen=self._desired.version,
            port=self._envoy.port,
            admin_port=self._envoy.admin_port,
            envoy_pid=self._envoy.pid,
            envoy_restarts=self._envoy.restarts,
            replicas=tuple(each.status for each in self._replicas if not each.task.done()),
            routes=self._envoy.routes,
        )
        if status != self._published:
            write_json(self._layout.status, status.to_json())
            self._published = status

    async def _end(self) -> None:
        for replica in self._replicas:
            replica.hurry()
        tasks = [replica.task for replica in self._replicas]
        if tasks:
            await asyncio.wait(tasks, timeout=self._spec.stop_timeout)
        for replica in self._replicas:
            replica.kill()
        if tasks:
            await asyncio.wait(tasks)
        await self._envoy.stop()


class Owners:
    """Watches the processes that use the fleet."""

    def __init__(self, timeout: float, stopped: asyncio.Event) -> None:
        self._timeout = timeout
        self._stopped = stopped
        self._loop = asyncio.get_running_loop()
        self._known: set[int] = set()
        self._living: set[int] = set()
        self._countdown: asyncio.TimerHandle | None = None

    def know(self, pids: tuple[int, ...]) -> None:
        """Watch those that are new."""
        for pid in set(pids) - self._known:
            self._known.add(pid)
            self._living.add(pid)
            threading.Thread(target=self._watch, args=(pid,), daemon=True).start()
        if self._living and self._countdown is not None:
            self._countdown.cancel()
            self._countdown = None

    def _watch(self, pid: int) -> None:
        wait_until_exit(pid)
        self._loop.call_soon_threadsafe(self._ended, pid)

    def _ended(self, pid: int) -> None:
        self._living.discard(pid)
        if not self._living and self._countdown is None:
            print(f"the last owner, {pid}, has ended", flush=True)  # noqa: T201 - our log
            self._countdown = self._loop.call_later(self._timeout, self._stopped.set)


async def supervise(spec: SupervisorSpec) -> None:
    """Run the fleet of `spec`."""
    await Supervisor(spec).run()


def main() -> None:
    """Read the spec and work."""
    spec = SupervisorSpec(**json.load(sys.stdin))
    pulse = Pulse(Layout(Path(spec.folder)).pulse)
    adopt_orphans()
    try:
        asyncio.run(supervise(spec))
    finally:
        kill_adopted()
        pulse.stop()


if __name__ == "__main__":
    main()
