"""What stages need of the world, as protocols: adapters implement them, stages import them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from pytest_llmdeploy.config.canary import CanaryConfig

Message = Mapping[str, Any]
"""One chat message as the OpenAI API has it: ``{"role": …, "content": …}``."""


ENGINE_HEADER = "x-llm-engine"
"""Answer header in which the reference service names its engine."""
REFERENCE_VERSION_HEADER = "x-llm-version"
"""Answer header in which it names its version."""
COLOR_HEADER = "x-llmdeploy-color"
"""Answer header in which a router names the colour that it chose; in its own error answers, too."""
SCRIPTED = "scripted"
"""Its engine without a model."""


@dataclass(frozen=True, slots=True)
class Service:
    """A running LLM service."""

    url: str
    """Root address without a trailing slash; health paths are below it."""
    api_url: str
    """Root of the OpenAI-compatible routes, such as ``http://127.0.0.1:8000/v1``."""
    version: str | None = None
    """Version that the service named when it was found ready; None where it names none."""
    log_path: str | None = None
    """File with the output of the process that we started; None where we started none."""
    scripted: bool = False
    """The answers come from the reference service's scripted engine: no model was judged."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model said to one request."""

    text: str
    finish_reason: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    latency: float
    """Seconds of the attempt that was answered; earlier attempts and waits are not in it."""
    model: str
    version: str | None = None
    """Value of the service's version header."""
    attempts: int = 1
    extra: Mapping[str, Any] = field(default_factory=dict)
    """The rest of the message, such as tool_calls."""


class Model(Protocol):
    """A chat model behind an endpoint."""

    async def ask(
        self, messages: Sequence[Message], parameters: Mapping[str, Any], timeout: float
    ) -> Answer:
        """Return the answer; raise NotMeasuredError when `timeout` seconds an attempt are over."""
        ...

    async def aclose(self) -> None:
        """Release connections."""
        ...


class Platform(Protocol):
    """Where the service runs."""

    def service(self) -> Service:
        """Return the running service, started when needed; raise PlatformError if there is none."""
        ...


# What a release needs of the place where versions run.

BLUE = "blue"
GREEN = "green"
COLORS = (BLUE, GREEN)


def other_color(color: str | None) -> str:
    """Return the colour that a new version gets: the other one; green where blue or none runs."""
    return BLUE if color == GREEN else GREEN


@dataclass(frozen=True, slots=True)
class Pod:
    """One replica of a version."""

    name: str
    color: str
    image: str
    ready: bool
    """It passes its readiness probe, and may get traffic."""
    terminating: bool = False
    restarts: int = 0
    problem: str | None = None
    """What keeps it from becoming ready, such as ``ImagePullBackOff: …``; None where nothing."""
    digest: str | None = None
    """What exactly `image` was when the replica was made, where the platform tells it."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """How far a version's replicas have come."""

    desired: int
    updated: int
    """Replicas that have the wanted image and settings."""
    ready: int
    complete: bool
    """All wanted replicas run the wanted version and are available, and no other ones are left."""
    waiting_for: str
    """What it waits for, in a line: ``2 of 3 ready``."""
    failure: str | None = None
    """Why it will not complete, however long one waits."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address behind the service's name."""

    pod: str
    color: str | None
    """Colour of the pod; None where the address is no pod of ours."""
    ready: bool
    """It gets traffic."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a preflight check found."""

    name: str
    """Such as ``rights`` or ``capacity``."""
    text: str
    fatal: bool = False
    """The release must not begin."""


Snapshot = Mapping[str, Any]
"""The state of all that a release touches, as builtins: what a rollback returns to."""


class JournalStore(Protocol):
    """Where the journal of a release is kept, beside the run's folder, for another machine."""

    def read(self) -> list[dict[str, Any]]:
        """Return the entries of the latest release there; empty where there is none."""
        ...

    def append(self, entry: Mapping[str, Any]) -> None:
        """Add an entry, durably; raise PlatformError where that fails."""
        ...

    def clear(self) -> None:
        """Forget all entries."""
        ...


class Lock(Protocol):
    """Keeps two releases of one service apart."""

    def acquire(self, holder: str) -> None:
        """Take it and keep it alive; raise LockedError that names the holder."""
        ...

    def release(self) -> None:
        """Give it back; nothing where it is not held."""
        ...

    def steal(self, holder: str) -> str | None:
        """Take it whoever holds it; return who did."""
        ...


