"""No mesh: the Service selects both colours, and the numbers of replicas are the weights."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pytest_llmdeploy.errors import PlatformError
from pytest_llmdeploy.platforms.kubernetes.routing.site import Site, keep
from pytest_llmdeploy.platforms.kubernetes.snapshot import changes, selector
from pytest_llmdeploy.platforms.kubernetes.traffic import Ready, Traffic
from pytest_llmdeploy.ports import COLORS, Finding, Rollout, Route, Snapshot
from pytest_llmdeploy.waiting import wait_until

ALL = 100
NEVER_EXACT = 5
"""Percentage points of difference that a preflight points out."""


class ScalableFleet(Protocol):
    """What the router needs of the fleet."""

    def scale(self, color: str, replicas: int) -> None:
        """Change the number of replicas; returns before that has happened."""
        ...

    def rollout(self, color: str) -> Rollout:
        """Return how far that has come."""
        ...


@dataclass(frozen=True, slots=True)
class Scaling:
    """How replicas are scaled, and the Service is switched, for one release."""

    fleet: ScalableFleet
    traffic: Traffic
    ready: Ready
    full: int
    """Replicas of a version that has all requests (`blue_green.replicas`)."""
    timeout: float
    """Seconds until replicas must be up (`blue_green.rollout_timeout`)."""
    autoscaled: Callable[[], Collection[str]]
    """Returns the colours that an autoscaler scales."""


def replicas_for(weight: int, stable: int) -> int:
    """Return how many replicas of the canary beside `stable` come nearest to a weight below 100."""
    return max(1, round(weight / (ALL - weight) * stable))


def weight_of(canary: int, stable: int) -> int:
    """Return the percentage of the requests that so many replicas get."""
    return round(ALL * canary / (canary + stable))


class ReplicasRouter:
    """The split by numbers of replicas; the running version keeps all of its own.

    It cannot send requests with a header to one colour, and makes only such percentages as whole
    replicas give. 100 selects the canary alone, scaled to the full number first.
    """

    has_header = False
    splits_connections = True

    def __init__(self, site: Site, scaling: Scaling) -> None:
        self.site = site
        self._scaling = scaling

    @property
    def name(self) -> str:
        """What splits, for people."""
        return f"Service {self.site.names.namespace}/{self.site.names.service} (replicas)"

    def preflight(self, stable: str, canary: str) -> Sequence[Finding]:
        """Return what speaks against it, and which percentages the weights become."""
        findings = [
            Finding(
                "router",
                f"an autoscaler scales {color}, and numbers of replicas are what makes the "
                "weights: take it away for the release, or use a mesh (canary.router.kind)",
                fatal=True,
            )
            for color in (stable, canary)
            if color in self._scaling.autoscaled()
        ]
        beside = self._scaling.fleet.rollout(stable).desired
        if not beside:
            text = f"{stable} has no replicas: there is nothing to split the requests with"
            return [*findings, Finding("router", text, fatal=True)]
        asked = [phase.weight for phase in self.site.config.phases if phase.weight < ALL]
        made = {one: weight_of(replicas_for(one, beside), beside) for one in asked}
        shown = ", ".join(
            f"{one} % is {percent} % ({replicas_for(one, beside)} beside {beside})"
            for one, percent in made.items()
        )
        if any(abs(one - percent) > NEVER_EXACT for one, percent in made.items()):
            text = f"whole replicas make the weights, which are not those asked for: {shown}"
            findings.append(Finding("router", text))
        elif shown:
            findings.append(Finding("router", f"whole replicas make the weights: {shown}"))
        if self.site.config.router.header is not None:
            findings.append(Finding("header", "without a mesh no header leads to the new version"))
        return findings

    def read(self) -> Route:
        """Return the colour that the Service selects, or the shares of the replicas wanted.

        Replicas that are not ready for a moment have been taken away by nobody. Of a Service that
        another one than `set_weight` opened to both colours it returns nothing.
        """
        stable = self._scaling.traffic.color()
        if stable is None:
            return Route({})
        if not self._scaling.traffic.is_open():
            return Route({stable: ALL})
        wanted = {color: self._scaling.fleet.rollout(color).desired for color in COLORS}
        if not any(wanted.values()):
            return Route({})
        (canary,) = (color for color in COLORS if color != stable)
        weight = weight_of(wanted[canary], wanted[stable])
        return Route({stable: ALL - weight, canary: weight})

    def prepare(self, stable: str, canary: str) -> None:
        """Let the running version have all requests: the Service selects it alone."""
        self._alone(stable, canary)

    def set_weight(self, stable: str, canary: str, weight: int) -> int:
        """Scale the canary, then let the Service select what the weight needs.

        Returns the percentage that the numbers of replicas give, when they are ready.
        """
        if weight == 0:
            self._alone(stable, canary)
            return 0
        beside = self._scaling.fleet.rollout(stable).desired
        if weight == ALL:
            self._scale(canary, max(beside, self._scaling.full))
            self._alone(canary, stable)
            return ALL
        if not beside:
            raise PlatformError(f"{stable} has no replicas: {weight} % cannot be made")
        wanted = replicas_for(weight, beside)
        if self._scaling.traffic.color() == canary and not self._scaling.traffic.is_open():
            self._alone(stable, canary)  # first the way back, which needs nothing scaled
        self._scale(canary, wanted)
        self.site.check_lock()
        self._scaling.traffic.open(stable)
        return weight_of(wanted, beside)

    def lacks(self) -> str | None:
        """Return which replicas are still to come, or to go, where both colours are selected."""
        if not self._scaling.traffic.is_open():
            return None
        for color in COLORS:
            found = self._scaling.fleet.rollout(color)
            if not found.complete:
                return f"{color}: {found.waiting_for}"
        return None

    def promote(self, stable: str) -> None:
        """Let the Service select `stable` alone, with the full number of replicas."""
        if self._scaling.fleet.rollout(stable).desired < self._scaling.full:
            self._scale(stable, self._scaling.full)
        (other,) = (color for color in COLORS if color != stable)
        self._alone(stable, other)

    def snapshot(self) -> Snapshot:
        """Return the Service; numbers of replicas are the fleet's to remember."""
        service = self._scaling.traffic.service()
        return {"router": "replicas", "service": keep(service)}

    def restore_weights(self, snapshot: Snapshot) -> None:
        """Let the Service select what it did: with that all requests are back."""
        self.site.check_lock()
        self._scaling.traffic.restore(snapshot["service"])

    def restore(self, snapshot: Snapshot) -> None:
        """Let the Service select what it did; the fleet brings the replicas back."""
        self.restore_weights(snapshot)

    def differences(self, snapshot: Snapshot) -> Sequence[str]:
        """Return in words how the Service's selector differs from the snapshot."""
        former: Mapping[str, Any] | None = snapshot["service"]
        path = self.site.names.service_path()
        found, present = self.site.existence(self.name, former, path)
        if former is not None and present is not None:
            before, now = selector(dict(former)), selector(present)
            found += [f"{self.name}: {text}" for text in changes(before, now, "selector")]
        return found

    def commands(self, snapshot: Snapshot) -> Sequence[str]:
        """Return nothing: the fleet's own commands bring the Service back."""
        del snapshot
        return ()

    def _alone(self, color: str, other: str) -> None:
        self.site.check_lock()
        self._scaling.traffic.switch(other, color, self._scaling.ready)

    def _scale(self, color: str, replicas: int) -> None:
        fleet = self._scaling.fleet
        if fleet.rollout(color).desired != replicas:
            fleet.scale(color, replicas)

        def up() -> bool:
            rollout = fleet.rollout(color)
            if rollout.failure is not None:
                raise PlatformError(f"{replicas} replicas of {color}: {rollout.failure}")
            return rollout.complete

        wait_until(
            up,
            what=f"{replicas} replicas of {color} should be up",
            timeout=self._scaling.timeout,
            setting="blue_green.rollout_timeout",
            interval=0.2,
            clock=self.site.clock,
        )
