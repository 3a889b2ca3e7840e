"""What servers and proxies call their metrics: each described once, for PromQL and for texts. Pure.

A preset says which counter counts requests, which label tells errors, which histograms hold
seconds (or what makes them seconds), and how the series of one version are told from the other's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from pytest_llmdeploy.ports import Subject

Pick = Literal["pod", "info", "cluster", "workload"]
"""How a version's series are known: by the replica that has them; by the version that the replica
says to have; by the proxy's cluster; by the mesh's name of the workload."""
INFO = "llm_service_info"
"""Gauge of 1 whose labels say which version and colour a replica is."""
_META = re.compile(r"[\\.+*?()|\[\]{}^$]")


def quoted(text: str) -> str:
    """Return a regular expression, for RE2 and for Python, that matches just this text."""
    return _META.sub(r"\\\g<0>", text)


@dataclass(frozen=True, slots=True)
class Match:
    """A condition on a label; one that is missing is the empty text, as in PromQL."""

    label: str
    pattern: str
    """Of the whole value; in the syntax that RE2 and Python have in common."""
    negative: bool = False

    def holds(self, labels: dict[str, str]) -> bool:
        """Whether labels fulfil it."""
        found = re.fullmatch(self.pattern, labels.get(self.label, ""), re.DOTALL) is not None
        return found != self.negative

    def promql(self) -> str:
        """Return it as PromQL."""
        text = self.pattern.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'{self.label}{"!~" if self.negative else "=~"}"{text}"'


@dataclass(frozen=True, slots=True)
class Family:
    """A metric: its names, of which the first that is there counts, and which of its series."""

    names: tuple[str, ...]
    where: tuple[Match, ...] = ()
    seconds: float = 1.0
    """Seconds of one unit of a histogram."""
    container: bool = False
    """The platform's own view of containers: only a Prometheus has it, and always by pod."""

    def buckets(self) -> Family:
        """Return the family of a histogram's buckets."""
        return Family(tuple(f"{name}_bucket" for name in self.names), self.where, self.seconds)


@dataclass(frozen=True, slots=True)
class Preset:
    """One server's, or one proxy's, metrics."""

    picks: tuple[Pick, ...]
    requests: Family
    error_labels: tuple[str, ...]
    """Labels of `requests`, of which the first that a series has tells whether it is errors."""
    errors: str
    """Pattern of the values that are errors."""
    latency: Family
    """Seconds until answers were whole; failed ones are among them."""
    ttft: Family | None = None
    itl: Family | None = None
    tokens: Family | None = None
    cpu: Family | None = None
    memory: Family | None = None

    @property
    def from_replicas(self) -> bool:
        """The replicas themselves have these metrics, not a proxy before them."""
        return "pod" in self.picks


_API = (Match("route", "/v1/.*"),)
_PROCESS_CPU = Family(("process_cpu_seconds_total",))
_PROCESS_MEMORY = Family(("process_resident_memory_bytes",))
_NO_SANDBOX = (Match("container", "POD|", negative=True),)
_CONTAINER_CPU = Family(("container_cpu_usage_seconds_total",), _NO_SANDBOX, container=True)
_CONTAINER_MEMORY = Family(("container_memory_working_set_bytes",), _NO_SANDBOX, container=True)
_PROBES = "/(metrics|health|healthz|ready|readyz|live|livez|ping)/?"
_NO_PROBES = tuple(Match(label, _PROBES, negative=True) for label in ("route", "handler", "path"))

PRESETS: dict[str, Preset] = {
    "reference": Preset(
        picks=("pod", "info"),
        requests=Family(("llm_requests_total",), _API),
        error_labels=("code",),
        errors="5..|429",
        latency=Family(("llm_request_duration_seconds",), _API),
        ttft=Family(("llm_time_to_first_token_seconds",)),
        itl=Family(("llm_inter_token_seconds",)),
        tokens=Family(("llm_completion_tokens_sum",)),
        cpu=_PROCESS_CPU,
        memory=_PROCESS_MEMORY,
    ),
    "http": Preset(
        picks=("pod",),
        requests=Family(("http_requests_total",), _NO_PROBES),
        error_labels=("code", "status", "status_code"),
        errors="5..|429",
        latency=Family(
            ("http_request_duration_seconds", "http_server_request_duration_seconds"), _NO_PROBES
        ),
        cpu=_PROCESS_CPU,
        memory=_PROCESS_MEMORY,
    ),
    "vllm": Preset(
        picks=("pod",),
        requests=Family(("http_requests_total",), (Match("handler", "/v1/.*"),)),
        error_labels=("status",),
        errors="5..|429",
        latency=Family(("vllm:e2e_request_latency_seconds",)),
        ttft=Family(("vllm:time_to_first_token_seconds",)),
        itl=Family(("vllm:inter_token_latency_seconds", "vllm:time_per_output_token_seconds")),
        tokens=Family(("vllm:generation_tokens_total",)),
        # The engine is another process than the one whose process_… metrics these would be.
        cpu=_CONTAINER_CPU,
        memory=_CONTAINER_MEMORY,
    ),
    "envoy": Preset(
        picks=("cluster",),
        requests=Family(("envoy_cluster_upstream_rq_xx",)),
        error_labels=("envoy_response_code_class", "response_code_class"),
        errors="5(xx)?",
        latency=Family(("envoy_cluster_upstream_rq_time",), seconds=0.001),
        cpu=_CONTAINER_CPU,
        memory=_CONTAINER_MEMORY,
    ),
    "istio": Preset(
        picks=("workload",),
        requests=Family(("istio_requests_total",)),
        error_labels=("response_code",),
        errors="5..|429|0",
        latency=Family(("istio_request_duration_milliseconds",), seconds=0.001),
        cpu=_CONTAINER_CPU,
        memory=_CONTAINER_MEMORY,
    ),
}


def subject_matches(
    pick: Pick, subject: Subject, pods: tuple[str, ...], namespace: str, service: str
) -> list[tuple[Match, ...]]:
    """Return the alternatives of conditions for a version's series; the first with series counts.

    None where the subject lacks what the pick needs. ``info`` has none: replicas are asked first.
    """
    color = quoted(subject.color)
    inside = quoted(namespace) if namespace else "[^.]+"
    if pick == "pod":
        if not pods:
            return []
        same = (Match("namespace", f"{quoted(namespace)}|"),) if namespace else ()
        return [(Match("pod", "|".join(quoted(pod) for pod in pods)), *same)]
    if pick == "cluster":
        subset_of = f"{quoted(service)}(-[a-z0-9-]+)?" if service else r"[^.|]+"
        backend = quoted(service) if service else r"[^.|]+"
        pattern = (
            rf"{color}|outbound\|[0-9]+\|{color}\|{subset_of}\.{inside}\.svc\..*"
            rf"|outbound\|[0-9]+\|\|{backend}-{color}\.{inside}\.svc\..*"
        )
        return [(Match(label, pattern),) for label in ("envoy_cluster_name", "cluster_name")]
    if pick == "workload":
        workload = f"{quoted(service) if service else '.+'}-{color}"
        place = (Match("destination_workload_namespace", quoted(namespace)),) if namespace else ()
        # Both ends of a request count it; the server's end does where it has a proxy.
        return [
            (Match("reporter", end), Match("destination_workload", workload), *place)
            for end in ("destination", "source")
        ]
    return []
