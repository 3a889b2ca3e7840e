"""What a supervisor is told when it starts."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class SupervisorSpec:
    """Travels as JSON on the supervisor's standard input."""

    fleet: str
    """Id of this life; the desired state has the same."""
    name: str
    """First part of the replicas' names."""
    folder: str
    directory: str
    """Working directory of the replicas."""
    envoy: str
    """Envoy's program."""
    orphan_timeout: float
    """Seconds after the end of the last owner until everything ends."""
    stop_timeout: float
    """Seconds that all replicas together have to end when everything ends."""
    first_back_off: float
    """Seconds until the first restart of a replica that ended."""
    secrets: list[str]

    def to_json(self) -> str:
        """Return the text that the supervisor reads."""
        return json.dumps(asdict(self))
