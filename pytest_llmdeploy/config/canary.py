"""The section ``canary``: phases, what they are judged by, and how traffic is split."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from pytest_llmdeploy.config.load import NotNegative
from pytest_llmdeploy.config.release import TrafficConfig
from pytest_llmdeploy.config.section import HeaderName, HeaderValue, Name, Rate, Seconds, Section

Weight = Annotated[int, Field(ge=1, le=100)]
Share = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]
Increase = Annotated[float, Field(gt=0, le=10, allow_inf_nan=False)]
ResourceName = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$")]
Source = Literal["client", "prometheus", "scrape"]
Preset = Literal["reference", "http", "vllm", "envoy", "istio"]
SIGNALS = (
    "error_rate",
    "latency_p50",
    "latency_p95",
    "latency_p99",
    "ttft_p50",
    "ttft_p95",
    "itl_p95",
    "truncated",
    "tokens_per_second",
    "throughput",
    "cpu_usage",
    "memory_usage",
)
"""All that can be measured of a version: shares, seconds, per second, and shares of limits."""


class PhaseConfig(Section):
    """One weight, and for how long it is watched."""

    weight: Weight
    """Percent of the requests that the new version gets."""
    duration: Seconds
    """Seconds for which it is watched, from the moment at which the split was proven."""
    max_duration: Seconds | None = None
    """Seconds after which a phase that is still inconclusive ends; default: twice `duration`."""
    approve: Literal["file", "env", "exit"] | None = None
    """Wait for a person before the next phase: for a file, for LLMDEPLOY_APPROVE, or by ending
    the run, which a later one goes on with."""

    @property
    def name(self) -> str:
        """The name of the phase's test."""
        return f"weight-{self.weight}"

    @property
    def longest(self) -> float:
        """Seconds after which it ends, whatever is known."""
        return self.max_duration or 2 * self.duration

    @model_validator(mode="after")
    def _grows(self) -> PhaseConfig:
        if self.max_duration is not None and self.max_duration < self.duration:
            raise ValueError("max_duration must not be shorter than duration")
        return self


class SlaConfig(Section):
    """Limits of the new version by itself; null leaves a signal out."""

    error_rate: Rate | None = 0.05
    """Largest share of failed requests."""
    latency_p95: Seconds | None = 5.0
    """Largest 95th percentile of the seconds until an answer is whole."""
    latency_p99: Seconds | None = None
    """Largest 99th percentile of them."""
    ttft_p95: Seconds | None = None
    """Largest 95th percentile of the seconds until the first token."""
    itl_p95: Seconds | None = None
    """Largest 95th percentile of the seconds between two tokens."""
    truncated: Rate | None = None
    """Largest share of streams that ended without their end."""
    cpu_usage: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = 0.85
    """Largest share of the CPU limit, the replicas' mean."""
    memory_usage: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = 0.90
    """Largest share of the memory limit, the largest replica's."""
    min_throughput: NotNegative | None = None
    """Fewest requests per second."""
    points: int = Field(default=5, ge=1, le=1000)
    """The mean of so many latest samples is judged."""

    @property
    def limits(self) -> dict[str, float]:
        """The limits that are set, by key; one that begins with `min_` is the least."""
        keys = (key for key in type(self).model_fields if key != "points")
        return {key: value for key in keys if (value := getattr(self, key)) is not None}

    @property
    def signals(self) -> list[str]:
        """The signals that have a limit."""
        return [key.removeprefix("min_") for key in self.limits]


class CompareConfig(Section):
    """How much worse than the running version the new one may be, over the same time."""

    error_rate: Increase | None = 0.02
    """Largest increase of the share of failed requests: 0.02 is two of a hundred more."""
    latency_p95: Increase | None = 0.25
    """Largest relative increase of the 95th percentile: 0.25 is a quarter slower."""
    latency_p50: Increase | None = None
    """Largest relative increase of the median."""
    ttft_p95: Increase | None = None
    """Largest relative increase of the 95th percentile of the time to the first token."""
    ttft_p50: Increase | None = None
    """Largest relative increase of its median."""
    alpha: Share = 0.05
    """Probability that a version which is no worse is rolled back: over all phases, signals and
    looks together."""
    min_requests: int = Field(default=50, ge=1)
    """Requests of each version in a phase below which nothing passes."""
    promote_on: Literal["non-inferior", "no-regression"] = "non-inferior"
    """What must be shown before the version gets all traffic: that it is no worse by more than
    that, or only that nothing says it is."""
    prove_from: Weight | None = None
    """Weight from which on a phase must show it; phases below need `min_requests` and nothing that
    says it is worse. Default: the largest weight below 100."""

    @property
    def signals(self) -> dict[str, float]:
        """The compared signals and their margins."""
        names = ("error_rate", "latency_p50", "latency_p95", "ttft_p50", "ttft_p95")
        return {name: value for name in names if (value := getattr(self, name)) is not None}


