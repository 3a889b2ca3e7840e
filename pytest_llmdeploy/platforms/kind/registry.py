"""Which clusters of this machine are ours, and whose run they were made for.

One small file a cluster below the user's state folder: a run's own folder may be gone when its
cluster is not.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from pytest_llmdeploy.liveness import process_lives


@dataclass(frozen=True, slots=True)
class Entry:
    """One cluster that we made."""

    name: str
    owner: int
    """Pid of the process that owns the run."""
    host: str
    started: float
    """Seconds since 1970."""
    kept: bool
    """It was asked for by name, and outlives runs."""

    def is_orphan(self) -> bool:
        """Return whether it was made for a run of this machine that is over."""
        here = self.host == socket.gethostname()
        return not self.kept and here and not process_lives(self.owner)


def folder() -> Path:
    """Return the folder of the entries."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "llmdeploy" / "clusters"


def note(entry: Entry) -> None:
    """Write an entry down, before the cluster is made."""
    folder().mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder() / f"{entry.name}.json"
    partial = path.with_suffix(f".{os.getpid()}.partial")
    partial.write_text(json.dumps(asdict(entry)), encoding="utf-8")
    partial.replace(path)


def forget(name: str) -> None:
    """Remove an entry, after the cluster is gone."""
    (folder() / f"{name}.json").unlink(missing_ok=True)


def entries() -> Iterator[Entry]:
    """Yield all entries; files that are none are passed over."""
    for path in sorted(folder().glob("*.json")):
        try:
            yield Entry(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            continue


def entry_of(name: str) -> Entry | None:
    """Return the entry of a cluster; None where we did not make it."""
    return next((entry for entry in entries() if entry.name == name), None)
