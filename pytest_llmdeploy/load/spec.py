"""What a load generator process is told: builtins only, as one line of JSON on its stdin."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from pytest_llmdeploy.config.objectives import Objective, parse_objective


@dataclass(frozen=True, slots=True)
class Target:
    """One version of the service."""

    url: str
    """Address of the chat completions route."""
    headers: Mapping[str, str]
    """Of every request; the key is among them."""
    model: str
    version_header: str | None = None
    color_header: str | None = None
    """Header in which what splits the traffic names the colour that it chose, in its own answers,
    too."""
    verify_tls: bool = True
    ca_file: str | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """A stretch of arrivals at `rate`, or on a ramp to `to`, per second."""

    rate: float
    to: float
    duration: float


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds; see config.load.TimeoutsConfig."""

    connect: float = 10.0
    first_token: float = 30.0
    idle: float = 30.0
    total: float = 120.0


@dataclass(frozen=True, slots=True)
class TrafficSpec:
    """Everything that decides about the traffic: same spec, same arrivals and same requests."""

    targets: tuple[Target, ...]
    steps: tuple[Step, ...] = ()
    """Open loop; empty for a trace, users or a locustfile."""
    arrivals: str = "poisson"
    burstiness: float = 1.0
    trace: tuple[float, ...] = ()
    """Arrivals to replay, in seconds since the start."""
    users: int = 0
    """Closed loop."""
    duration: float = 0.0
    """Seconds of closed-loop traffic."""
    think_time: float = 0.0
    locustfile: str | None = None
    host: str = ""
    """Address of the service, for the locustfile's users."""
    block: float | None = None
    """Seconds of one block, where two targets are compared in the order A B B A."""
    seed: int = 0
    warmup: float = 0.0
    prompts: tuple[Any, ...] = ()
    """Texts or lists of messages; empty for synthetic prompts."""
    words: int = 50
    shared_prefix: float = 0.0
    output_tokens: tuple[int, int] = (64, 64)
    long_stream_tokens: int = 512
    parameters: Mapping[str, Any] = field(default_factory=dict)
    streamed: float = 1.0
    turns: int = 1
    clients: Mapping[str, int] = field(default_factory=lambda: {"keep_alive": 1})
    timeouts: Timeouts = Timeouts()
    max_in_flight: int = 1000
    drain: float = 30.0
    objectives: tuple[str, ...] = ()
    """What is counted while the run goes on."""
    good: Mapping[str, float] = field(default_factory=dict)
    """Limits in seconds by metric, for goodput."""
    max_tokens_total: int | None = None
    """Completion tokens after which the run is stopped."""
    outcomes: bool = False
    """Tell of each request that has ended while the traffic goes on."""

    @property
    def open_loop(self) -> bool:
        """Requests are sent by a schedule."""
        return bool(self.steps or self.trace)

    def parsed_objectives(self) -> tuple[Objective, ...]:
        """Return the objectives, taken apart."""
        return tuple(parse_objective(text) for text in self.objectives)

    @property
    def traffic_duration(self) -> float:
        """Seconds from the start to the last moment at which a request may be intended."""
        if self.steps:
            return sum(step.duration for step in self.steps)
        return self.trace[-1] if self.trace else self.duration

    def cap_reached(self, tokens: int) -> str | None:
        """Return why a run that has cost so many completion tokens is stopped."""
        most = self.max_tokens_total
        if most is None or tokens < most:
            return None
        return f"the cap of {most} completion tokens was reached"

    def target_at(self, at: float) -> int:
        """Return which target a request intended at `at` goes to."""
        if self.block is None or len(self.targets) == 1:
            return 0
        return (0, 1, 1, 0)[int(at / self.block) % 4]


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """One process's share of the traffic."""

    traffic: TrafficSpec
    secrets: tuple[str, ...]
    """Texts that must not reach the ledger."""
    ledger: str
    """File that it writes."""
    result: str
    """File that it renames into place when it has ended well."""
    index: int = 0
    count: int = 1

    def to_json(self) -> str:
        """Return the line that the process reads."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, line: str) -> WorkerSpec:
        """Rebuild the spec in the process."""
        data = json.loads(line)
        traffic = data["traffic"]
        traffic["targets"] = tuple(Target(**target) for target in traffic["targets"])
        traffic["steps"] = tuple(Step(**step) for step in traffic["steps"])
        traffic["timeouts"] = Timeouts(**traffic["timeouts"])
        for name in ("trace", "prompts", "output_tokens", "objectives"):
            traffic[name] = tuple(traffic[name])
        data["secrets"] = tuple(data["secrets"])
        return replace(cls(**data), traffic=TrafficSpec(**traffic))
