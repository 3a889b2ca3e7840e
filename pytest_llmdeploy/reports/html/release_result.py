"""``result.json`` of a release, as far as the page shows it."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, ValidationError

from pytest_llmdeploy.reports.canary_record import Canary, Part


class Step(Part):
    """One step."""

    name: str
    verdict: str
    reason: str
    duration: float
    started: float = 0.0
    """Seconds since the epoch."""
    skipped: bool = False
    evidence: str | None = None


class Back(Part):
    """The way back."""

    succeeded: bool
    reason: str
    time_to_detect: float | None = None
    time_to_safe: float | None = None
    requests_exposed: int | None = None
    commands: tuple[str, ...] = ()


class Requests(Part):
    """What became of the requests."""

    n: int = 0
    lost: int = 0
    phases: dict[str, dict[str, int]] = Field(default_factory=dict)
    longest_gap: float = 0.0
    straddling: dict[str, int] = Field(default_factory=dict)
    moments: dict[str, float | None] = Field(default_factory=dict)
    timeline: dict[str, float | list[int]] = Field(default_factory=dict)


class Result(Part):
    """``result.json`` of a release."""

    success: bool
    previous_color: str | None
    new_color: str
    previous_image: str | None
    image: str
    duration: float
    timestamp: str
    steps: tuple[Step, ...]
    error: str | None = None
    rollback: Back | None = None
    traffic: Requests = Requests()
    canary: Canary = Canary()

    def step(self, name: str) -> Step | None:
        """Return a step by its name."""
        return next((step for step in self.steps if step.name == name), None)


def results(folder: Path) -> list[tuple[Path, Result | str]]:
    """Return the results below a folder, oldest first, each with its path; or why it is none."""
    found: list[tuple[Path, Result | str]] = []
    for path in sorted(folder.glob("*/result.json"), key=lambda path: path.stat().st_mtime):
        try:
            found.append((path, Result.model_validate_json(path.read_bytes())))
        except (OSError, ValidationError) as error:
            found.append((path, f"{path.name} cannot be read: {error}"))
    return found
