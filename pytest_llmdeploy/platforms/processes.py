"""What all processes that we start on this machine share: their end, their output, their ports."""

from __future__ import annotations

import ctypes
import os
import random
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_llmdeploy.redaction import Redactor

if TYPE_CHECKING:  # the processes that only look after others need no pydantic
    from pytest_llmdeploy.config.models import ReferenceConfig

PYTHON = (sys.executable, "-P", "-m")
"""Without the current directory on the path: a project's signal.py is not the library's."""
REFERENCE_COMMAND = (*PYTHON, "pytest_llmdeploy.reference", "--port", "{port}")
LONGEST_LINE = 64 * 1024
"""Bytes; of a longer line nothing is kept: a secret could stand across any cut."""
LEFT_OUT = "(a line of more than 64 KiB is left out)\n"
LOG_BYTES_READ = 256 * 1024
PORTS = range(10_000, 32_768)
"""Below the ports that systems give to outgoing connections: none of those takes ours away."""
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
# Looked up here, since nothing may be imported or allocated between fork and exec.
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def reference_variables(reference: ReferenceConfig) -> dict[str, str]:
    """Return what tells the reference service its settings."""
    return {
        "LLM_ENGINE": reference.engine,
        "LLM_VERSION": reference.version,
        "LLM_PARALLEL": str(reference.parallel),
        "LLM_FAULTS": ",".join(reference.faults),
    }


def command_at(command: Sequence[str], port: int) -> list[str]:
    """Return the command with its port filled in."""
    return [part.replace("{port}", str(port)) for part in command]


def die_with_parent() -> None:
    """Let this process be killed when its parent ends; to be called between fork and exec."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def adopt_orphans() -> None:
    """Become the parent of all descendants whose own parent ends, where the system has that."""
    if _libc is not None:
        _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)


def kill_adopted() -> None:
    """End the descendants that left their process group; `adopt_orphans` made them our children."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == os.getpid():
                os.kill(int(folder.name), signal.SIGKILL)
        except (OSError, ValueError, IndexError):
            continue  # it is gone already


def signal_group(leader: int, number: int) -> None:
    """Send a signal to the process group of `leader`; nothing where it is gone."""
    try:
        os.killpg(leader, number)
    except ProcessLookupError:
        return


def free_port() -> int:
    """Return a port of 127.0.0.1 on which nobody listens now."""
    while True:
        port = random.choice(PORTS)  # noqa: S311 - no secret
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


class Log:
    """A file for a process's output, redacted line by line as it comes."""

    def __init__(self, path: Path, redact: Redactor) -> None:
        self._file = path.open("a", encoding="utf-8")
        self._redact = redact
        self._rest = b""
        self._skipping = False

    def feed(self, piece: bytes) -> None:
        """Write the lines that `piece` completes."""
        *whole, self._rest = (self._rest + piece).split(b"\n")
        for line in whole:
            self._write(line)
        if len(self._rest) >= LONGEST_LINE:
            self._write(self._rest)
            self._rest, self._skipping = b"", True
        self._file.flush()

    def _write(self, line: bytes) -> None:
        if self._skipping:
            self._skipping = False  # the end of a line that was left out
        elif len(line) >= LONGEST_LINE:
            self._file.write(LEFT_OUT)
        else:
            self._file.write(self._redact(line.decode("utf-8", "replace") + "\n"))

    def close(self) -> None:
        """Write the last, incomplete line."""
        if self._rest:
            self.feed(b"\n")
        self._file.close()


def last_lines(path: Path, lines: int) -> list[str]:
    """Return the last lines of a log, however long it is; none where there is no log."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - LOG_BYTES_READ))
            return file.read().decode("utf-8", "replace").splitlines()[-lines:]
    except FileNotFoundError:
        return []
