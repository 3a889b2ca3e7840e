"""After a search: do rates just below and just above the found one do what it says of them?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from pytest_llmdeploy.load.capacity import Ask, Capacity, GeneratorLimitError
from pytest_llmdeploy.load.judging import plain
from pytest_llmdeploy.verdicts import Verdict, worst

BELOW = 0.9
"""Times the found rate: there the objectives must hold."""
ABOVE = 1.25
"""Times the lowest rate that certainly misses them: there they must be missed."""
RUNS = 2


@dataclass(frozen=True, slots=True)
class Confirmation:
    """A run at one rate, and what the search says of it."""

    rate: float
    expected: Verdict
    verdict: Verdict
    n: int
    reason: str

    @property
    def contradicts(self) -> bool:
        """The run is certain of the opposite."""
        return self.verdict not in (self.expected, Verdict.INCONCLUSIVE)

    @property
    def in_words(self) -> str:
        """What the run shows."""
        if self.verdict is Verdict.INCONCLUSIVE:
            return f"{plain(self.rate)}/s are not certain"
        shown = "hold" if self.verdict is Verdict.PASS else "are missed"
        against = ", against the search" if self.contradicts else ""
        return f"{plain(self.rate)}/s {shown}{against}"

    def to_json(self) -> dict[str, Any]:
        """Return builtins."""
        return asdict(self) | {"expected": str(self.expected), "verdict": str(self.verdict)}


def confirm(found: Capacity, ask: Ask) -> tuple[Capacity, Sequence[Confirmation]]:
    """Ask at both rates; return what that leaves of the search, and the runs.

    A run that is certain of the opposite takes a PASS away: one of the two must be chance, or the
    service has changed meanwhile.
    """
    runs, told = [], []
    for rate, times, expected in (
        (found.rate, BELOW, Verdict.PASS),
        (found.high, ABOVE, Verdict.FAIL),
    ):
        if rate is None:
            continue
        try:
            probe = ask(rate * times)
        except GeneratorLimitError as error:
            told.append(f"{plain(rate * times)}/s were not sent: {error}")
            continue
        runs.append(Confirmation(probe.rate, expected, probe.verdict, probe.n, probe.reason))
        told.append(runs[-1].in_words)
    if not told:
        return found, ()
    verdict = found.verdict
    if any(run.contradicts for run in runs):
        verdict = worst((verdict, Verdict.INCONCLUSIVE))
    reason = f"{found.reason}; runs to confirm it: {', '.join(told)}"
    return replace(found, verdict=verdict, reason=reason), runs
