"""The shape of the section ``load``: traffic, objectives, and what the run may cost."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_validator,
)

from pytest_llmdeploy.config.objectives import RATES, SHARES, Objective, parse_objective
from pytest_llmdeploy.config.section import Rate, Seconds, Section


def _no_boolean(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError(f"expected a number, got {str(value).lower()}")
    return value


# The section itself refuses true for plain numbers, but does not look into unions.
_NUMBER = BeforeValidator(_no_boolean)
PerSecond = Annotated[float, Field(gt=0, le=100_000, allow_inf_nan=False), _NUMBER]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False), _NUMBER]
SecondsOrNone = Annotated[Seconds | None, _NUMBER]
Weight = Annotated[int, Field(ge=0, le=1000)]
TRAFFIC = ("rate", "steps", "trace", "users", "locustfile")
"""Ways to say when requests are sent; a load run has one of them."""
DEFAULT_USERS = 10
DEFAULT_DURATION = 300.0
SHORTEST_PROBE = 6.0
"""Seconds of a capacity search's probe."""
FEWEST_TURNS = 10
"""Blocks in which two versions can be compared at least: five of each."""
LOCUSTFILE_METRICS = frozenset({"e2e", "error_rate", "throughput"})
"""What Locust's own events tell."""
OWN_KEYS = {"stream": "streamed", "messages": "prompts", "max_tokens": "max_tokens"}
"""Fields of a request that no parameter may set, and the key that does."""
STREAM_METRICS = frozenset({"ttft", "ttfr", "tpot", "itl"})
"""What only a stream shows."""


def _objective(text: str) -> str:
    return parse_objective(text).text


ObjectiveText = Annotated[str, AfterValidator(_objective)]


def _range(given: tuple[int, ...]) -> tuple[int, ...]:
    if len(given) != 2 or given[0] > given[1]:
        raise ValueError("expected [least, most] with least <= most")
    return given


OutputTokens = Annotated[
    Annotated[int, Field(ge=1), _NUMBER, Tag("number")]
    | Annotated[
        tuple[Annotated[int, Field(ge=1), _NUMBER], ...], AfterValidator(_range), Tag("range")
    ],
    Discriminator(lambda given: "range" if isinstance(given, list | tuple) else "number"),
]


class LoadLimits(Section):
    """The most that one load run may cost; a run that would cost more is not begun."""

    requests: int = Field(ge=1)
    """Requests."""
    tokens: int = Field(ge=1)
    """Completion tokens; a run that reaches them is stopped."""
    seconds: Seconds
    """Seconds of traffic."""


class RateStep(Section):
    """A stretch of open-loop traffic."""

    rate: NotNegative
    """Arrivals per second at its beginning."""
    to: NotNegative | None = None
    """Arrivals per second at its end, for a ramp; default: as at the beginning."""
    duration: Seconds
    """Seconds."""

    @model_validator(mode="after")
    def _some_arrivals(self) -> RateStep:
        if not self.rate and not self.to:
            raise ValueError("a step without arrivals has no use: give rate or to above 0")
        return self


class PromptsConfig(Section):
    """What is asked: texts of a file, or synthetic ones."""

    file: str | None = None
    """Text file (a prompt a line), or JSONL with `prompt` or `messages`; relative to this file."""
    words: int = Field(default=50, ge=1, le=100_000)
    """Length of a synthetic prompt, in common English words (about one token each)."""
    shared_prefix: Rate = 0.0
    """Share of a synthetic prompt that all have in common (prefix caches); the rest is unique."""


class ClientsConfig(Section):
    """Kinds of clients, by weight; each request is sent by one of them."""

    keep_alive: Weight = 1
    """Takes a connection that an earlier request left open."""
    new_connection: Weight = 0
    """Opens a connection for each request."""
    long_stream: Weight = 0
    """Streams long answers (`long_stream_tokens`), each over a connection of its own."""

    @model_validator(mode="after")
    def _some_client(self) -> ClientsConfig:
        if not (self.keep_alive or self.new_connection or self.long_stream):
            raise ValueError("at least one kind of client needs a weight above 0")
        return self


class TimeoutsConfig(Section):
    """When a client gives a request up; seconds, counted from when it was sent."""

    connect: Seconds = 10.0
    """Until the connection stands: name lookup, all addresses and TLS handshake together."""
    first_token: Seconds = 30.0
    """Until the first content of a stream; of an answer in one piece, until its headers."""
    idle: Seconds = 30.0
    """Between two pieces of an answer."""
    total: Seconds = 120.0
    """Until the answer is complete."""


class GoodConfig(Section):
    """What makes an answered request a good one, for the objective `goodput`."""

    ttft: SecondsOrNone = None
    """Longest time to the first token, in seconds."""
    tpot: SecondsOrNone = None
    """Longest mean time per output token after the first, in seconds."""
    e2e: SecondsOrNone = None
    """Longest time to the end of the answer, in seconds."""

    @model_validator(mode="after")
    def _some_limit(self) -> GoodConfig:
        if self.ttft is None and self.tpot is None and self.e2e is None:
            raise ValueError("give ttft, tpot or e2e")
        return self


