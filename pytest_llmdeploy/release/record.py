"""What became of a release and of each of its steps, as builtins that any process can read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from pytest_llmdeploy.verdicts import Verdict

FINAL = "final-state"
"""The step that tells, after success or failure, what state everything was left in."""


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One step that was performed."""

    name: str
    verdict: Verdict
    reason: str
    """One sentence that a person can act on."""
    started: float
    """Seconds since the epoch."""
    duration: float
    """Seconds."""
    skipped: bool = False
    """It was not performed, because of what `reason` says. The verdict is ERROR, or PASS where a
    person wanted to go on without it."""
    detail: Mapping[str, Any] = field(default_factory=dict)
    evidence: str | None = None
    """Folder with what tells why it failed."""

    def to_json(self) -> dict[str, Any]:
        """Return builtins."""
        return asdict(self) | {"verdict": str(self.verdict)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> StepRecord:
        """Rebuild a record."""
        return cls(**{**data, "verdict": Verdict(data["verdict"])})


@dataclass(frozen=True, slots=True)
class RollbackReport:
    """What a rollback did, and how long it took."""

    succeeded: bool
    reason: str
    """What was found and what was done; where it failed, what state things are in."""
    time_to_detect: float | None = None
    """Seconds from the switch until the failure was seen; None where traffic was never moved."""
    time_to_safe: float | None = None
    """Seconds from the switch until the former version answered every new connection again."""
    requests_exposed: int | None = None
    """Requests of ours that the new version answered, or that were lost while it could."""
    differences: tuple[str, ...] = ()
    """How the state differs from the snapshot."""
    commands: tuple[str, ...] = ()
    """What a person has to run; only where it failed."""

    def to_json(self) -> dict[str, Any]:
        """Return builtins."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class ReleaseResult:
    """A finished release."""

    success: bool
    previous_color: str | None
    new_color: str
    previous_image: str | None
    image: str
    duration: float
    """Seconds."""
    timestamp: str
    """When it began, in ISO 8601."""
    steps: tuple[StepRecord, ...]
    health_checks: tuple[Mapping[str, Any], ...] = ()
    """Each check of each replica: pod, check, verdict, reason."""
    error: str | None = None
    """Why it did not succeed."""
    rollback: RollbackReport | None = None
    """None where nothing had to be taken back."""
    traffic: Mapping[str, Any] = field(default_factory=dict)
    """What became of the requests that went on meanwhile; see `zero_loss.Losses.to_json`."""
    canary: Mapping[str, Any] = field(default_factory=dict)
    """Phases and shifts of a canary; see `canary.state.CanaryState.to_json`."""

    def to_json(self) -> dict[str, Any]:
        """Return builtins."""
        data = asdict(self)
        data["steps"] = [step.to_json() for step in self.steps]
        data["health_checks"] = [dict(check) for check in self.health_checks]
        return data
