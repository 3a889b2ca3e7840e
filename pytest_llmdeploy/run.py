"""One pytest run: its id, its output folder, and which process of it this is."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pytest_llmdeploy.errors import NotMeasuredError

OUTPUT_ROOT = ".llmdeploy"
ANSWERS_NAME = "answers.sqlite"
"""File in OUTPUT_ROOT that keeps answers for later runs."""


def claim_folder(folder: Path, run_id: str) -> None:
    """Make `folder` this run's own; raise ValueError with the reason where it cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise ValueError(
                f"'{folder}' is not empty; give each run a new folder, "
                "so that no result of another one is taken for its own"
            )
        # Two runs that start together both find it empty; only one can make the file.
        with (folder / "run.id").open("x", encoding="utf-8") as file:
            file.write(run_id + "\n")
    except OSError as error:
        raise ValueError(f"'{folder}' cannot be used: {error}") from error


def new_run_id() -> str:
    """Return an id that sorts by time and does not repeat."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


@dataclass(frozen=True, slots=True)
class Replay:
    """What becomes of the answers of models."""

    mode: str = "off"
    """off, record or strict."""
    answers: Path = Path(OUTPUT_ROOT) / ANSWERS_NAME
    """The file that answers are recorded in or taken from, or a run's output folder."""

    @property
    def strict(self) -> bool:
        """Nobody is asked."""
        return self.mode == "strict"


@dataclass(slots=True)
class Run:
    """What every process of the run agrees on; the output folder is made on first use."""

    id: str
    output: Path
    """Folder for reports, records and logs."""
    environment: str
    """Name of the chosen environment."""
    image: str | None = None
    """The version to release."""
    weight: int | None = None
    """Percent of the traffic of the one shift that a canary is to make; None: all phases."""
    duration: float | None = None
    """Seconds for which that shift is watched."""
    baseline: str | None = None
    """What the gates are held against, as --llmdeploy-baseline names it."""
    replay: Replay = Replay()
    """What becomes of the answers of models."""
    worker: str | None = None
    """xdist's id of this process, such as gw0; None in the controller or without xdist."""
    worker_count: int = 1
    """Number of processes that run items."""
    keep: bool = False
    """What the run provisions stays when it ends."""
    owner: int = field(default_factory=os.getpid)
    """Pid of the process that owns the run: the controller, or pytest itself without xdist."""

    def prepare(self) -> Path:
        """Make the output folder and return it; raise NotMeasuredError where that fails."""
        if not self.output.is_dir():
            root = self.output.parent
            try:
                self.output.mkdir(parents=True, exist_ok=True)
                if root.name == OUTPUT_ROOT and not (root / ".gitignore").exists():
                    (root / ".gitignore").write_text("*\n", encoding="utf-8")
            except OSError as error:
                raise NotMeasuredError(f"the output folder cannot be made: {error}") from error
        return self.output

    def to_worker(self) -> dict[str, Any]:
        """Return what a worker needs to be part of this run, as builtins."""
        return {"id": self.id, "output": str(self.output), "owner": self.owner}

    def announce_end(self) -> None:
        """Tell the workers that the controller does not wait for them any more."""
        if self.output.is_dir():
            (self.output / "ended").touch()

    def end_announced(self) -> bool:
        """Return whether the controller has ended the run before its time."""
        return (self.output / "ended").exists()

    @property
    def process_pulse_path(self) -> Path:
        """The lock that tells other processes of the run that this one lives."""
        return self.output / "processes" / f"{self.worker or 'main'}-{os.getpid()}.pulse"
