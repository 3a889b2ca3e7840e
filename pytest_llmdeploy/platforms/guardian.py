"""Run one process and end it with the run, whatever ends the run.

Started as ``python -m pytest_llmdeploy.platforms.guardian`` with a JSON `GuardianSpec` on standard
input. It lives in a session of its own, so that Ctrl-C in the terminal does not reach it, and ends
the process when it gets SIGTERM or when the run's owner ends, be it by a crash or kill -9.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from pytest_llmdeploy.liveness import Pulse, wait_until_exit
from pytest_llmdeploy.platforms.processes import (
    Log,
    adopt_orphans,
    die_with_parent,
    kill_adopted,
    signal_group,
)
from pytest_llmdeploy.redaction import Redactor


@dataclass(frozen=True, slots=True)
class GuardianSpec:
    """What to run, for whom, and where its traces go."""

    command: list[str]
    variables: dict[str, str]
    """The whole environment of the process."""
    directory: str
    log: str
    """File for the process's output, redacted line by line."""
    owner: int
    """Pid of the process that owns the run; when it ends, so does what we run."""
    own_pulse: str
    """Held until the process and its group are gone."""
    exit_file: str
    """Gets ``{"exit": code}`` when the process ends by itself, or ``{"error": text}``."""
    stop_timeout: float
    """Seconds between SIGTERM and SIGKILL."""
    secrets: list[str]

    def to_json(self) -> str:
        """Return the text that the guardian reads."""
        return json.dumps(asdict(self))


_PIECE = 64 * 1024


def _pump(output: IO[bytes], log: Log) -> None:
    for piece in iter(lambda: os.read(output.fileno(), _PIECE), b""):
        log.feed(piece)
    log.close()


def _write_exit(spec: GuardianSpec, content: dict[str, object]) -> None:
    path = Path(spec.exit_file)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content), encoding="utf-8")
    partial.replace(path)


def guard(spec: GuardianSpec) -> None:
    """Run the process of `spec` until it ends or has to end."""
    pulse = Pulse(Path(spec.own_pulse))
    adopt_orphans()
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, lambda *_: stop.set())
    try:
        process = subprocess.Popen(
            spec.command,
            env=spec.variables,
            cwd=spec.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - no thread runs yet
        )
    except OSError as error:
        _write_exit(spec, {"error": f"{spec.command[0]}: {error.strerror}"})
        return
    assert process.stdout is not None

    def watch_owner() -> None:
        wait_until_exit(spec.owner)
        stop.set()

    def watch_process() -> None:
        process.wait()
        stop.set()

    log = Log(Path(spec.log), Redactor(spec.secrets))
    pump = threading.Thread(target=_pump, args=(process.stdout, log), daemon=True)
    pump.start()
    for watch in (watch_owner, watch_process):
        threading.Thread(target=watch, daemon=True).start()
    stop.wait()
    if process.poll() is None:
        signal_group(process.pid, signal.SIGTERM)
        try:
            process.wait(spec.stop_timeout)
        except subprocess.TimeoutExpired:
            signal_group(process.pid, signal.SIGKILL)
            process.wait()
    else:
        pump.join(1)  # the last lines of the log tell why it ended
        _write_exit(spec, {"exit": process.returncode})
    signal_group(process.pid, signal.SIGKILL)  # children that outlived their parent
    kill_adopted()
    pump.join(1)
    pulse.stop()


if __name__ == "__main__":
    guard(GuardianSpec(**json.load(sys.stdin)))
