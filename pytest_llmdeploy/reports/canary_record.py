"""What a canary leaves of its phases, read leniently: for the page, the terminal and GitHub."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

ALL = 100


class Part(BaseModel):
    """A part of a record; further keys are for machines."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Finding(Part):
    """What was found about one signal."""

    signal: str
    rule: str
    """``sla``, ``compare``, ``split`` or ``quality``."""
    verdict: str
    reason: str = ""
    limit: float | None = None
    estimate: float | None = None
    stable: float | None = None
    low: float | None = None
    high: float | None = None
    e_value: float | None = None
    n: int | None = None
    n_stable: int | None = None
    source: str = ""
    query: str = ""


class Phase(Part):
    """One weight, and what was found at it."""

    name: str
    weight: int
    made: int = 0
    """What the router could make of it."""
    started: float = 0.0
    """Seconds since the epoch."""
    duration: float = 0.0
    """Seconds."""
    verdict: str
    reason: str = ""
    findings: tuple[Finding, ...] = ()

    @property
    def counted(self) -> Finding | None:
        """The finding that tells how many requests of each version were compared."""
        found = (each for each in self.findings if each.n is not None and each.n_stable is not None)
        return max(found, key=lambda each: each.n or 0, default=None)

    @property
    def requests(self) -> int | None:
        """The most requests of the new version that any of its findings rests on."""
        return max((each.n for each in self.findings if each.n is not None), default=None)


class Shift(Part):
    """One change of the weight; times are seconds since the epoch."""

    weight: int
    made: int
    at: float
    converged: float | None = None
    connections: int = 0
    share: float | None = None


class Canary(Part):
    """The key ``canary`` of a result."""

    router: str = ""
    config: dict[str, Any] = {}
    phases: tuple[Phase, ...] = ()
    shifts: tuple[Shift, ...] = ()


def phase_of(event: Mapping[str, Any]) -> Phase | None:
    """Return the phase that an item of a canary judged; None for any other item."""
    if event["stage"] != "canary":
        return None
    try:
        return Phase.model_validate(event["detail"]["step"]["detail"]["phase"])
    except (KeyError, TypeError, ValidationError):
        return None
