"""What a run tells its reports: frozen events of builtins, so that they cross process borders."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from pytest_llmdeploy.verdicts import Verdict

OWN_TESTS = "tests"
"""In place of a stage, for a test without a marker of ours that could not be measured."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """What a stage found out about one question."""

    verdict: Verdict
    reason: str
    """One sentence that a person can act on; says what was asked and what came back."""
    detail: Mapping[str, Any] = field(default_factory=dict)
    """Numbers and texts behind the verdict, as builtins."""
    explanation: Callable[[], str] | None = None
    """What was asked and what came back, at length; asked for when it did not pass."""


@dataclass(frozen=True, slots=True)
class VerdictEvent:
    """The verdict of one test item."""

    nodeid: str
    stage: str
    name: str
    """Path within the stage, such as ``capitals::france``."""
    verdict: Verdict
    reason: str
    duration: float
    """Seconds."""
    environment: str
    service: str
    version: str | None
    gate: str | None = None
    """Node id of the gate that the item belongs to; None outside the gates."""
    judges_gate: bool = False
    """The verdict is the gate's own."""
    counted: bool = False
    """The verdict is counted by the gate, whose own item decides."""
    scripted: bool = False
    """The answers came from a scripted engine: no model was judged."""
    detail: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return builtins only."""
        values = {name: getattr(self, name) for name in _NAMES}
        return {**values, "verdict": str(self.verdict), "detail": dict(self.detail)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> VerdictEvent:
        """Rebuild an event that came from another process."""
        return cls(**{**data, "verdict": Verdict(data["verdict"])})


_NAMES = tuple(each.name for each in fields(VerdictEvent))
