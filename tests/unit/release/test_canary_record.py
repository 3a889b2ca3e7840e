"""What a canary's result keeps of its settings and times."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, cast

from pytest_llmdeploy.config.canary import CanaryConfig
from pytest_llmdeploy.release.canary.state import CanaryState, Shift


class Named:
    """A router, as far as the record asks."""

    name = "Envoy of local"


def recorded(config: dict[str, Any], *shifts: Shift) -> dict[str, Any]:
    state = CanaryState(
        config=CanaryConfig.model_validate(config),
        router=cast("Any", Named()),
        make_figures=cast("Any", None),
        folder=Path("records"),
        control=Path("control"),
    )
    state.shifts.extend(shifts)
    return state.to_json()


def test_no_secret_is_kept_and_what_decides_is() -> None:
    prometheus = {"url": "http://hidden-1.example", "token": "hidden-2"}
    told = recorded(
        {
            "metrics": {"prometheus": {**prometheus, "headers": {"x-key": "hidden-3"}}},
            "router": {"header_value": "hidden-4"},
            "compare": {"error_rate": 0.04, "alpha": 0.01},
        }
    )
    assert "hidden" not in json.dumps(told)
    again = CanaryConfig.model_validate(told["config"])
    assert (again.compare.error_rate, again.compare.alpha) == (0.04, 0.01)


def test_times_of_shifts_are_those_of_the_calendar() -> None:
    now = time.monotonic()
    (shift,) = recorded({}, Shift(10, 10, now, now + 2))["shifts"]
    assert abs(shift["converged"] - shift["at"] - 2) < 1e-5
    assert shift["at"] > 1_500_000_000
    (unproven,) = recorded({}, Shift(10, 10, now))["shifts"]
    assert unproven["converged"] is None
