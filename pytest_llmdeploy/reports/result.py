"""What a run found out, as the reports need it; built from the events alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_llmdeploy.config.models import STAGES
from pytest_llmdeploy.events import OWN_TESTS
from pytest_llmdeploy.verdicts import Verdict, worst

EXIT_FAIL = 1
EXIT_ERROR = 10
EXIT_INCONCLUSIVE = 11
_EXIT_CODES = {
    Verdict.PASS: 0,
    Verdict.FAIL: EXIT_FAIL,
    Verdict.ERROR: EXIT_ERROR,
    Verdict.INCONCLUSIVE: EXIT_INCONCLUSIVE,
}

Event = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RunResult:
    """One finished run."""

    run_id: str
    output: Path
    started: float
    """Seconds since the epoch."""
    duration: float
    """Seconds."""
    events: Sequence[Event]
    exit_code: int
    interrupted: bool
    others_failed: bool
    """Tests without a verdict of ours failed too."""
    not_collected: bool
    """Something could not be collected, so it was not asked."""

    @property
    def verdict(self) -> Verdict:
        """The verdict on the whole; a case that a gate counts is judged with its gate."""
        verdicts = [Verdict(event["verdict"]) for event in deciding(self.events)]
        if self.others_failed:
            verdicts.append(Verdict.FAIL)
        if self.interrupted or self.not_collected:
            verdicts.append(Verdict.ERROR)
        return worst(verdicts)

    @property
    def overall_status(self) -> str:
        """``pass`` only where everything was measured and good enough."""
        return "pass" if self.verdict is Verdict.PASS else "fail"

    @property
    def gates(self) -> list[Event]:
        """The events that judge a whole suite."""
        return [event for event in self.events if is_gate(event)]

    @property
    def pass_rate(self) -> float | None:
        """Share of passed cases among those measured, over all gates; None without a gate."""
        gates = [gate["detail"] for gate in self.gates if gate["detail"].get("total")]
        measured = sum(gate["passed"] + gate["failed"] for gate in gates)
        return sum(gate["passed"] for gate in gates) / measured if measured else None

    def stages(self) -> dict[str, list[Event]]:
        """Return the events by stage, in the order of a release."""
        return {
            stage: found
            for stage in (*STAGES, OWN_TESTS)
            if (found := [event for event in self.events if event["stage"] == stage])
        }


def is_gate(event: Event) -> bool:
    """Return whether the event judges a whole suite."""
    return bool(event["judges_gate"])


def gate_name(event: Event) -> str:
    """Return the gate's name, of the event that judges it."""
    return str(event["name"]).rpartition("::")[0]


def deciding(events: Sequence[Event]) -> list[Event]:
    """Return the events that decide about the run.

    A case that its gate counts does not, unless the gate never gave a verdict.
    """
    judged = {event["gate"] for event in events if is_gate(event)}
    return [event for event in events if not event["counted"] or event["gate"] not in judged]


def exit_code(pytest_code: int, events: Sequence[Event]) -> int:
    """Return pytest's exit code, refined where it says no more than that something failed."""
    if pytest_code not in (0, 1) or not events:
        return pytest_code
    ours = _EXIT_CODES[worst(Verdict(event["verdict"]) for event in deciding(events))]
    return ours or pytest_code  # a failure that pytest saw is never cancelled


def counts(events: Sequence[Event]) -> dict[str, int]:
    """Return how often each verdict occurs."""
    found = Counter(str(event["verdict"]) for event in events)
    return {str(verdict): found[verdict] for verdict in Verdict if found[verdict]}
