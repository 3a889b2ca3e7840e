"""Policies and figures for the tests of calibrations."""

from __future__ import annotations

from random import Random
from typing import Any

from pytest_llmdeploy.config.canary import CanaryConfig
from pytest_llmdeploy.release.canary.calibration.cases import CASES, Effect
from pytest_llmdeploy.release.canary.calibration.figures import Figures
from pytest_llmdeploy.release.canary.calibration.simulation import Place, Simulated, simulate

PLACE = Place(replicas=2, memory_bytes=2e9)
FIGURES = Figures.given(rate=100, error_rate=0.005, p50=0.2, p95=0.4, ttft_share=0.3)


def policy(**changes: Any) -> CanaryConfig:
    """Return a policy of two phases that 100 requests a second can satisfy."""
    return CanaryConfig.model_validate(
        {
            "phases": [
                {"weight": 20, "duration": 30, "max_duration": 60},
                {"weight": 50, "duration": 30, "max_duration": 60},
                {"weight": 100, "duration": 10},
            ],
            "sample_interval": 5,
            "look_interval": 1,
            "sla": {"cpu_usage": None, "memory_usage": None, "points": 2},
            **changes,
        }
    )


def simulated(
    case: str | Effect,
    config: CanaryConfig | None = None,
    figures: Figures = FIGURES,
    number: int = 60,
    seed: int = 1,
) -> Simulated:
    """Simulate canaries of a case."""
    effect = CASES[case].effect if isinstance(case, str) else case
    assert effect is not None
    return simulate(config or policy(), figures, effect, PLACE, number=number, random=Random(seed))
