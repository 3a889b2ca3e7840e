"""How late the generator may be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_llmdeploy.load.controller import TrafficResult
from pytest_llmdeploy.load.selfcheck import allowed_lag, lateness, tolerated_error
from pytest_llmdeploy.load.spec import TrafficSpec


def spec(*objectives: str, **more: Any) -> TrafficSpec:
    return TrafficSpec(targets=(), objectives=objectives, **more)


@pytest.mark.parametrize(
    ("traffic", "lag", "error"),
    [
        (spec("error_rate <= 5%"), 0.05, 0.05),
        (spec("ttft_p95 <= 10 s"), 0.05, 0.5),
        (spec("ttft_p95 <= 100 ms", "e2e_p95 <= 10 s"), 0.02, 0.005),
        (spec("itl_p95 <= 60 ms", "e2e_p95 <= 10 s"), 0.012, 0.005),
        (spec("tpot_p95 <= 150 ms"), 0.03, 0.0075),
        (spec("ttft_p95 <= 1 ms"), 0.005, 0.005),
        (spec("goodput >= 95%", good={"tpot": 0.04, "e2e": 4.0}), 0.008, 0.005),
        (spec("throughput >= 0.001"), 0.05, 0.05),
    ],
)
def test_the_generator_may_be_late_by_what_the_strictest_limit_bears(
    traffic: TrafficSpec, lag: float, error: float
) -> None:
    assert allowed_lag(traffic, None) == pytest.approx(lag)
    assert tolerated_error(traffic, lag) == pytest.approx(error)


def test_what_the_user_says_is_what_may_be() -> None:
    assert allowed_lag(spec("ttft_p95 <= 1 ms"), 2.0) == 2.0


def test_lateness() -> None:
    result = TrafficResult(Path(), started=0.0, duration=1.0, intended=1, processes=1)
    assert lateness(result, 0.01) is None
    result.loop_lag.add(0.03)
    assert lateness(result, 0.04) is None
    assert lateness(result, 0.01) == "its loop woke up late: lag p99 30 ms (10 ms may be)"
    result.dispatch_lag.add(0.02)
    assert lateness(result, 0.01) == (
        "requests were sent late: dispatch lag p99 20 ms (10 ms may be)"
    )
    result.cpu = 0.95
    assert lateness(result, 0.04) == "a process used 95% of its core"
