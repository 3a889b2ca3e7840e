"""What a load generator process takes of its machine."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

CPU_INTERVAL = 2.0
"""Seconds over which the use of a core is told; shorter peaks hold nobody up for long."""


class Cpu:
    """Share of one core that this process used in its busiest stretch."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        used: Callable[[], float] = time.process_time,
    ) -> None:
        self._clock = clock
        self._used = used
        self._busiest = 0.0
        self._ended = False
        self.begin()

    def begin(self) -> None:
        """Count from now on."""
        self._since, self._before = self._clock(), self._used()

    def look(self) -> None:
        """Close a stretch that is long enough; to be called several times in one."""
        if not self._ended and self._clock() - self._since >= CPU_INTERVAL:
            self._busiest = max(self._busiest, self._now())
            self.begin()

    def end(self) -> None:
        """Count no more; a run shorter than a stretch is one."""
        if not self._ended:
            self._busiest = self.share
            self._ended = True

    @property
    def share(self) -> float:
        """The share so far."""
        return self._busiest or (0.0 if self._ended else self._now())

    def _now(self) -> float:
        return (self._used() - self._before) / max(self._clock() - self._since, 1e-3)


def memory_mb() -> float:
    """Return the memory that this process holds now, in MB; 0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def open_files() -> int:
    """Return the number of open file descriptors; 0 where the system does not tell."""
    try:
        return len(list(Path("/proc/self/fd").iterdir()))
    except OSError:
        return 0
