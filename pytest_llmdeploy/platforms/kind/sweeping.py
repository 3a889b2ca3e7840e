"""Clusters that nobody needs any more; called by the run's controller and by commands only."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from pytest_llmdeploy.platforms.kind import registry
from pytest_llmdeploy.platforms.kind.cluster import PREFIX, delete, existing
from pytest_llmdeploy.platforms.kind.programs import ProgramError, unavailable


@dataclass(frozen=True, slots=True)
class Listed:
    """A kind cluster of this machine that bears our name, or is kept for us."""

    name: str
    state: str
    """``in use``, ``orphan``, ``kept``, or ``unknown`` where another machine or nobody noted it."""
    owner: int | None
    """Pid of the run that it was made for."""
    age: float | None
    """Seconds since it was made."""


def list_clusters() -> list[Listed]:
    """Return the clusters that are ours; raise ProgramError where kind cannot be asked."""
    known = {entry.name: entry for entry in registry.entries()}
    return [
        _listed(name, known.get(name))
        for name in existing()
        if name in known or name.startswith(PREFIX)
    ]


def _listed(name: str, entry: registry.Entry | None) -> Listed:
    if entry is None:
        return Listed(name, "unknown", None, None)
    state = "kept" if entry.kept else "orphan" if entry.is_orphan() else "in use"
    return Listed(name, state, entry.owner, time.time() - entry.started)


def sweep() -> list[str]:
    """Delete the clusters whose run is over; return their names. Never one that is kept.

    A cluster that cannot be deleted now stays for the next sweep.
    """
    orphans = [entry for entry in registry.entries() if entry.is_orphan()]
    if not orphans or unavailable() is not None:
        return []
    swept = []
    for entry in orphans:
        try:
            delete(entry.name)
        except ProgramError:
            continue
        swept.append(entry.name)
    return swept


def name_of_run(run_id: str) -> str | None:
    """Return the cluster that a run made for itself and that ends with it; None without one.

    Works from the registry, so also where the process that was making it is gone.
    """
    entry = registry.entry_of(f"{PREFIX}{run_id}")
    return None if entry is None or entry.kept else entry.name


def keep_of_run(run_id: str) -> None:
    """Let the cluster of a run outlive it: no sweep deletes it."""
    entry = registry.entry_of(f"{PREFIX}{run_id}")
    if entry is not None:
        registry.note(replace(entry, kept=True))