class RouterConfig(Section):
    """What splits the traffic."""

    kind: Literal["envoy", "istio", "gateway-api", "replicas"] | None = None
    """envoy: this machine's; istio: a VirtualService; gateway-api: an HTTPRoute; replicas: the
    Service and numbers of replicas, where there is no mesh. Default: envoy on this machine,
    replicas on Kubernetes."""
    route: ResourceName | None = None
    """Name of the VirtualService or HTTPRoute; default: blue_green.name. Made where missing."""
    rules: tuple[str, ...] = ()
    """Names of the rules in it to change; needed where it has several."""
    destination_rule: ResourceName | None = None
    """Name of the DestinationRule (istio); default: blue_green.name. Made where missing."""
    hosts: tuple[str, ...] = ()
    """Hosts of a route that is made; default: the Service's own (istio), any (gateway-api)."""
    gateways: tuple[str, ...] = ()
    """Gateways of a route that is made, such as NAMESPACE/NAME; default: the mesh (istio)."""
    header: HeaderName | None = "canary"
    """Requests with this header go to the new version; null: no such rule."""
    header_value: HeaderValue = "true"
    """Value that the header must have."""


class PrometheusConfig(Section):
    """A Prometheus that watches the service."""

    url: str | None = Field(default=None, pattern=r"^https?://[^\s?#@]+$")
    """Address of its API, without a user; or give service."""
    service: str | None = Field(
        default=None, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?/[a-z0-9]([-a-z0-9]*[a-z0-9])?:\d+$"
    )
    """NAMESPACE/SERVICE:PORT in the cluster, reached through a port-forward."""
    token: HeaderValue | None = None
    """Bearer token; write ${VARIABLE}."""
    headers: dict[HeaderName, HeaderValue] = {}
    """Further request headers."""
    verify_tls: bool = True
    """Verify its certificate."""
    ca_file: str | None = None
    """PEM file of the authority that signed it, relative to this file."""
    timeout: Seconds = 10.0
    """Seconds for one query."""
    scrape_interval: Seconds = 15.0
    """Seconds between its scrapes: what is older than two of them is stale."""

    @model_validator(mode="after")
    def _one_address(self) -> PrometheusConfig:
        if (self.url is None) == (self.service is None):
            raise ValueError("give one of url and service")
        return self


class MetricsConfig(Section):
    """Where figures about versions come from."""

    sources: tuple[Source, ...] | None = None
    """Asked in this order for each signal: client (the requests of this run), prometheus, scrape
    (/metrics of each replica). Default: prometheus where it is given, else client; then scrape."""
    preset: Preset = "reference"
    """Names of the metrics: of the reference service, of plain http servers, vLLM, Envoy, Istio."""
    prometheus: PrometheusConfig | None = None
    """The Prometheus."""
    queries: dict[str, str] = {}
    """PromQL of your own by signal; {{version}}, {{color}}, {{role}}, {{pods}}, {{namespace}},
    {{service}} and {{window}} are filled in."""
    path: str = Field(default="/metrics", pattern=r"^/\S*$")
    """Path of a replica's metrics."""

    @model_validator(mode="after")
    def _known(self) -> MetricsConfig:
        if unknown := sorted(set(self.queries) - set(SIGNALS)):
            raise ValueError(
                f"queries names {', '.join(unknown)}; signals are {', '.join(SIGNALS)}"
            )
        if "prometheus" in (self.sources or ()) and self.prometheus is None:
            raise ValueError("the source prometheus needs prometheus: {url: …}")
        return self

    @property
    def order(self) -> tuple[Source, ...]:
        """The sources in the order in which they are asked."""
        first: Source = "client" if self.prometheus is None else "prometheus"
        return self.sources or (first, "scrape")


class WarmUpConfig(Section):
    """Requests to new replicas before they get traffic."""

    requests: int = Field(default=5, ge=0)
    """Requests to each replica, one after the other; 0: none."""
    timeout: Seconds = 60.0
    """Seconds for one of them."""


class QualityConfig(Section):
    """Cases of a gate asked of both versions, in pairs."""

    gate: Name
    """The gate whose cases are asked."""
    cases: int | None = Field(default=None, ge=1)
    """The first so many of them; default: all."""
    max_regression: Share = 0.05
    """Largest decrease of the pass rate."""
    alpha: Share = 0.05
    """Probability of a wrong verdict."""
    phase: Weight | None = None
    """Weight of the phase in which they are asked; default: the first."""


