"""How far a suite has come, and when it is given up."""

from __future__ import annotations

import time
from concurrent.futures import Future
from dataclasses import dataclass, field

from pytest_llmdeploy.errors import BudgetSpentError, NotMeasuredError, UnreachableError
from pytest_llmdeploy.gates.asking import Asking
from pytest_llmdeploy.gates.decision import Standing
from pytest_llmdeploy.gates.recording import NotRecordedError
from pytest_llmdeploy.gates.store import Result
from pytest_llmdeploy.gates.suite import Suite

REFUSALS_IN_A_ROW = 5
"""After so many requests refused alike, and none answered, the rest of a suite is not asked."""


@dataclass(slots=True)
class Progress:
    """How far a suite is, as far as this process knows."""

    wanted: int = 0
    finished: int = 0
    failed: int = 0
    in_flight: int = 0
    started: float = field(default_factory=time.monotonic)

    def line(self) -> str:
        """Return what is shown while the suite is asked."""
        rate = self.finished / max(time.monotonic() - self.started, 1e-3)
        return (
            f"{self.finished} of {self.wanted} answered, {self.failed} not passed, "
            f"{self.in_flight} in flight, {rate:.1f}/s"
        )


@dataclass(slots=True)
class SuiteState:
    """What the engine keeps for a suite it has been given."""

    suite: Suite
    progress: Progress
    asking: Asking = field(default_factory=Asking)
    standing: Standing | None = None
    """Counts results where asking may stop early."""
    counted: set[str] = field(default_factory=set)
    """Ids of the results that `standing` has."""
    settled: bool = False
    begun: set[str] = field(default_factory=set)
    """Ids of cases of which a request was sent."""
    finished: dict[str, Result] = field(default_factory=dict)
    """Results of this process that no item has taken yet; all are in the store."""
    drive: Future[None] | None = None
    refused: int = 0
    answered: int = 0
    failed: int = 0
    broken: str | None = None
    """Why the rest of the suite is not asked."""

    def note_failure(self, error: NotMeasuredError) -> None:
        """Give the suite up when nothing was ever answered and there is no sign that it will be.

        A thousand cases, each waiting for its timeout and its retries, would take hours to tell
        what the first ones told.
        """
        if isinstance(error, NotRecordedError | BudgetSpentError):
            return  # told for each case, and at no cost
        self.failed += 1
        self.refused += isinstance(error, UnreachableError)
        if self.answered or self.broken:
            return
        if self.refused >= REFUSALS_IN_A_ROW:
            why = f"{self.refused} requests were refused alike"
        elif self.failed >= max(REFUSALS_IN_A_ROW, self.suite.concurrency):
            why = f"the first {self.failed} requests all failed"
        else:
            return
        self.broken = f"not asked, because {why}: {error}"
