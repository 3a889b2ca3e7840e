"""One replica: its process, its probes, its restarts, and its end."""

from __future__ import annotations

import asyncio
import os
import signal
from asyncio.subprocess import STDOUT, Process
from collections.abc import Callable, Coroutine
from pathlib import Path
from subprocess import DEVNULL
from typing import Any

from pytest_llmdeploy.platforms.local_fleet.backoff import BackOff
from pytest_llmdeploy.platforms.local_fleet.desired import Probe, Template
from pytest_llmdeploy.platforms.local_fleet.probing import probe
from pytest_llmdeploy.platforms.local_fleet.status import ReplicaStatus
from pytest_llmdeploy.platforms.processes import (
    Log,
    command_at,
    die_with_parent,
    free_port,
    last_lines,
    signal_group,
)
from pytest_llmdeploy.redaction import Redactor
from pytest_llmdeploy.untrusted import one_line

LINES_SHOWN = 3
LINES_READ = 50
_MARK = "--- restart "
_PIECE = 64 * 1024
_LAST_OUTPUT_TIMEOUT = 1.0
"""Seconds for the output of a process that is gone: a child of its may still hold the pipe."""


class Replica:
    """Runs until `remove` is called, however often its process ends."""

    def __init__(
        self,
        *,
        name: str,
        color: str,
        generation: int,
        template: Template,
        directory: Path,
        log: Path,
        redact: Redactor,
        first_back_off: float,
        changed: Callable[[], None],
    ) -> None:
        """`changed` is called after every change of the status, before anything waits."""
        self.name = name
        self.color = color
        self.generation = generation
        self.ready = False
        self.removing = False
        self._template = template
        self._directory = directory
        self._log = log
        self._redact = redact
        self._back_off = BackOff(first_back_off)
        self._changed = changed
        self._process: Process | None = None
        self._port: int | None = None
        self._restarts = 0
        self._problem: str | None = None
        self._hopeless = False
        self._removed = asyncio.Event()
        self._hurry = asyncio.Event()
        self.task = asyncio.create_task(self._live())

    @property
    def status(self) -> ReplicaStatus:
        """The replica as others see it."""
        return ReplicaStatus(
            name=self.name,
            color=self.color,
            generation=self.generation,
            image=self._template.image,
            port=self._port,
            pid=self._process.pid if self._process else None,
            ready=self.ready,
            terminating=self.removing,
            restarts=self._restarts,
            problem=self._problem,
            hopeless=self._hopeless,
        )

    def remove(self) -> None:
        """Withdraw it now, and end it when what it answers had time to finish."""
        if not self.removing:
            self.removing = True
            self.ready = False
            self._changed()
            self._removed.set()

    def hurry(self) -> None:
        """Remove it without waiting for clients that may not know yet."""
        self.remove()
        self._hurry.set()

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            signal_group(self._process.pid, signal.SIGKILL)

    async def _live(self) -> None:
        while not self.removing:
            begun = asyncio.get_running_loop().time()
            try:
                end, hopeless = await self._run(), False
            except OSError as error:  # no such program, or no room for its log
                self._port = None
                why = error.strerror or str(error)
                end, hopeless = f"cannot be started: {self._template.command[0]}: {why}", True
            if self.removing:
                break
            delay = self._back_off.ended(asyncio.get_running_loop().time() - begun)
            self._explain(end, hopeless=hopeless)
            self._changed()
            await _first(self._removed.wait(), asyncio.sleep(delay))
            self._restarts += 1
        self._changed()

    def _explain(self, end: str, *, hopeless: bool) -> None:
        self._problem, self._hopeless = end, hopeless or self._back_off.looping
        if not self._back_off.looping:
            return
        lines = [line for line in last_lines(self._log, LINES_READ) if not line.startswith(_MARK)]
        shown = " | ".join(map(one_line, lines[-LINES_SHOWN:])) or "(it printed nothing)"
        self._problem = f"CrashLoopBackOff: {end}, {self._restarts} restarts; last lines: {shown}"

    async def _run(self) -> str:
        """Run one process to its end; return how it ended."""
        self._port = free_port()
        log = Log(self._log, self._redact)
        if self._restarts:
            log.feed(f"{_MARK}{self._restarts} ---\n".encode())
        # A pipe of our own: with asyncio's, a process has ended only when its last child closes it.
        reading, writing = os.pipe()
        output = asyncio.create_task(_copy(reading, log))
        try:
            self._process = await asyncio.create_subprocess_exec(
                *command_at(self._template.command, self._port),
                env={**os.environ, **self._template.variables, "PORT": str(self._port)},
                cwd=self._directory,
                stdin=DEVNULL,
                stdout=writing,
                stderr=STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        finally:
            os.close(writing)
        self._changed()
        try:
            return await self._attend(self._process)
        finally:
            self.ready = False
            self.kill()  # children that outlived it, too
            await self._process.wait()
            await asyncio.wait({output}, timeout=_LAST_OUTPUT_TIMEOUT)
            output.cancel()
            self._process = self._port = None
            self._changed()

    async def _attend(self, process: Process) -> str:
        """Probe the process until it ends, is found dead or is to be removed; then end it."""
        readiness = asyncio.create_task(self._watch_readiness())
        try:
            dead = await _first(process.wait(), self._removed.wait(), self._until_dead())
        finally:
            readiness.cancel()
        self.ready = False
        self._changed()
        if process.returncode is None:
            await self._end(process)
        return dead if isinstance(dead, str) else _how_it_ended(process.returncode)

    async def _end(self, process: Process) -> None:
        """Let clients forget its address, then let it finish, then kill it."""
        await _first(process.wait(), self._hurry.wait(), asyncio.sleep(self._template.pre_stop))
        if process.returncode is None:
            signal_group(process.pid, signal.SIGTERM)
            await _first(process.wait(), asyncio.sleep(self._template.grace))
        if process.returncode is None:
            signal_group(process.pid, signal.SIGKILL)
            await process.wait()

    async def _watch_readiness(self) -> None:
        rule = self._template.readiness
        failures = 0
        await asyncio.sleep(rule.delay)
        while True:
            wrong = await self._probe(rule)
            failures = 0 if wrong is None else failures + 1
            before = self.ready, self._problem
            if wrong is None:
                self.ready, self._problem, self._hopeless = True, None, False
            elif failures >= rule.failures:
                self.ready = False
                if not self._hopeless:  # a crash loop's reason is worth more
                    self._problem = f"not ready: {wrong}"
            if before != (self.ready, self._problem):
                self._changed()
            await asyncio.sleep(rule.period)

    async def _until_dead(self) -> str:
        rule = self._template.liveness
        failures = 0
        await asyncio.sleep(rule.delay)
        while True:
            wrong = await self._probe(rule)
            failures = 0 if wrong is None else failures + 1
            if wrong is not None and failures >= rule.failures:
                return f"liveness probe: {wrong}"
            await asyncio.sleep(rule.period)

    async def _probe(self, rule: Probe) -> str | None:
        assert self._port is not None
        return await probe(self._port, rule.path, rule.timeout)


async def _first(*works: Coroutine[Any, Any, Any]) -> Any:
    """Return the result of what is done first, and drop the others."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return next(task for task in tasks if task in done).result()
    finally:
        for task in tasks:
            task.cancel()


async def _copy(reading: int, log: Log) -> None:
    """Write to the log what comes from a pipe, and close both."""
    stream = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(reading, "rb", 0)
    )
    try:
        while piece := await stream.read(_PIECE):
            log.feed(piece)
    finally:
        transport.close()
        log.close()


def _how_it_ended(code: int | None) -> str:
    assert code is not None
    if code < 0:
        return f"ended by signal {signal.Signals(-code).name}"
    return f"exit code {code}"
