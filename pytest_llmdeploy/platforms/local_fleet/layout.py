"""Where the files of a fleet lie, below its folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

PULSE = "supervisor.pulse"


@dataclass(frozen=True, slots=True)
class Layout:
    """The places of a fleet's folder."""

    folder: Path

    def prepare(self) -> None:
        """Make the folders, for this user alone."""
        for folder in (self.folder, self.envoy, self.replicas):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def forget(self) -> None:
        """Remove the logs of an earlier life; journal and lock of a release stay."""
        for log in (self.log, self.envoy_log, *self.replicas.glob("*.log")):
            log.unlink(missing_ok=True)

    @property
    def pulse(self) -> Path:
        """Held by the supervisor while anything of the fleet runs."""
        return self.folder / PULSE

    @property
    def desired(self) -> Path:
        """What clients want; see `desired.DesiredFile`."""
        return self.folder / "desired.json"

    @property
    def status(self) -> Path:
        """What the supervisor sees; see `status.FleetStatus`."""
        return self.folder / "status.json"

    @property
    def log(self) -> Path:
        """The supervisor's own output."""
        return self.folder / "supervisor.log"

    @property
    def starting(self) -> Path:
        """Lock of whoever starts the supervisor."""
        return self.folder / "starting.lock"

    @property
    def envoy(self) -> Path:
        """Envoy's configuration and log."""
        return self.folder / "envoy"

    @property
    def envoy_log(self) -> Path:
        """Envoy's output."""
        return self.envoy / "envoy.log"

    @property
    def replicas(self) -> Path:
        """One log for each replica, over all its starts."""
        return self.folder / "replicas"

    def replica_log(self, name: str) -> Path:
        """Return the log of one replica."""
        return self.replicas / f"{name}.log"

    @property
    def journal(self) -> Path:
        """The journal of the latest release."""
        return self.folder / "journal.jsonl"

    @property
    def release(self) -> Path:
        """Lock of whoever releases."""
        return self.folder / "release.lock"
