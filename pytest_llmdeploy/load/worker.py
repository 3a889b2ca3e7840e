"""One load generator process, as its owner sees it.

It is in a process group of its own, is told what to do over stdin, says how it goes over a pipe,
and is ended by SIGTERM and then SIGKILL whatever happens.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from pytest_llmdeploy.load.outcomes import Told
from pytest_llmdeploy.load.spec import WorkerSpec
from pytest_llmdeploy.verdicts.histogram import Histogram

STOP_TIMEOUT = 5.0
"""Seconds that a process has after SIGTERM to complete its ledger."""
LONGEST_LINE = 1 << 16
"""Bytes of a line of the log; what is longer is cut into several."""


class Worker:
    """A started process and what it has said so far."""

    def __init__(self, spec: WorkerSpec, directory: Path, log: Callable[[str], str]) -> None:
        """`log` takes each line that the process prints and returns what was kept of it."""
        self.spec = spec
        read, write = os.pipe()
        self.progress: IO[bytes] = os.fdopen(read, "rb", buffering=0)
        try:
            self.process = subprocess.Popen(
                [
                    # Not from the user's folder, whose locust.py or json.py would be taken.
                    *(sys.executable, "-P", "-X", "faulthandler"),
                    *("-m", "pytest_llmdeploy.load.runner", str(write)),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(write,),
                cwd=directory,
                start_new_session=True,
            )
        except OSError:
            self.progress.close()
            raise
        finally:
            os.close(write)
        self.latest: dict[str, Any] = {}
        """Its last report."""
        self.heard = time.monotonic()
        """When it reported last."""
        self.ttft = Histogram()
        self.outcomes: list[Told] = []
        """What it told since somebody took it away."""
        self.ready = False
        self.result: dict[str, Any] | None = None
        self.last_words = ""
        self._log = log
        self._rest_of_progress = b""
        self._rest_of_output = b""
        # It reads once it has imported Locust; prompts may be more than a pipe holds until then.
        threading.Thread(target=self.tell, args=(spec.to_json(),), daemon=True).start()

    @property
    def name(self) -> str:
        """What people call it."""
        return f"load generator process {self.spec.index + 1} of {self.spec.count}"

    @property
    def is_lost(self) -> bool:
        """Whether it has ended without a result."""
        code = self.process.poll()
        return code is not None and (code != 0 or not Path(self.spec.result).is_file())

    def tell(self, line: str) -> None:
        """Write a line to its stdin; nothing where it is gone."""
        assert self.process.stdin is not None
        with suppress(OSError, ValueError):
            self.process.stdin.write(line.encode() + b"\n")
            self.process.stdin.flush()

    def hear(self, piece: bytes) -> None:
        """Take what came over its pipe."""
        *lines, self._rest_of_progress = (self._rest_of_progress + piece).split(b"\n")
        for line in lines:
            message = json.loads(line)
            self.heard = time.monotonic()
            if "ready" in message:
                self.ready = True
                continue
            self.ttft.merge(Histogram.from_json(message.pop("ttft")))
            self.outcomes += message.pop("outcomes", ())
            self.latest = message

    def hear_output(self, piece: bytes) -> None:
        """Take what it printed; nothing is the end of it."""
        *lines, rest = (self._rest_of_output + piece).split(b"\n")
        if rest and (not piece or len(rest) > LONGEST_LINE):
            lines, rest = [*lines, rest], b""
        self._rest_of_output = rest
        for line in lines:
            kept = self._log(line.decode("utf-8", "replace")).strip()
            self.last_words = kept or self.last_words

    def read_result(self) -> str | None:
        """Read the result of a process that has ended; return what is wrong where it has none."""
        code = self.process.returncode
        if code is None:
            return f"{self.name} was lost: it does not end"
        if code < 0:
            return f"{self.name} was lost: killed by {signal.Signals(-code).name}"
        if code > 0:
            words = f" ({self.last_words[:200]})" if self.last_words else ""
            return f"{self.name} was lost: exit code {code}{words}"
        try:
            result = json.loads(Path(self.spec.result).read_text(encoding="utf-8"))
            if not isinstance(result, dict):
                raise ValueError("it is no object")
        except (OSError, ValueError) as error:
            return f"{self.name} was lost: no result can be read ({error})"
        self.result = result
        return None


def end_all(workers: Sequence[Worker]) -> None:
    """Leave no process of theirs behind."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for worker in workers:
            if worker.process.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(worker.process.pid, number)
        deadline = time.monotonic() + STOP_TIMEOUT
        for worker in workers:
            with suppress(subprocess.TimeoutExpired):
                worker.process.wait(max(deadline - time.monotonic(), 0.0))
    for worker in workers:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(worker.process.pid, signal.SIGKILL)  # children that outlived it
        for pipe in (worker.process.stdin, worker.process.stdout, worker.progress):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