class CompareConfig(Section):
    """What the run is compared with."""

    baseline: str | None = None
    """Folder of an earlier run's record (records/load/NAME), relative to this file."""
    url: str | None = Field(default=None, pattern=r"^https?://[^\s/?#]+(/[^\s?#]*)?$")
    """Address of the version to compare with; both get the traffic in turns (A B B A)."""
    metrics: tuple[str, ...] = ("ttft_p95", "e2e_p95")
    """Percentiles to compare."""
    max_increase: NotNegative = 0.1
    """Largest share by which a percentile may be above the other's."""
    blocks: int = Field(default=20, ge=8, le=1000)
    """Number of stretches of time that the comparison is made of."""

    @model_validator(mode="after")
    def _with_one(self) -> CompareConfig:
        if (self.baseline is None) == (self.url is None):
            raise ValueError(
                "give one of baseline (an earlier record) and url (a version that is up)"
            )
        if self.url and self.blocks < FEWEST_TURNS:
            raise ValueError(f"two versions that take turns need blocks: {FEWEST_TURNS} at least")
        return self

    @field_validator("metrics")
    @classmethod
    def _percentiles(cls, metrics: tuple[str, ...]) -> tuple[str, ...]:
        if not metrics:
            raise ValueError("needs at least one entry")
        if any(name in (*SHARES, *RATES) or name.startswith("itl") for name in metrics):
            raise ValueError("only percentiles of requests are compared, such as ttft_p95")
        names = tuple(parse_objective(f"{name} <= 1").name for name in metrics)
        if len(set(names)) < len(names):
            raise ValueError("a metric stands there twice; its name is a test's name")
        return names


