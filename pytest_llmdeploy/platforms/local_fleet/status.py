"""What a fleet is: one JSON file that its supervisor replaces whenever something changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class ReplicaStatus:
    """One replica."""

    name: str
    color: str
    generation: int
    image: str
    port: int | None
    """Port on 127.0.0.1; None while no process runs."""
    pid: int | None
    ready: bool
    terminating: bool
    restarts: int
    problem: str | None
    """What keeps it from becoming ready."""
    hopeless: bool
    """Waiting will not help."""

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self.port}"


@dataclass(frozen=True, slots=True)
class FleetStatus:
    """All of it."""

    fleet: str
    pid: int
    """The supervisor's."""
    seen: int
    """Version of the desired state that this follows."""
    port: int
    """Port of the entry on 127.0.0.1."""
    admin_port: int
    """Port of Envoy's admin interface."""
    envoy_pid: int | None
    envoy_restarts: int
    replicas: tuple[ReplicaStatus, ...]
    routes: int = 0
    """Version of the routes that were last written for Envoy."""

    def to_json(self) -> dict[str, Any]:
        """Return the value for the file."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> FleetStatus:
        """Return what `to_json` made a mapping of."""
        replicas = tuple(ReplicaStatus(**each) for each in value["replicas"])
        return cls(**{**value, "replicas": replicas})

    def of(self, color: str) -> list[ReplicaStatus]:
        """Return the replicas of a colour."""
        return [replica for replica in self.replicas if replica.color == color]
