"""What a release needs of the place where versions run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from pytest_llmdeploy.ports.model import Service

BLUE = "blue"
GREEN = "green"
COLORS = (BLUE, GREEN)


def other_color(color: str | None) -> str:
    """Return the colour that a new version gets: the other one; green where blue or none runs."""
    return BLUE if color == GREEN else GREEN


@dataclass(frozen=True, slots=True)
class Pod:
    """One replica of a version."""

    name: str
    color: str
    image: str
    ready: bool
    """It passes its readiness probe, and may get traffic."""
    terminating: bool = False
    restarts: int = 0
    problem: str | None = None
    """What keeps it from becoming ready, such as ``ImagePullBackOff: …``; None where nothing."""
    digest: str | None = None
    """What exactly `image` was when the replica was made, where the platform tells it."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """How far a version's replicas have come."""

    desired: int
    updated: int
    """Replicas that have the wanted image and settings."""
    ready: int
    complete: bool
    """All wanted replicas run the wanted version and are available, and no other ones are left."""
    waiting_for: str
    """What it waits for, in a line: ``2 of 3 ready``."""
    failure: str | None = None
    """Why it will not complete, however long one waits."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address behind the service's name."""

    pod: str
    color: str | None
    """Colour of the pod; None where the address is no pod of ours."""
    ready: bool
    """It gets traffic."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a preflight check found."""

    name: str
    """Such as ``rights`` or ``capacity``."""
    text: str
    fatal: bool = False
    """The release must not begin."""


Snapshot = Mapping[str, Any]
"""The state of all that a release touches, as builtins: what a rollback returns to."""


class JournalStore(Protocol):
    """Where the journal of a release is kept, beside the run's folder, for another machine."""

    def read(self) -> list[dict[str, Any]]:
        """Return the entries of the latest release there; empty where there is none."""
        ...

    def append(self, entry: Mapping[str, Any]) -> None:
        """Add an entry, durably; raise PlatformError where that fails."""
        ...

    def clear(self) -> None:
        """Forget all entries."""
        ...


class Lock(Protocol):
    """Keeps two releases of one service apart."""

    def acquire(self, holder: str) -> None:
        """Take it and keep it alive; raise LockedError that names the holder."""
        ...

    def release(self) -> None:
        """Give it back; nothing where it is not held."""
        ...

    def steal(self, holder: str) -> str | None:
        """Take it whoever holds it; return who did."""
        ...


class Fleet(Protocol):
    """Versions of one service side by side, and which of them its users reach.

    Methods raise PlatformError for what the platform refuses or does not answer, ConflictError
    where somebody else changed what is about to be changed. All of them may be called again.
    """

    @property
    def journal(self) -> JournalStore:
        """The journal's copy that outlives this machine, or this run."""
        ...

    @property
    def lock(self) -> Lock:
        """What a release of this service holds."""
        ...

    def entry(self) -> Service:
        """Return the service as its users reach it; the stable version runs behind it."""
        ...

    def preflight(self, color: str, image: str) -> Sequence[Finding]:
        """Return what speaks against deploying `image` as `color`, and what is worth knowing."""
        ...

    def color(self) -> str | None:
        """Return the colour that the service's name leads to; None where it leads to none."""
        ...

    def image(self, color: str) -> str | None:
        """Return the image of a colour's replicas; None where nothing is deployed there."""
        ...

    def deploy(self, color: str, image: str, variables: Mapping[str, str]) -> None:
        """Create or update the replicas of a colour; returns before they are ready."""
        ...

    def rollout(self, color: str) -> Rollout:
        """Return how far the latest `deploy` or `scale` of a colour has come."""
        ...

    def pods(self, color: str) -> Sequence[Pod]:
        """Return the replicas of a colour, those that are terminating too."""
        ...

    def direct(self, pod: str) -> AbstractContextManager[str]:
        """Lead to one replica, whatever gets traffic: yields its root address."""
        ...

    def switch(self, old: str | None, new: str) -> None:
        """Let the service's name lead to `new`, provided that it leads to `old` now."""
        ...

    def endpoints(self) -> Sequence[Endpoint]:
        """Return the addresses that the service's name leads to now."""
        ...

    def scale(self, color: str, replicas: int) -> None:
        """Change the number of replicas; returns before that has happened."""
        ...

    def delete(self, color: str) -> None:
        """Remove a colour's replicas; they finish what they are answering. Returns at once."""
        ...

    def snapshot(self) -> Snapshot:
        """Return the present state of all that a release touches."""
        ...

    def restore_traffic(self, snapshot: Snapshot) -> None:
        """Let the service's name lead where the snapshot says; the first step of a rollback."""
        ...

    def restore_replicas(self, snapshot: Snapshot) -> None:
        """Bring both colours' replicas back to the snapshot; returns before they are ready."""
        ...

    def differences(self, snapshot: Snapshot) -> Sequence[str]:
        """Return in words how the present state differs from the snapshot; empty: not at all."""
        ...

    def commands(self, snapshot: Snapshot) -> Sequence[str]:
        """Return shell commands with which a person can bring the snapshot's state back."""
        ...

    def evidence(self, colors: Sequence[str]) -> Mapping[str, str]:
        """Return what tells why a step failed: file name to text. Never raises."""
        ...

    def close(self) -> None:
        """Release connections; what is deployed stays."""
        ...
