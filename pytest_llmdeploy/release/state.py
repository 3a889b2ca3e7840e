"""A release under way: what it works with, and what it has found out so far."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pytest_llmdeploy.config.release import BlueGreenConfig
from pytest_llmdeploy.events import Measurement
from pytest_llmdeploy.ports import (
    Fleet,
    RunningTraffic,
    Snapshot,
    Traffic,
    TrafficLedger,
    other_color,
)
from pytest_llmdeploy.release.canary.state import CanaryState
from pytest_llmdeploy.release.convergence import Identity
from pytest_llmdeploy.release.journal import Journal
from pytest_llmdeploy.release.waiting import Patience
from pytest_llmdeploy.release.zero_loss import Losses, Moments, count_losses
from pytest_llmdeploy.verdicts import Verdict

OnAction = Callable[[str, Mapping[str, Any]], None]
"""Hears of each change before it is made: its name and its arguments."""
NOBODY = Identity(None, None)


@dataclass(frozen=True, slots=True)
class Checks:
    """What is asked of one replica, or of the service, at a root address."""

    health: Callable[[str], Sequence[tuple[str, Measurement]]]
    """All health checks: name and outcome."""
    smoke: Callable[[str], Sequence[tuple[str, Measurement]]]
    identify: Callable[[str], Identity]
    """Who answers a new connection; raises NotMeasuredError where nobody does."""
    identify_with: Callable[[str, Mapping[str, str]], Identity]
    """Who answers a new connection whose request has these headers."""
    warm_up: Callable[[str, float], Measurement]
    """Asks one question within so many seconds."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be released, and for whom."""

    service: str
    environment: str
    image: str
    run_id: str
    holder: str
    """Who releases, for the lock: person, machine, process."""
    origin: Mapping[str, Any] = field(default_factory=dict)
    """Where settings and folder are, for whoever has to finish the release."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Further environment variables of the new replicas."""
    ends_with_run: bool = False
    """What the release changes ends with the run: it was made for it."""


class StepFailedError(Exception):
    """The step was measured, and is not good enough."""

    def __init__(self, reason: str, detail: Mapping[str, Any] | None = None) -> None:
        super().__init__(reason)
        self.detail = detail or {}


class InconclusiveError(StepFailedError):
    """The step was measured, but not enough to tell."""


@dataclass(frozen=True, slots=True)
class Held:
    """The release waits, with the traffic split, for a person or a later run."""

    weight: int
    """Percent of the traffic that the new version keeps."""
    phase: int
    """Weight that the phase asked for; `weight` is what the router could make of it."""
    reason: str
    verdict: Verdict
    """What the last item says: PASS where the run was to do no more than this."""
    passed: bool
    """The phase has passed: a run that goes on needs not watch it again."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A step that passed."""

    reason: str
    detail: Mapping[str, Any] = field(default_factory=dict)
    left_out: bool = False
    """It was not performed, because a person wanted to go on without it."""


@dataclass(slots=True)
class Release:
    """What the steps share."""

    order: Order
    config: BlueGreenConfig
    fleet: Fleet
    checks: Checks
    traffic_to: Callable[[str], Traffic | None]
    """Makes the requests to the service at a root address; None where none are to be made."""
    journal: Journal
    on_action: OnAction
    patience: Patience = field(default_factory=Patience)
    now_doing: str = "begins"
    """What goes on, in a line, for people who wait."""

    entry: str = ""
    """Root address at which users reach the service."""
    old: str | None = None
    """Colour that runs before the release; None where none does."""
    new: str = other_color(None)
    old_image: str | None = None
    old_whole: bool = False
    """All replicas of the former version were ready when the release began."""
    old_identity: Identity = NOBODY
    new_identity: Identity = NOBODY
    snapshot: Snapshot | None = None
    """What to come back to."""
    moments: Moments = field(default_factory=Moments)
    """When what was done, on time.monotonic."""
    pods: tuple[str, ...] = ()
    """The new version's replicas."""
    health: list[Mapping[str, Any]] = field(default_factory=list)
    running: RunningTraffic | None = None
    failed_before_switch: int = 0
    losses: Losses | None = None
    """What became of the traffic; None until it has ended."""
    decided: bool = False
    """The new version stays; nothing after this takes it back."""
    held: Held | None = None
    """The release ends here, for now; nothing is taken back."""
    canary: CanaryState | None = None
    """What a canary works with; None in a blue/green release."""

    def begin_traffic(self) -> RunningTraffic | None:
        """Send the requests of the proof from now on."""
        traffic = self.traffic_to(self.entry)
        if traffic is not None:
            self.running = traffic.start()
        return self.running

    def finish_traffic(self) -> Mapping[str, Any]:
        """Let the requests end and count them; raise NotMeasuredError where that cannot be done."""
        assert self.running is not None
        return self.count_traffic(self.running.finish())

    def count_traffic(self, ledger: TrafficLedger) -> Mapping[str, Any]:
        """Count the requests of a traffic that has ended."""
        moments = Moments(
            **{
                name: None
                if (moment := getattr(self.moments, name)) is None
                else moment - ledger.zero
                for name in Moments.__slots__
            }
        )
        old, new = self.old_identity.version, self.new_identity.version
        colors = None if self.canary is None else (self.old, self.new)
        self.losses = count_losses(ledger.records(), moments, old, new, colors)
        return {**self.losses.to_json(), "ledger": str(ledger.path)}

    def action(self, name: str, **arguments: Any) -> Action:
        """Return what surrounds a change: it is noted before it is made, and after."""
        return Action(self.journal, self.on_action, name, arguments)


Act = Callable[[Release], Outcome]
"""One step; raises StepFailedError, InconclusiveError or NotMeasuredError if it does not pass."""


@dataclass(frozen=True, slots=True)
class Action:
    """One change of the world."""

    journal: Journal
    on_action: OnAction
    name: str
    arguments: Mapping[str, Any]

    def __enter__(self) -> None:
        self.journal.intend(self.name, **self.arguments)
        self.on_action(self.name, self.arguments)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.journal.done(self.name)
