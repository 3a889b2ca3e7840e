"""What became of a case, measured and simulated; and what the whole calibration says."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pytest_llmdeploy.release.canary.calibration.cases import Case
from pytest_llmdeploy.release.canary.calibration.policy import CATCH, PROMOTE, Stance
from pytest_llmdeploy.release.canary.calibration.simulation import (
    CAUGHT,
    ERROR,
    INCONCLUSIVE,
    PROMOTED,
    Simulated,
)
from pytest_llmdeploy.release.record import ReleaseResult
from pytest_llmdeploy.verdicts import Verdict
from pytest_llmdeploy.verdicts.shares import lower_bound, upper_bound

CONFIDENCE = 0.95
"""Of the interval of a rate, both sides together (Clopper and Pearson)."""
SLIPS = 0.05
"""Share of simulated versions that may be promoted against the policy's own words."""
HELD, ALARMED, NOT_MEASURED = 0, 1, 10
"""Exit codes: all as the policy says; not so; could not be measured."""
_OUTCOMES = {Verdict.FAIL: CAUGHT, Verdict.INCONCLUSIVE: INCONCLUSIVE, Verdict.ERROR: ERROR}


@dataclass(frozen=True, slots=True)
class Measured:
    """What became of one real canary."""

    outcome: str
    by: str
    """The finding that decided, or else the step."""
    reason: str
    weight: int
    """Percent that the new version had when it was decided; 0 before any."""
    seconds: float | None
    """From the first weight until it was decided."""
    exposed: int | None
    """Requests of the run that the new version answered, or that were lost while it could."""
    restored: bool
    """Everything is as before."""


@dataclass(frozen=True, slots=True)
class Rate:
    """A share with its interval."""

    count: int
    n: int
    low: float
    high: float

    @classmethod
    def of(cls, count: int, n: int) -> Rate:
        """Return it with an interval of `CONFIDENCE`."""
        each = (1 + CONFIDENCE) / 2
        return cls(count, n, lower_bound(count, n, each), upper_bound(count, n, each))

    @property
    def share(self) -> float:
        """The estimate."""
        return self.count / self.n


@dataclass(frozen=True, slots=True)
class Spread:
    """A number's quantiles over canaries."""

    p10: float
    median: float
    p90: float


@dataclass(frozen=True, slots=True)
class Summary:
    """What became of the simulated canaries of a case."""

    wanted: int
    caught: Rate
    inconclusive: Rate
    error: Rate
    promoted: Rate
    seconds: Spread | None
    """From the first weight until it was caught; None where none was."""
    exposed: Spread | None
    """Requests of the new version until then."""
    by: Mapping[str, int]
    """How often each finding caught, or left it open, the most frequent first."""


@dataclass(frozen=True, slots=True)
class CaseResult:
    """A case with all that is known."""

    case: Case
    stance: Stance
    measured: tuple[Measured, ...] = ()
    simulated: Summary | None = None
    not_simulated: str = ""
    """Why not, where nothing was."""

    def to_json(self) -> dict[str, Any]:
        """Return builtins."""
        return {
            "name": self.case.name,
            "what": self.case.what,
            "faults": self.case.faults,
            "says": self.stance.says,
            "why": self.stance.why,
            "measured": [asdict(each) for each in self.measured],
            "simulated": None if self.simulated is None else _summary_json(self.simulated),
            "not_simulated": self.not_simulated,
            "held": self.held,
        }

    @property
    def is_known(self) -> bool:
        """Whether every real canary told something."""
        return self.case.may_be_error or all(each.outcome != ERROR for each in self.measured)

    @property
    def held(self) -> bool:
        """Whether what happened is what the policy says."""
        if self.stance.says == PROMOTE:
            return all(each.outcome in (PROMOTED, ERROR) for each in self.measured) and (
                self.simulated is None or self.simulated.promoted.high >= 1 - 2 * SLIPS
            )
        if self.stance.says != CATCH:
            return True
        return all(each.outcome != PROMOTED for each in self.measured) and (
            self.simulated is None or self.simulated.promoted.low <= SLIPS
        )


def measured_of(result: ReleaseResult) -> Measured:
    """Return what a real canary's result says; one that was promoted has been taken back."""
    bad = next((step for step in result.steps if step.verdict is not Verdict.PASS), None)
    back = result.rollback
    shifts, phases = result.canary.get("shifts", ()), result.canary.get("phases", ())
    by = bad.name if bad is not None else ""
    if bad is not None and phases and phases[-1]["name"] == bad.name:
        for finding in phases[-1]["findings"]:
            if finding["verdict"] == str(bad.verdict):
                by = f"{finding['signal']} ({finding['rule']})"
                break
    return Measured(
        outcome=PROMOTED if bad is None else _OUTCOMES[bad.verdict],
        by=by,
        reason=bad.reason if bad is not None else "all steps passed; it was taken back",
        weight=shifts[-1]["made"] if shifts else 0,
        seconds=back.time_to_detect if back is not None else None,
        exposed=(back.requests_exposed if back is not None else None)
        or result.traffic.get("exposed", 0),
        restored=back is None or back.succeeded,
    )


def summary_of(simulated: Simulated) -> Summary:
    """Return rates and quantiles of simulated canaries."""
    runs = simulated.runs
    count = Counter(run.outcome for run in runs)
    caught = [run for run in runs if run.outcome == CAUGHT]
    by = Counter(run.by for run in runs if run.outcome != PROMOTED)
    return Summary(
        wanted=simulated.wanted,
        caught=Rate.of(count[CAUGHT], len(runs)),
        inconclusive=Rate.of(count[INCONCLUSIVE], len(runs)),
        error=Rate.of(count[ERROR], len(runs)),
        promoted=Rate.of(count[PROMOTED], len(runs)),
        seconds=_spread([run.seconds for run in caught]),
        exposed=_spread([float(run.exposed) for run in caught]),
        by=dict(by.most_common()),
    )


def exit_code(results: Sequence[CaseResult]) -> int:
    """Return what the calibration ends with; nothing tried is nothing known."""
    if any(not result.held for result in results):
        return ALARMED
    tried = any(result.measured or result.simulated for result in results)
    if not tried or not all(result.is_known for result in results):
        return NOT_MEASURED
    return HELD


def _spread(values: list[float]) -> Spread | None:
    if not values:
        return None
    ordered = sorted(values)

    def at(q: float) -> float:
        return ordered[max(0, math.ceil(q * len(ordered)) - 1)]

    return Spread(at(0.1), at(0.5), at(0.9))


def _summary_json(summary: Summary) -> dict[str, Any]:
    data = asdict(summary)
    for name in ("caught", "inconclusive", "error", "promoted"):
        data[name]["share"] = getattr(summary, name).share
    return data
