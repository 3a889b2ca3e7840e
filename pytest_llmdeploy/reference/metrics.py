"""The service's own Prometheus metrics, in a registry of their own."""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST

__all__ = ["CONTENT_TYPE_LATEST", "Metrics"]

_TTFT_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 0.75, 1, 2, 5, 10, 30)
_GAP_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1, 5)
_LATENCY_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 5, 7.5, 10, 20, 30, 60)
_TOKEN_BUCKETS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)


class Metrics:
    """Counts of what the service answered; one object a process."""

    def __init__(self, version: str = "", color: str = "") -> None:
        self.registry = CollectorRegistry()
        # CPU seconds and resident bytes of this process, among others; Linux tells them.
        ProcessCollector(registry=self.registry)
        Gauge(
            "llm_service_info",
            "1; its labels say which version this is",
            ("version", "color"),
            registry=self.registry,
        ).labels(version, color).set(1)
        self.requests = Counter(
            "llm_requests",
            "Answered requests; code 499 is a client that left before its answer began",
            ("route", "code"),
            registry=self.registry,
        )
        self.latency = Histogram(
            "llm_request_duration_seconds",
            "Seconds from a request to the end of its answer",
            ("route",),
            buckets=_LATENCY_BUCKETS,
            registry=self.registry,
        )
        self.ttft = Histogram(
            "llm_time_to_first_token_seconds",
            "Seconds from a chat request's start in the engine to its first token",
            buckets=_TTFT_BUCKETS,
            registry=self.registry,
        )
        self.inter_token = Histogram(
            "llm_inter_token_seconds",
            "Seconds between two tokens of an answer, as the engine made them",
            buckets=_GAP_BUCKETS,
            registry=self.registry,
        )
        self.prompt_tokens = Histogram(
            "llm_prompt_tokens",
            "Tokens of a chat request's prompt",
            buckets=_TOKEN_BUCKETS,
            registry=self.registry,
        )
        self.completion_tokens = Histogram(
            "llm_completion_tokens",
            "Tokens of a chat request's answer",
            buckets=_TOKEN_BUCKETS,
            registry=self.registry,
        )
        self.in_flight = Gauge(
            "llm_requests_in_flight", "Requests to /v1 being answered", registry=self.registry
        )

    def render(self) -> bytes:
        """Return the text that Prometheus scrapes."""
        return generate_latest(self.registry)
