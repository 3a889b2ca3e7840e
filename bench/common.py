"""What the benchmarks share: timed processes, the mock model, medians."""

from __future__ import annotations

import json
import os
import resource
import socket
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Timing:
    """One finished process."""

    wall: float
    cpu: float
    memory_mb: float
    """Of the process itself; with `tree` of all its processes together."""
    out: str
    code: int = 0


def timed(
    command: Sequence[str],
    cwd: Path | None = None,
    *,
    tree: bool = False,
    variables: Mapping[str, str] | None = None,
) -> Timing:
    """Run a command and account for it; whether it went well is the caller's to judge.

    CPU seconds are those of the process and of all children that were waited for. With `tree`,
    memory is the largest sum of resident sets that was seen (shared pages count in each process).
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begun = time.perf_counter()
    # As on a machine in use: modules are compiled once, not at every start.
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env={**kept, **(variables or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    largest = [0.0]
    ended = threading.Event()
    watching = threading.Thread(target=_watch, args=(process.pid, ended, largest))
    if tree:
        watching.start()
    out = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - begun
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    ended.set()
    if tree:
        watching.join()
    memory = max(largest[0], usage.ru_maxrss / 1024)
    return Timing(wall, cpu, memory, out, process.returncode)


def _watch(pid: int, ended: threading.Event, largest: list[float]) -> None:
    page = os.sysconf("SC_PAGE_SIZE")
    while not ended.wait(0.1):
        pages = sum(_resident(one) for one in _with_children(pid))
        largest[0] = max(largest[0], pages * page / 2**20)


def _with_children(pid: int) -> list[int]:
    parents: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            after_name = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents.setdefault(int(after_name[1]), []).append(int(folder.name))
    found = [pid]
    for one in found:
        found += parents.get(one, [])
    return found


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0


def median(timings: Sequence[Timing], field: str = "wall") -> float:
    """Return the median of one figure."""
    return statistics.median(getattr(timing, field) for timing in timings)


@contextmanager
def mock_model(delay: float) -> Iterator[str]:
    """Run the mock on a free port; yield its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, str(HERE / "mock.py"), str(port), str(delay)], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.readline()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def seen(url: str) -> dict[str, Any]:
    """Return what the mock saw."""
    with urllib.request.urlopen(url) as response:
        value: dict[str, Any] = json.load(response)
    return value


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print one Markdown table."""
    cells = [[str(cell) for cell in row] for row in (head, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    lines = [
        "| " + " | ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)) + " |" for r in cells
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    print("\n".join(lines))
