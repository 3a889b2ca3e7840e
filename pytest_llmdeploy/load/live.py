"""A load run in one line, while it goes on."""

from __future__ import annotations

from collections import deque

from pytest_llmdeploy.load.controller import Progress
from pytest_llmdeploy.load.judging import seconds
from pytest_llmdeploy.load.ledger import EndClass

WINDOW = 5.0
"""Seconds whose rate is shown as the present one."""


class Live:
    """Makes the line out of one report after the other."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque([(0.0, 0)])
        """Requests intended by the last moments, one of them before the window."""

    def hear(self, progress: Progress) -> None:
        """Take a report; the same one may come again."""
        if progress.elapsed > self._seen[-1][0]:
            self._seen.append((progress.elapsed, progress.intended))
        while len(self._seen) > 2 and self._seen[1][0] <= progress.elapsed - WINDOW:
            self._seen.popleft()

    def line(self, progress: Progress) -> str:
        """Return a run's progress as people read it."""
        (begun, before), (now, intended) = self._seen[0], self._seen[-1]
        rate = (intended - before) / max(now - begun, 1e-3)
        p50, p95 = progress.ttft.quantile(0.5), progress.ttft.quantile(0.95)
        times = f", TTFT {seconds(p50)}, p95 {seconds(p95)}" if p50 and p95 else ""
        ok = progress.classes[EndClass.OK]
        return (
            f"{progress.elapsed:.0f} s, {rate:.1f}/s, {ok} ok, "
            f"{progress.failed} failed, {progress.in_flight} in flight{times}"
        )
