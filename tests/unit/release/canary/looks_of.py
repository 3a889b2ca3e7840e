"""Looks and sections for the tests of this folder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_llmdeploy.config.canary import CanaryConfig
from pytest_llmdeploy.ports import Buckets, Tally
from pytest_llmdeploy.release.canary.looks import (
    CANARY,
    NO_DATA,
    NOT_MEASURED,
    STABLE,
    Look,
    Missing,
    Value,
)

NOTHING = dict.fromkeys(
    ("error_rate", "latency_p95", "cpu_usage", "memory_usage", "latency_p99", "min_throughput")
)
"""An `sla` without a limit."""
UNEQUALLED = dict.fromkeys(("error_rate", "latency_p95"))
"""A `compare` without a comparison."""
DOWN = Missing(NOT_MEASURED, "Prometheus refused")
EMPTY = Missing(NO_DATA, "no series for errors")


def section(**settings: Any) -> CanaryConfig:
    """Return a section; phases at 10 and 100 % unless told otherwise."""
    phases = [{"weight": 10, "duration": 60}, {"weight": 100, "duration": 60}]
    return CanaryConfig.model_validate({"phases": phases} | settings)


def value(number: float, n: int | None = None) -> Value:
    return Value(number, "the query", "client", n)


def look(
    *,
    weight: int = 10,
    canary: Tally | Missing | None = None,
    stable: Tally | Missing | None = None,
    sample: Mapping[str, Value | Missing] | None = None,
    sent: tuple[int, int] = (0, 0),
    **more: Any,
) -> Look:
    """Return a look; `sent` is the canary's and the stable version's."""
    told = {CANARY: canary, STABLE: stable}
    return Look(
        phase=f"weight-{weight}",
        weight=weight,
        at=1000.0,
        elapsed=5.0,
        tallies={role: tally for role, tally in told.items() if tally is not None},
        source="client",
        sent={CANARY: sent[0], STABLE: sent[1]},
        sample=sample,
        **more,
    )


def tally(requests: int, errors: int = 0, latency: Buckets = (), ttft: Buckets = ()) -> Tally:
    return Tally(requests, errors, latency, ttft, "the query")
