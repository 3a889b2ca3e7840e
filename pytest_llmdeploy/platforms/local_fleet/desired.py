"""What is wanted of a fleet: one JSON file, replaced as a whole under a lock."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from pytest_llmdeploy.errors import PlatformError
from pytest_llmdeploy.platforms.local_fleet.files import locked, read_json, write_json
from pytest_llmdeploy.ports import COLORS


@dataclass(frozen=True, slots=True)
class Probe:
    """How a replica is probed: as `config.release.ProbeConfig`."""

    path: str
    delay: float
    period: float
    timeout: float
    failures: int


@dataclass(frozen=True, slots=True)
class Template:
    """How a replica is run; replicas of one generation have the same."""

    image: str
    command: tuple[str, ...]
    """Empty where `error` says why there is none; {port} is replaced."""
    variables: Mapping[str, str]
    """On top of the supervisor's own environment."""
    readiness: Probe
    liveness: Probe
    pre_stop: float
    grace: float
    """Seconds between SIGTERM and SIGKILL."""
    error: str | None = None
    """Why the image cannot be run."""

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Template:
        """Return what `asdict` made a mapping of."""
        probes = {key: Probe(**value[key]) for key in ("readiness", "liveness")}
        return cls(**{**value, **probes, "command": tuple(value["command"])})


@dataclass(frozen=True, slots=True)
class Wanted:
    """What one colour shall be."""

    generation: int
    replicas: int


@dataclass(frozen=True, slots=True)
class HeaderRoute:
    """Requests that one colour gets for a header of theirs."""

    header: str
    value: str
    """Exactly that."""
    color: str


@dataclass(frozen=True, slots=True)
class Split:
    """How two colours share the traffic."""

    weights: Mapping[str, int]
    """Percent by colour; they sum to 100."""
    header: HeaderRoute | None = None
    """Goes before the weights."""

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Split:
        """Return what `asdict` made a mapping of."""
        header = value["header"]
        return cls(value["weights"], None if header is None else HeaderRoute(**header))


@dataclass(frozen=True, slots=True)
class Desired:
    """What the whole fleet shall be."""

    fleet: str
    """Id of this supervisor's life: generations of another one mean nothing here."""
    version: int
    """Grows with each change."""
    selector: str | None
    """Colour that the service's name leads to: it gets the traffic, where there is no split."""
    colors: Mapping[str, Wanted] = field(default_factory=dict)
    """By colour; one that is absent has no replicas."""
    templates: Mapping[int, Template] = field(default_factory=dict)
    """By generation, those of the past too: a rollback returns to them."""
    owners: tuple[int, ...] = ()
    """Pids of those who use the fleet; without a living one it ends after a while."""
    split: Split | None = None
    """Decides instead of the selector, as long as it is there."""

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Desired:
        """Return what `to_json` made a mapping of."""
        return cls(
            fleet=value["fleet"],
            version=value["version"],
            selector=value["selector"],
            colors={color: Wanted(**wanted) for color, wanted in value["colors"].items()},
            templates={
                int(generation): Template.from_json(template)
                for generation, template in value["templates"].items()
            },
            owners=tuple(value["owners"]),
            split=Split.from_json(split) if (split := value.get("split")) else None,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the value for the file."""
        return asdict(self)

    @property
    def weights(self) -> Mapping[str, int]:
        """Percent of the traffic by colour; all zero where no colour is to have any."""
        if self.split is not None:
            return self.split.weights
        return {color: 100 if color == self.selector else 0 for color in COLORS}

    def settled(self) -> Desired:
        """Return a state without the split, where that does no more than the selector."""
        split, alone = self.split, replace(self, split=None)
        if split is None or split.header is not None or split.weights != alone.weights:
            return self
        return alone

    def template(self, color: str) -> Template | None:
        """Return how a colour's replicas are run; None where there are none to be."""
        wanted = self.colors.get(color)
        return None if wanted is None else self.templates[wanted.generation]

    def with_template(self, color: str, template: Template, replicas: int) -> Desired:
        """Return a state in which `color` runs `template`: as it is, or as a new generation."""
        if (wanted := self.colors.get(color)) and self.templates[wanted.generation] == template:
            return self.with_color(color, replace(wanted, replicas=replicas))
        generation = max(self.templates, default=0) + 1
        new = replace(self, templates={**self.templates, generation: template})
        return new.with_color(color, Wanted(generation, replicas))

    def with_color(self, color: str, wanted: Wanted | None) -> Desired:
        """Return a state in which a colour is `wanted`; None removes it."""
        others = {name: each for name, each in self.colors.items() if name != color}
        return replace(self, colors=others if wanted is None else {**others, color: wanted})


class DesiredFile:
    """The file, and the lock under which it is changed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = path.with_suffix(".lock")

    def read(self) -> Desired | None:
        """Return what is wanted; None where nothing was ever."""
        value = read_json(self.path)
        return None if value is None else Desired.from_json(value)

    def create(self, desired: Desired) -> None:
        """Begin anew, whatever was there."""
        write_json(self.path, desired.to_json())

    def change(self, change: Callable[[Desired], Desired]) -> Desired:
        """Replace the state by what `change` makes of it, and return that with its new version.

        Nobody else writes in between, so `change` can compare what it finds with what it expects,
        and raise. A state that it returns unchanged is not written.
        """
        with locked(self._lock):
            before = self.read()
            if before is None:
                raise PlatformError(f"there is no fleet in {self.path.parent}")
            after = change(before)
            if after == before:
                return before
            after = replace(after, version=before.version + 1)
            write_json(self.path, after.to_json())
            return after
