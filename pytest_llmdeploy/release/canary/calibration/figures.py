"""What is known of the running version: how often it fails, how long it takes, how much it gets."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from statistics import NormalDist
from typing import Any

from pytest_llmdeploy.ports import Buckets, Tally
from pytest_llmdeploy.release.canary.looks import CANARY, STABLE, Look, Value

Bins = tuple[tuple[float, float, float], ...]
"""A distribution: lower edge and upper edge in seconds, and the part of the values between."""
WIDTH = 1.01
"""Ratio of a bin's edges, at least: finer ones change no verdict and cost time."""
DRAWN = ("error_rate", "latency_p95", "latency_p99", "ttft_p95", "truncated", "throughput")
"""Signals of `sla` that follow from drawn requests; others are taken from what was measured."""
_STEPS = 200


@dataclass(frozen=True, slots=True)
class Figures:
    """The running version, and the traffic."""

    rate: float
    """Requests per second, of both versions together."""
    error_rate: float
    latency: Bins
    ttft: Bins = ()
    """Empty where nothing streams."""
    gauges: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Samples of the signals that requests do not tell, such as memory_usage."""
    sources: Mapping[str, str] = field(default_factory=dict)
    """Who told each signal, and `tally`."""
    coarse: bool = False
    """The edges are those of a server's histogram, and a slower version keeps them."""
    answers: Mapping[str, int] | None = None
    """Pairs of a gate's answers: both, only_stable, only_canary, neither."""
    requests: int = 0
    """Requests behind them; 0 where they were given."""

    def to_json(self) -> dict[str, Any]:
        """Return builtins."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Figures:
        """Rebuild them; raise TypeError, ValueError or KeyError for what are none."""
        bins = {key: tuple(map(_bin, data[key])) for key in ("latency", "ttft")}
        gauges = {key: tuple(map(float, each)) for key, each in data["gauges"].items()}
        return cls(**{**data, **bins, "gauges": gauges})

    @classmethod
    def given(
        cls, rate: float, error_rate: float, p50: float, p95: float, ttft_share: float = 0.0
    ) -> Figures:
        """Return figures whose latency is lognormal with these quantiles, in seconds.

        With `ttft_share` the first token comes after that part of it. Raises ValueError.
        """
        if not (0 < rate < math.inf and 0 <= error_rate < 1 and 0 < p50 < p95 < math.inf):
            raise ValueError("figures need rate > 0, error_rate below 1, and 0 < p50 < p95")
        normal = NormalDist()
        sigma = math.log(p95 / p50) / normal.inv_cdf(0.95)
        edges = [normal.inv_cdf(step / _STEPS) for step in range(1, _STEPS)]
        times = [p50 * math.exp(sigma * z) for z in (-3.5, *edges, 3.5)]
        bins = tuple((low, high, 1 / _STEPS) for low, high in pairwise(times))
        ttft = tuple((ttft_share * low, ttft_share * high, part) for low, high, part in bins)
        return cls(rate, error_rate, bins, ttft if ttft_share else ())


def figures_of(looks: Iterable[Look]) -> Figures:
    """Return what an A/A canary measured, of both versions together, for they are one.

    Raises ValueError where it has no request.
    """
    last: dict[str, Look] = {}
    gauges: dict[str, list[float]] = defaultdict(list)
    sources: dict[str, str] = {}
    answers: Mapping[str, int] | None = None
    for look in looks:
        last[look.phase] = look
        if look.source:
            sources["tally"] = look.source
        if look.answers is not None and "both" in look.answers:
            answers = {k: v for k, v in look.answers.items() if isinstance(v, int)}
        for signal, value in (look.sample or {}).items():
            if isinstance(value, Value):
                sources[signal] = value.source
                if signal not in DRAWN:
                    gauges[signal].append(value.value)
    tallies = [
        tally
        for look in last.values()
        for role in (STABLE, CANARY)
        if isinstance(tally := look.tallies.get(role), Tally)
    ]
    requests, seconds = sum(t.requests for t in tallies), sum(x.elapsed for x in last.values())
    latency = _pooled(tally.latency for tally in tallies)
    if not requests or not seconds or not latency:
        raise ValueError("the A/A run has no request to take figures from")
    coarse = sources.get("tally") != "client"
    return Figures(
        rate=requests / seconds,
        error_rate=sum(tally.errors for tally in tallies) / requests,
        latency=_bins(latency, coarse=coarse),
        ttft=_bins(_pooled(tally.ttft for tally in tallies), coarse=coarse),
        gauges={signal: tuple(values) for signal, values in gauges.items()},
        sources=sources,
        coarse=coarse,
        answers=answers,
        requests=requests,
    )


def quantile(bins: Bins, q: float) -> float:
    """Return a quantile, interpolated in its bin; NaN without any."""
    seen = 0.0
    for low, high, part in bins:
        if part and seen + part >= q:
            return low + (high - low) * (q - seen) / part if math.isfinite(high) else low
        seen += part
    return bins[-1][0] if bins else math.nan


def _pooled(parts: Iterable[Buckets]) -> list[tuple[float, int]]:
    counts: dict[float, int] = defaultdict(int)
    for buckets in parts:
        for edge, count in buckets:
            counts[edge] += count
    return sorted(counts.items())


def _bins(buckets: list[tuple[float, int]], *, coarse: bool) -> Bins:
    """Return shares by both edges; fine buckets are merged up to `WIDTH`."""
    total = sum(count for _, count in buckets)
    found: list[tuple[float, float, float]] = []
    before = 0.0
    for edge, count in buckets:
        # A client's buckets are listed where there is something in them: their width is their own.
        low = before if coarse else edge / WIDTH**0.15
        before = edge
        if not coarse and found and edge <= found[-1][0] * WIDTH:
            found[-1] = (found[-1][0], edge, found[-1][2] + count / total)
        else:
            found.append((low, edge, count / total))
    return tuple(found)


def _bin(values: Any) -> tuple[float, float, float]:
    low, high, part = map(float, values)
    return low, high, part
