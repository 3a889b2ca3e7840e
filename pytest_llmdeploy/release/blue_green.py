"""The steps of a blue/green release."""

from __future__ import annotations

from collections.abc import Mapping

from pytest_llmdeploy.release.prepare import (
    check_health,
    check_smoke,
    deploy,
    preflight,
    roll_out,
)
from pytest_llmdeploy.release.prove import clean_up, converge, prove_no_loss, switch, watch
from pytest_llmdeploy.release.state import Act

STEPS: Mapping[str, Act] = {
    "preflight": preflight,
    "deploy": deploy,
    "rollout": roll_out,
    "health": check_health,
    "smoke": check_smoke,
    "switch": switch,
    "converged": converge,
    "watch": watch,
    "zero-loss": prove_no_loss,
    "cleanup": clean_up,
}
"""What is done, in this order; `record.FINAL` follows and tells what everything was left in."""