class LoadConfig(Section):
    """One load run: its traffic, and what must hold under it."""

    rate: PerSecond | None = None
    """Arrivals per second, whatever the service does (open loop); with `find` where it begins."""
    steps: tuple[RateStep, ...] = ()
    """Stretches of different rates, and ramps, one after the other (open loop)."""
    trace: str | None = None
    """Recorded arrivals to replay: JSONL with `at` in seconds, or an earlier run's ledger."""
    users: Annotated[int, Field(ge=1, le=10_000), _NUMBER] | None = None
    """Users who each wait for an answer before they ask again (closed loop)."""
    locustfile: str | None = None
    """A locustfile of your own, relative to this file; `users` then says how many."""
    duration: Seconds = DEFAULT_DURATION
    """Seconds of traffic; steps and traces have their own."""
    arrivals: Literal["poisson", "constant", "gamma"] = "poisson"
    """How the gaps between arrivals are distributed."""
    burstiness: Annotated[float, Field(ge=0.05, le=100)] = 0.5
    """Shape of gamma gaps: 1 is Poisson, below 1 comes in bursts."""
    think_time: NotNegative = 0.0
    """Seconds that a user takes before the next question or turn."""
    turns: int = Field(default=1, ge=1, le=100)
    """Questions of one conversation; each one repeats what was said before it."""
    seed: int = Field(default=0, ge=0)
    """Same seed, same arrivals and same prompts."""
    warmup: NotNegative = 0.0
    """Seconds at the beginning whose requests are sent and recorded, but not judged."""
    prompts: PromptsConfig = PromptsConfig()
    """What is asked."""
    max_tokens: OutputTokens = 64
    """Longest answer in tokens, or [least, most] to draw it from."""
    long_stream_tokens: int = Field(default=512, ge=1)
    """Longest answer of the long-stream clients, in tokens."""
    parameters: dict[str, Any] = {}
    """Further fields of the requests, such as temperature or ignore_eos."""
    streamed: Rate = 1.0
    """Share of the requests that stream."""
    clients: ClientsConfig = ClientsConfig()
    """Kinds of clients."""
    timeouts: TimeoutsConfig = TimeoutsConfig()
    """When a client gives up."""
    max_in_flight: int = Field(default=1000, ge=1, le=50_000)
    """Requests open at once; an arrival beyond them is counted as dropped, which is a failure."""
    drain: NotNegative = 30.0
    """Seconds after the last arrival until what is still open is cut."""
    processes: int = Field(default=1, ge=1, le=64)
    """Load generator processes."""
    max_processes: Annotated[int, Field(ge=1, le=64), _NUMBER] | None = None
    """How many may be started where fewer do not keep up; default: `processes`."""
    self_check: NotNegative = 2.0
    """Seconds for which the generator is measured against a mock before the run; 0: not at all."""
    max_dispatch_lag: SecondsOrNone = None
    """Seconds by which the generator may be late (99th percentile) before it is no measurement;
    default: 0.05, or a fifth of the strictest latency limit where that is less."""
    objectives: tuple[ObjectiveText, ...] = ("error_rate <= 0.05", "e2e_p95 <= 5")
    """What must hold; each is one test."""
    good: GoodConfig | None = None
    """What makes a request a good one, for goodput."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """Confidence with which an objective must hold, or be missed."""
    find: Literal["max_rate"] | None = None
    """Search the highest rate at which the objectives hold."""
    max_rate: PerSecond = 1000.0
    """Where the search ends."""
    min_rate: PerSecond | None = None
    """Rate that the search must find at least; without it the number itself is the result."""
    precision: Annotated[float, Field(ge=0.01, le=1)] = 0.1
    """Width of the interval that the search narrows the rate down to, as a share of it."""
    confirm: bool = False
    """After the search, run just below and just above what it found."""
    compare: CompareConfig | None = None
    """Compare with an earlier record or another version."""

    @property
    def parsed_objectives(self) -> tuple[Objective, ...]:
        """The objectives, taken apart."""
        return tuple(parse_objective(text) for text in self.objectives)

    @property
    def open_loop(self) -> bool:
        """Requests are sent by a schedule that does not wait for answers."""
        return self.rate is not None or bool(self.steps) or self.trace is not None

    @property
    def output_tokens(self) -> tuple[int, int]:
        """Least and most tokens of an answer."""
        given = self.max_tokens
        return (given, given) if isinstance(given, int) else (given[0], given[1])

    @field_validator("parameters")
    @classmethod
    def _no_own_keys(cls, parameters: dict[str, Any]) -> dict[str, Any]:
        for name in parameters.keys() & OWN_KEYS.keys():
            raise ValueError(f"{name} has a key of its own: {OWN_KEYS[name]}")
        return parameters

    @field_validator("objectives")
    @classmethod
    def _each_metric_once(cls, objectives: tuple[str, ...]) -> tuple[str, ...]:
        if not objectives:
            raise ValueError("needs at least one entry, or nothing is judged")
        names = [parse_objective(text).name for text in objectives]
        if len(set(names)) < len(names):
            raise ValueError("a metric stands there twice; its name is a test's name")
        return objectives

    @model_validator(mode="after")
    def _traffic(self) -> LoadConfig:
        ways = [key for key in TRAFFIC if getattr(self, key) not in (None, ())]
        if len(ways) > 1 and set(ways) != {"users", "locustfile"}:
            raise ValueError(f"give one of {', '.join(TRAFFIC)}, not {' and '.join(ways)}")
        if self.max_processes is not None and self.max_processes < self.processes:
            raise ValueError("max_processes must be at least processes")
        length = sum(step.duration for step in self.steps) or self.duration
        if not self.trace and self.warmup >= length:
            raise ValueError("warmup takes the whole traffic: nothing would be judged")
        return self

    @model_validator(mode="after")
    def _search(self) -> LoadConfig:
        if self.find is None:
            if self.min_rate is not None:
                raise ValueError("min_rate is what a search must find: it needs find: max_rate")
            if self.confirm:
                raise ValueError("confirm is for what a search found: it needs find: max_rate")
            return self
        if self.rate is None:
            raise ValueError("find: max_rate needs rate: where the search begins")
        if self.duration < SHORTEST_PROBE:
            raise ValueError(
                f"find needs a duration of {SHORTEST_PROBE:g} s at least for each of its probes: "
                "less does not show whether a backlog grows"
            )
        if self.compare:
            raise ValueError("give find or compare; a comparison needs one given rate")
        for name, rate in (("rate", self.rate), ("min_rate", self.min_rate or 0.0)):
            if rate > self.max_rate:
                raise ValueError(f"{name} {rate:g} is above max_rate {self.max_rate:g}")
        return self

    @model_validator(mode="after")
    def _judgeable(self) -> LoadConfig:
        metrics = {objective.metric for objective in self.parsed_objectives}
        if "goodput" in metrics and self.good is None:
            raise ValueError("goodput needs good: the limits that make a request a good one")
        if self.compare and self.compare.url and not self.open_loop:
            raise ValueError(
                "two versions are compared under the same arrivals: give rate, steps or trace"
            )
        if self.compare and self.compare.url and metrics & set(RATES):
            raise ValueError("half of the traffic goes to the other version: judge no rate")
        if self.compare:
            metrics |= {name.rpartition("_p")[0] for name in self.compare.metrics}
        if self.locustfile and not metrics <= LOCUSTFILE_METRICS:
            beyond = ", ".join(sorted(metrics - LOCUSTFILE_METRICS))
            raise ValueError(
                f"a locustfile's events do not tell {beyond}; "
                f"they tell {', '.join(sorted(LOCUSTFILE_METRICS))}"
            )
        if self.good:
            metrics |= self.good.model_dump(exclude_none=True).keys()
        unseen = sorted(metrics & STREAM_METRICS)
        if self.streamed == 0 and unseen:
            raise ValueError(f"without streams there is no {' or '.join(unseen)}")
        return self