class CanaryConfig(Section):
    """Gives a new version a growing share of the traffic, judged at each step."""

    image: str | None = None
    """Image to release; default: that of the run. For a rehearsal in which a blue/green release
    takes the run's own first; not for a protected environment."""
    phases: tuple[PhaseConfig, ...] = Field(
        default=(
            PhaseConfig(weight=5, duration=300.0),
            PhaseConfig(weight=25, duration=600.0),
            PhaseConfig(weight=50, duration=600.0),
            PhaseConfig(weight=100, duration=300.0),
        ),
        min_length=1,
    )
    """Weights, in order; after the last the new version is promoted."""
    sample_interval: Seconds = 30.0
    """Seconds between two samples of the signals of `sla`, and the window of each; of a Prometheus
    the window is four scrapes at least."""
    look_interval: Seconds = 5.0
    """Seconds between two looks at the comparison."""
    sla: SlaConfig = SlaConfig()
    """Limits of the new version by itself."""
    compare: CompareConfig = CompareConfig()
    """Limits of the new version beside the running one."""
    inconclusive: Literal["rollback", "hold"] = "rollback"
    """What becomes of the traffic where a phase stays inconclusive until its max_duration: back to
    the running version, or held at the phase's weight until a person decides."""
    warm_up: WarmUpConfig = WarmUpConfig()
    """Requests before the first weight."""
    router: RouterConfig = RouterConfig()
    """What splits the traffic."""
    metrics: MetricsConfig = MetricsConfig()
    """Where figures come from."""
    quality: QualityConfig | None = None
    """Compare the versions' answers, too."""
    traffic: TrafficConfig | None = None
    """The requests of this run; default: blue_green.traffic."""
    converge_timeout: Seconds = 60.0
    """Seconds until the served split must agree with a weight."""
    split_tolerance: Share = 0.1
    """How far the proven split may be from the weight: 0.1 is ten points."""
    approve_timeout: Seconds = 3600.0
    """Seconds for which a phase waits for its approval."""

    @model_validator(mode="after")
    def _something_is_judged(self) -> CanaryConfig:
        alone = any(phase.weight == 100 for phase in self.phases)
        if not self.sla.limits and (alone or not self.compare.signals):
            raise ValueError(
                "sla needs a limit: at weight 100 there is no other version to compare with"
            )
        return self

    @model_validator(mode="after")
    def _weights_grow(self) -> CanaryConfig:
        weights = [phase.weight for phase in self.phases]
        if weights != sorted(set(weights)):
            raise ValueError("the weights of the phases must grow")
        return self

    @model_validator(mode="after")
    def _quality_has_its_phase(self) -> CanaryConfig:
        weight = None if self.quality is None else self.quality.phase
        if weight is not None and weight not in [phase.weight for phase in self.phases]:
            raise ValueError(f"quality.phase is {weight}, and no phase has that weight")
        return self

    @property
    def prove_from(self) -> int:
        """Return the weight from which on it must be shown that the version is no worse."""
        below = [phase.weight for phase in self.phases if phase.weight < 100]
        return self.compare.prove_from or max(below, default=1)

    def must_prove(self, weight: int) -> bool:
        """Return whether a phase has to show that the version is no worse, not only no sign."""
        return self.compare.promote_on == "non-inferior" and weight >= self.prove_from

    @property
    def answers_weight(self) -> int | None:
        """Return the weight of the phase in which answers are compared; None without quality."""
        return None if self.quality is None else self.quality.phase or self.phases[0].weight

    @property
    def alpha_each(self) -> float:
        """Return the part of alpha that each comparison of each phase has (Bonferroni)."""
        compared = sum(phase.weight < 100 for phase in self.phases)
        return self.compare.alpha / max(1, len(self.compare.signals) * compared)


def one_shift(config: CanaryConfig, weight: int, duration: float | None) -> CanaryConfig:
    """Return the section with one phase: the shift of `--llmdeploy-weight`, 300 s by default."""
    known = next((phase for phase in config.phases if phase.weight == weight), None)
    phase: dict[str, Any] = {"weight": weight, "duration": duration or 300.0}
    if known is not None:
        phase = known.model_dump() if duration is None else phase | {"approve": known.approve}
    compare, quality = config.compare.model_copy(update={"prove_from": config.prove_from}), None
    if config.quality is not None and config.quality.phase in (None, weight):
        quality = config.quality
    update = {"phases": (PhaseConfig(**phase),), "compare": compare, "quality": quality}
    return config.model_copy(update=update)
