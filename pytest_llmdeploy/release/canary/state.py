"""What a canary works with, and what became of its phases so far."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pytest_llmdeploy.config.canary import CanaryConfig
from pytest_llmdeploy.errors import NotMeasuredError
from pytest_llmdeploy.ports import MetricsSource, RequestOutcome, Router, Subject, Tally

FORMAT = 1
"""Of what is kept for `llmdeploy rejudge`."""
_PRIVATE: Any = {"metrics": True, "router": {"header_value"}}


class ClientFigures(MetricsSource, Protocol):
    """The requests of this run as a source."""

    def unattributed(self, since: float, until: float) -> Tally:
        """Return the requests of which nobody is known to have answered them."""
        ...


@dataclass(frozen=True, slots=True)
class Figures:
    """The sources of figures, in the order in which they are asked."""

    sources: Sequence[MetricsSource]
    client: ClientFigures

    def source(self, signal: str) -> MetricsSource | None:
        """Return the first that can tell a signal."""
        return next((each for each in self.sources if each.offers(signal)), None)

    def look(self, subjects: Sequence[Subject]) -> dict[str, str]:
        """Have all of them take note of what is now; return, by source, what kept it from that."""
        trouble = {}
        for each in dict.fromkeys((self.client, *self.sources)):
            try:
                each.look(subjects)
            except NotMeasuredError as error:
                trouble[each.name] = str(error)
        return trouble

    def close(self) -> None:
        """Release connections."""
        for each in self.sources:
            each.close()


MakeFigures = Callable[[Callable[[], Sequence[RequestOutcome]]], Figures]
"""Makes the sources; its argument returns the requests that have ended since it was last called."""


@dataclass(slots=True)
class Shift:
    """One change of the weight."""

    weight: int
    made: int
    """What the router could make of it."""
    at: float
    """On time.monotonic, right before it was asked for."""
    converged: float | None = None
    """When the served split was first seen to be right."""
    proven: float | None = None
    """When enough answers had been seen to say so."""
    connections: int = 0
    """Fresh connections that proved it."""
    share: float | None = None
    """Share of them that the new version answered."""


@dataclass(frozen=True, slots=True)
class PhaseRecord:
    """A phase that has ended."""

    name: str
    weight: int
    made: int
    started: float
    """Seconds since the epoch, when the split was proven."""
    duration: float
    """Seconds for which it was watched."""
    verdict: str
    reason: str
    findings: tuple[Mapping[str, Any], ...] = ()
    """What was found about each signal; see `judge.Finding`."""

    def to_json(self) -> dict[str, Any]:
        """Return builtins."""
        return asdict(self)


@dataclass(slots=True)
class CanaryState:
    """One canary."""

    config: CanaryConfig
    router: Router
    make_figures: MakeFigures
    folder: Path
    """Where its looks are kept."""
    control: Path
    """Folder of the files by which people steer it."""
    approved: Callable[[], str] = lambda: ""
    """What LLMDEPLOY_APPROVE says now: names of phases, or all."""
    compare_answers: Callable[[str, str], Mapping[str, Any]] | None = None
    """Asks the cases of `quality` at the addresses of both versions, the running one's first;
    returns what `verdicts.paired` needs."""
    one_shift: bool = False
    """The run is to make one shift, and no more."""
    resumed_at: int | None = None
    """Weight at which an earlier run held this release, as the router made it."""
    resumed_phase: int | None = None
    """Weight of the phase in which that was."""
    resumed_passed: bool = True
    """That phase had passed; one that stayed inconclusive has still to."""
    resumed_because: str = ""
    """Why it was held."""
    figures: Figures | None = None
    stable: Subject | None = None
    canary: Subject | None = None
    unready_since: dict[str, float] = field(default_factory=dict)
    """Replicas of the new version that are not ready, and since when, on time.monotonic."""
    shifts: list[Shift] = field(default_factory=list)
    phases: list[PhaseRecord] = field(default_factory=list)
    restarts: Mapping[str, int] = field(default_factory=dict)
    """Restarts of each of its replicas before it had traffic."""

    def is_behind(self, weight: int) -> bool:
        """Return whether an earlier run has come through the phase of that weight."""
        held = self.resumed_phase if self.resumed_phase is not None else self.resumed_at
        if self.one_shift or held is None:
            return False
        return weight < held or (weight == held and self.resumed_passed)

    def is_last_behind(self, weight: int) -> bool:
        """Return whether an earlier run was held in the phase of that weight."""
        return self.resumed_passed and weight == max(
            (phase.weight for phase in self.config.phases if self.is_behind(phase.weight)),
            default=None,
        )

    def close(self) -> None:
        """Release connections."""
        if self.figures is not None:
            self.figures.close()

    def to_json(self) -> dict[str, Any]:
        """Return builtins; times are seconds since the epoch, which other processes can read.

        Of the settings those are left out that may hold secrets and decide nothing.
        """
        began = time.time() - time.monotonic()
        shifts = [asdict(shift) for shift in self.shifts]
        for shift in shifts:
            for key in ("at", "converged", "proven"):
                shift[key] = None if shift[key] is None else shift[key] + began
        return {
            "router": self.router.name,
            "config": self.config.model_dump(mode="json", exclude=_PRIVATE),
            "phases": [phase.to_json() for phase in self.phases],
            "shifts": shifts,
            "looks": str(self.folder / "looks.jsonl"),
        }
