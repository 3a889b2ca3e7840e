"""``calibration.json``, as far as pages show it."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from pytest_llmdeploy.reports.canary_record import Part

SAYS = {
    "promote": "must pass",
    "catch": "must be caught",
    "tolerate": "tolerated",
    "not judged": "not judged",
    "unknown": "not known",
}
"""What the policy says of a case, in words."""


class Real(Part):
    """One real canary."""

    outcome: str
    by: str
    reason: str
    weight: int
    seconds: float | None = None
    exposed: int | None = None
    restored: bool = True


class Share(Part):
    """A share of simulated canaries."""

    count: int
    n: int
    share: float
    low: float
    high: float


class Reach(Part):
    """Quantiles over simulated canaries."""

    p10: float
    median: float
    p90: float


class Drawn(Part):
    """The simulated canaries of a case."""

    wanted: int
    caught: Share
    inconclusive: Share
    error: Share
    promoted: Share
    seconds: Reach | None = None
    exposed: Reach | None = None
    by: dict[str, int] = Field(default_factory=dict)


class Case(Part):
    """One case."""

    name: str
    what: str
    says: str
    why: str
    held: bool
    measured: tuple[Real, ...] = ()
    simulated: Drawn | None = None
    not_simulated: str = ""


class Base(Part):
    """Figures of the running version."""

    rate: float
    error_rate: float
    requests: int = 0


class Page(Part):
    """``calibration.json``."""

    run: str
    service: str
    environment: str
    started: str
    duration: float
    speed: float
    runs: int
    seed: int
    exit_code: int
    interrupted: bool = False
    policy: dict[str, Any]
    figures: Base | None = None
    left_out: tuple[str, ...] = ()
    cases: tuple[Case, ...]
    advice: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