class Fleet(Protocol):
    """Versions of one service side by side, and which of them its users reach.

    Methods raise PlatformError for what the platform refuses or does not answer, ConflictError
    where somebody else changed what is about to be changed. All of them may be called again.
    """

    @property
    def journal(self) -> JournalStore:
        """The journal's copy that outlives this machine, or this run."""
        ...

    @property
    def lock(self) -> Lock:
        """What a release of this service holds."""
        ...

    def entry(self) -> Service:
        """Return the service as its users reach it; the stable version runs behind it."""
        ...

    def preflight(self, color: str, image: str) -> Sequence[Finding]:
        """Return what speaks against deploying `image` as `color`, and what is worth knowing."""
        ...

    def color(self) -> str | None:
        """Return the colour that the service's name leads to; None where it leads to none."""
        ...

    def image(self, color: str) -> str | None:
        """Return the image of a colour's replicas; None where nothing is deployed there."""
        ...

    def deploy(self, color: str, image: str, variables: Mapping[str, str]) -> None:
        """Create or update the replicas of a colour; returns before they are ready."""
        ...

    def rollout(self, color: str) -> Rollout:
        """Return how far the latest `deploy` or `scale` of a colour has come."""
        ...

    def pods(self, color: str) -> Sequence[Pod]:
        """Return the replicas of a colour, those that are terminating too."""
        ...

    def direct(self, pod: str) -> AbstractContextManager[str]:
        """Lead to one replica, whatever gets traffic: yields its root address."""
        ...

    def switch(self, old: str | None, new: str) -> None:
        """Let the service's name lead to `new`, provided that it leads to `old` now."""
        ...

    def endpoints(self) -> Sequence[Endpoint]:
        """Return the addresses that the service's name leads to now."""
        ...

    def scale(self, color: str, replicas: int) -> None:
        """Change the number of replicas; returns before that has happened."""
        ...

    def delete(self, color: str) -> None:
        """Remove a colour's replicas; they finish what they are answering. Returns at once."""
        ...

    def snapshot(self) -> Snapshot:
        """Return the present state of all that a release touches."""
        ...

    def restore_traffic(self, snapshot: Snapshot) -> None:
        """Let the service's name lead where the snapshot says; the first step of a rollback."""
        ...

    def restore_replicas(self, snapshot: Snapshot) -> None:
        """Bring both colours' replicas back to the snapshot; returns before they are ready."""
        ...

    def differences(self, snapshot: Snapshot) -> Sequence[str]:
        """Return in words how the present state differs from the snapshot; empty: not at all."""
        ...

    def commands(self, snapshot: Snapshot) -> Sequence[str]:
        """Return shell commands with which a person can bring the snapshot's state back."""
        ...

    def evidence(self, colors: Sequence[str]) -> Mapping[str, str]:
        """Return what tells why a step failed: file name to text. Never raises."""
        ...

    def close(self) -> None:
        """Release connections; what is deployed stays."""
        ...


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


@dataclass(frozen=True, slots=True)
class Subject:
    """One of the two versions that are compared."""

    role: str
    """``stable`` or ``canary``."""
    color: str
    version: str | None
    """What it calls itself in answers; None where it does not say."""
    pods: tuple[str, ...] = ()
    """Its ready replicas."""


Buckets = tuple[tuple[float, int], ...]
"""A distribution: upper edge (seconds, the last may be infinite) and number of values above the
edge before and up to this one; edges grow."""


@dataclass(frozen=True, slots=True)
class Tally:
    """What happened to a version's requests in a span of time."""

    requests: int
    errors: int
    latency: Buckets = ()
    """Seconds until answers were whole, those of failed requests left out; empty: not known."""
    ttft: Buckets = ()
    """Seconds until the first token of streamed answers; empty: not known."""
    query: str = ""
    """What was asked for it, for people."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One value of one signal."""

    value: float
    """Finite."""
    query: str
    """What was asked for it, for people."""
    n: int | None = None
    """Requests behind it, where it is about requests."""


class MetricsSource(Protocol):
    """Where figures about versions come from.

    Times are those of time.time(). What is asked but not there (no series, no request, stale, NaN)
    raises NoDataError; what could not be asked, or is ambiguous (several series), raises
    NotMeasuredError; both with the query in their text.
    """

    @property
    def name(self) -> str:
        """``client``, ``prometheus`` or ``scrape``."""
        ...

    def offers(self, signal: str) -> bool:
        """Whether it can tell this signal (`config.canary.SIGNALS`), or ``tally``."""
        ...

    def look(self, subjects: Sequence[Subject]) -> None:
        """Take note of what is now; called every `canary.look_interval` or more often."""
        ...

    def read(self, signal: str, subject: Subject, since: float, until: float) -> Reading:
        """Return a signal over a span of time."""
        ...

    def tally(self, subject: Subject, since: float, until: float) -> Tally:
        """Return what happened to the requests in a span of time."""
        ...

    def close(self) -> None:
        """Release connections."""
        ...


@dataclass(frozen=True, slots=True)
class RequestOutcome:
    """One request that has ended."""

    end: float
    """When it ended, on time.monotonic."""
    version: str | None
    """Who answered; None where no answer said."""
    ok: bool
    """It ended with a whole answer."""
    ended: str
    """How it ended, as in the ledger: ok, timeout, http_5xx, …"""
    latency: float | None
    """Seconds from sending to the end; None where it was not answered."""
    ttft: float | None = None
    """Seconds from sending to the first token; None where it was not streamed."""
    itl: float | None = None
    """Mean seconds between two tokens; None where it was not streamed."""
    tokens: int | None = None
    color: str | None = None
    """Where what splits the traffic sent it, as far as it says; known of failures, too."""
    sent: float | None = None
    """When it was sent, on time.monotonic; None where it was not."""


@dataclass(frozen=True, slots=True)
class TrafficProgress:
    """Requests so far."""

    intended: int
    ended: int
    failed: int
    """Those that ended otherwise than with a whole answer."""


class RunningTraffic(Protocol):
    """Requests that go on while something else happens."""

    def progress(self) -> TrafficProgress:
        """Return the requests so far; raise NotMeasuredError where the traffic has ended badly."""
        ...

    def outcomes(self) -> Sequence[RequestOutcome]:
        """Return the requests that have ended since the last call; raise as `progress`."""
        ...

    def finish(self) -> TrafficLedger:
        """Begin no more requests, let the open ones end, and return all of them."""
        ...


class TrafficLedger(Protocol):
    """Every request of a finished traffic, each of which ended once."""

    @property
    def zero(self) -> float:
        """Zero of the records' times, on time.monotonic."""
        ...

    @property
    def path(self) -> Path:
        """File of the records."""
        ...

    def records(self) -> Iterator[Mapping[str, Any]]:
        """Yield the requests in the order of their ends, with the keys of docs/load.md."""
        ...


class Traffic(Protocol):
    """A source of requests of which every one is accounted for."""

    def start(self) -> RunningTraffic:
        """Begin; returns when the first request is about to be sent. Raises NotMeasuredError."""
        ...
