"""What splits the traffic between two colours, and a fleet that has such a thing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from pytest_llmdeploy.ports.fleet import Finding, Fleet, Snapshot

if TYPE_CHECKING:
    from pytest_llmdeploy.config.canary import CanaryConfig

COLOR_HEADER = "x-llmdeploy-color"
"""Answer header in which a router names the colour that it chose; in its own error answers, too."""


@dataclass(frozen=True, slots=True)
class Route:
    """How a router splits the traffic now."""

    weights: Mapping[str, int]
    """Percent of the requests, by colour; they sum to 100. Empty where there is no route yet."""
    header: str | None = None
    """Colour that requests with the header go to; None where no such rule is in force."""


class Router(Protocol):
    """What splits the requests between two colours.

    Methods raise PlatformError for what the platform refuses or does not answer, ConflictError
    where somebody else wrote what is about to be written. All of them may be called again. Nothing
    but the named rules is touched. What a weight does, only answers tell.
    """

    @property
    def name(self) -> str:
        """What splits, for people: ``VirtualService shop/llm-service``."""
        ...

    @property
    def has_header(self) -> bool:
        """Whether it can have, and is to have, a header route."""
        ...

    @property
    def splits_connections(self) -> bool:
        """Whether it splits connections: all requests of one go to one version then."""
        ...

    def preflight(self, stable: str, canary: str) -> Sequence[Finding]:
        """Return what speaks against splitting between two colours, and what is worth knowing."""
        ...

    def read(self) -> Route:
        """Return what the platform says that the split is."""
        ...

    def prepare(self, stable: str, canary: str) -> None:
        """Make a place for both colours, `canary` with weight 0, and the header route before it.

        What routes lead to is made, and seen to be there, before what leads to it.
        """
        ...

    def set_weight(self, stable: str, canary: str, weight: int) -> int:
        """Give `canary` that percentage, `stable` the rest; return what it could be made.

        Replicas cannot show every percentage; all others return `weight`.
        """
        ...

    def lacks(self) -> str | None:
        """Return what its status says is still to come; None where it has none, or all is well."""
        ...

    def promote(self, stable: str) -> None:
        """Let all traffic go to `stable`, without header route: the state between releases."""
        ...

    def snapshot(self) -> Snapshot:
        """Return the present state of all that it touches."""
        ...

    def restore_weights(self, snapshot: Snapshot) -> None:
        """Give the weights back: the first step of a rollback; the header route stays."""
        ...

    def restore(self, snapshot: Snapshot) -> None:
        """Bring all that it touches back to the snapshot."""
        ...

    def differences(self, snapshot: Snapshot) -> Sequence[str]:
        """Return in words how the present state differs from the snapshot; empty: not at all."""
        ...

    def commands(self, snapshot: Snapshot) -> Sequence[str]:
        """Return shell commands with which a person can bring the snapshot's state back."""
        ...


class RoutableFleet(Fleet, Protocol):
    """A fleet whose platform can split the traffic between two colours."""

    def router(self, config: CanaryConfig) -> Router:
        """Return what splits it; nothing is changed yet. Raises PlatformError, ConfigError."""
        ...

    def reach(self, namespace: str, service: str, port: int) -> AbstractContextManager[str]:
        """Lead to any service beside the fleet, such as a Prometheus: yields its root address."""
        ...

    def stats_addresses(self) -> Sequence[str]:
        """Return where what splits the traffic tells its own figures; empty where it does not."""
        ...
