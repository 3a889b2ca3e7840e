"""What is refused before any user meets the new version, and what is watched when they do."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pytest_llmdeploy.config.canary import CanaryConfig
from pytest_llmdeploy.errors import NotMeasuredError, PlatformError
from pytest_llmdeploy.ports import Pod
from pytest_llmdeploy.release.canary import steps, vigil
from pytest_llmdeploy.release.canary.shifting import _check_sources
from pytest_llmdeploy.release.state import Outcome, Release, StepFailedError


def canary(**settings: Any) -> Any:
    """Return what the canary works with, as far as these ask."""
    return SimpleNamespace(
        config=CanaryConfig.model_validate(settings),
        resumed_at=None,
        restarts={"new-1": 0},
        unready_since={},
    )


def release(state: Any, **fleet: Any) -> Release:
    found = SimpleNamespace(canary=state, new="green", fleet=SimpleNamespace(**fleet))
    return cast("Release", found)


class Source:
    """A source of some signals."""

    name = "client"

    def __init__(self, *signals: str) -> None:
        self._signals = signals

    def offers(self, signal: str) -> bool:
        return signal in self._signals


def figures(*signals: str) -> Any:
    source = Source(*signals)
    return SimpleNamespace(
        sources=[source], source=lambda signal: source if source.offers(signal) else None
    )


def test_a_limit_that_nothing_tells_of_is_refused_before_a_weight() -> None:
    state = canary()
    state.figures = figures("error_rate", "latency_p95")
    with pytest.raises(NotMeasuredError) as caught:
        _check_sources(state)
    assert str(caught.value) == (
        "nothing tells cpu_usage, memory_usage of canary.sla (sources: client): give "
        "canary.metrics another preset, source or query, or set these limits to null"
    )
    state.figures = figures("error_rate", "latency_p95", "cpu_usage", "memory_usage")
    _check_sources(state)


@pytest.mark.parametrize(
    ("settings", "resumed", "refused"),
    [
        ({}, None, False),
        ({"phases": [{"weight": 100, "duration": 9}]}, None, True),
        ({"phases": [{"weight": 100, "duration": 9}]}, 50, False),
        (
            {
                "phases": [{"weight": 100, "duration": 9}],
                "compare": {"promote_on": "no-regression"},
            },
            None,
            False,
        ),
    ],
)
def test_all_traffic_at_once_shows_nothing(
    settings: dict[str, Any], resumed: int | None, refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "preflight", lambda _release: Outcome("it may begin"))
    state = canary(**settings)
    state.resumed_at = resumed
    act = steps.canary_steps(state.config)["preflight"]
    if not refused:
        assert act(release(state, color=lambda: "blue")).reason == "it may begin"
        return
    with pytest.raises(PlatformError, match="at weight 100 there is no other version to compare"):
        act(release(state, color=lambda: "blue"))


def test_a_replica_that_stays_unready_is_a_failure_and_a_moment_is_none() -> None:
    state = canary(converge_timeout=60)
    pods = [Pod("new-1", "green", "image", ready=False, problem="probe failed")]
    watched = release(state, pods=lambda _color: pods)
    vigil.check_replicas(watched)
    assert "new-1" in state.unready_since
    pods[:] = [Pod("new-1", "green", "image", ready=True)]
    vigil.check_replicas(watched)
    assert state.unready_since == {}
    pods[:] = [Pod("new-1", "green", "image", ready=False, problem="probe failed")]
    vigil.check_replicas(watched)
    state.unready_since["new-1"] = time.monotonic() - 61
    with pytest.raises(StepFailedError) as caught:
        vigil.check_replicas(watched)
    assert str(caught.value) == (
        "replica new-1 has not been ready for 60 s (canary.converge_timeout): probe failed"
    )
