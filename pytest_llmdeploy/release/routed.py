"""A fleet and what splits its traffic, as one fleet: so that one rollback brings both back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager

from pytest_llmdeploy.ports import (
    Endpoint,
    Finding,
    Fleet,
    JournalStore,
    Lock,
    Pod,
    Rollout,
    Route,
    Router,
    Service,
    Snapshot,
    other_color,
)

ROUTE = "route"
"""Key of a snapshot under which the router's is."""


class RoutedFleet:
    """ports.Fleet: the fleet's snapshot holds the router's, and what is restored is, in order:

    weights, then the service's own selector; later the rest of the route, and then replicas.
    """

    def __init__(self, fleet: Fleet, router: Router) -> None:
        self._fleet = fleet
        self.router = router

    @property
    def journal(self) -> JournalStore:
        """The fleet's."""
        return self._fleet.journal

    @property
    def lock(self) -> Lock:
        """The fleet's."""
        return self._fleet.lock

    def entry(self) -> Service:
        """Return the service as its users reach it."""
        return self._fleet.entry()

    def preflight(self, color: str, image: str) -> Sequence[Finding]:
        """Return what speaks against the release, or against splitting the traffic."""
        stable = self._fleet.color() or other_color(color)
        return [*self._fleet.preflight(color, image), *self.router.preflight(stable, color)]

    def color(self) -> str | None:
        """Return the colour that the service's own name leads to."""
        return self._fleet.color()

    def image(self, color: str) -> str | None:
        """Return the image of a colour's replicas."""
        return self._fleet.image(color)

    def deploy(self, color: str, image: str, variables: Mapping[str, str]) -> None:
        """Create or update the replicas of a colour."""
        self._fleet.deploy(color, image, variables)

    def rollout(self, color: str) -> Rollout:
        """Return how far a colour has come."""
        return self._fleet.rollout(color)

    def pods(self, color: str) -> Sequence[Pod]:
        """Return the replicas of a colour."""
        return self._fleet.pods(color)

    def direct(self, pod: str) -> AbstractContextManager[str]:
        """Lead to one replica."""
        return self._fleet.direct(pod)

    def switch(self, old: str | None, new: str) -> None:
        """Let the service's own name lead to `new`."""
        self._fleet.switch(old, new)

    def endpoints(self) -> Sequence[Endpoint]:
        """Return the addresses that the service's own name leads to."""
        return self._fleet.endpoints()

    def scale(self, color: str, replicas: int) -> None:
        """Change the number of replicas."""
        self._fleet.scale(color, replicas)

    def delete(self, color: str) -> None:
        """Remove a colour's replicas."""
        self._fleet.delete(color)

    def snapshot(self) -> Snapshot:
        """Return the present state of both."""
        return {**self._fleet.snapshot(), ROUTE: self.router.snapshot()}

    def restore_traffic(self, snapshot: Snapshot) -> None:
        """Give the weights back, then the selector."""
        self.router.restore_weights(snapshot[ROUTE])
        self._fleet.restore_traffic(snapshot)

    def restore_replicas(self, snapshot: Snapshot) -> None:
        """Bring the rest of the route back, then the replicas."""
        self.router.restore(snapshot[ROUTE])
        self._fleet.restore_replicas(snapshot)

    def differences(self, snapshot: Snapshot) -> Sequence[str]:
        """Return in words how both differ from the snapshot."""
        return [*self.router.differences(snapshot[ROUTE]), *self._fleet.differences(snapshot)]

    def commands(self, snapshot: Snapshot) -> Sequence[str]:
        """Return shell commands with which a person can bring both back."""
        found = [*self.router.commands(snapshot[ROUTE]), *self._fleet.commands(snapshot)]
        return list(dict.fromkeys(found))

    def evidence(self, colors: Sequence[str]) -> Mapping[str, str]:
        """Return what tells why a step failed, and what the route says now."""
        found = dict(self._fleet.evidence(colors))
        try:
            route: Route | str = self.router.read()
        except Exception as error:  # noqa: BLE001 - what cannot be collected is told as well
            route = f"cannot be read: {error}"
        return {**found, "route.txt": f"{self.router.name}: {route}\n"}

    def close(self) -> None:
        """Release connections."""
        self._fleet.close()
