"""Performs the canaries of a calibration, one after the other, on the environment's own fleet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_llmdeploy.assembly import Assembly, end_run
from pytest_llmdeploy.assembly.canaries import canary_config
from pytest_llmdeploy.assembly.fleets import blue_green_config
from pytest_llmdeploy.assembly.releases import check_rehearsal
from pytest_llmdeploy.config.canary import CanaryConfig, PhaseConfig
from pytest_llmdeploy.config.quantities import quantity
from pytest_llmdeploy.config.release import BlueGreenConfig
from pytest_llmdeploy.release.canary.calibration.cases import Case, through_of
from pytest_llmdeploy.release.canary.calibration.figures import Figures, figures_of
from pytest_llmdeploy.release.canary.calibration.results import Measured, measured_of
from pytest_llmdeploy.release.canary.calibration.simulation import Place
from pytest_llmdeploy.release.canary.looks import read_looks
from pytest_llmdeploy.release.canary.phase import LOOKS
from pytest_llmdeploy.release.drills import ROLLOUT_TIMEOUT

if TYPE_CHECKING:
    from pytest_llmdeploy.config.loader import LoadedConfig
    from pytest_llmdeploy.run import Run

CONVERGE_TIMEOUT = 15.0
"""Seconds after which a split that never comes is given up."""


class Calibration:
    """The real canaries of one calibration."""

    def __init__(self, run: Run, loaded: LoadedConfig, speed: float) -> None:
        """Raise NotMeasuredError where the environment is not for it."""
        check_rehearsal(loaded, "a calibration plants")
        self._run = run
        self._loaded = loaded
        self._speed = speed
        self._assembly = Assembly(run, lambda _registry: None)

    def waiting(self, tell: Callable[[str], None]) -> None:
        """Have `tell` called with a line, now and then, while a canary goes on."""
        self._assembly.while_waiting = lambda line: tell(line())

    def perform(self, case: Case, number: int) -> tuple[Measured, Path]:
        """Perform a canary of a case; return what became of it, and the file of its looks.

        The fleet is as before when this returns, or `restored` is false. After Ctrl-C the way back
        is gone first.
        """
        canary, config = compressed(policy(self._loaded), self._speed), self._blue_green(case)
        if case.ignores_weights:
            timeout = min(canary.converge_timeout, CONVERGE_TIMEOUT)
            canary = canary.model_copy(update={"converge_timeout": timeout})
        result, folder = self._assembly.releases.rehearse(
            self._loaded,
            f"{case.name}-{number}",
            variables=case.variables,
            config=config,
            canary=canary,
            through=through_of(case),
        )
        return measured_of(result), folder / LOOKS

    def _blue_green(self, case: Case) -> BlueGreenConfig:
        config = blue_green_config(self._loaded)
        # The running version's replicas stay: what is promoted is taken back at once.
        update: dict[str, Any] = {"drain_duration": config.drain_duration / self._speed}
        update["old"] = "keep"
        if case.faults:
            update["rollout_timeout"] = min(config.rollout_timeout, ROLLOUT_TIMEOUT)
        return config.model_copy(update=update)

    def close(self) -> list[str]:
        """End what was started; return what has to be said about it."""
        return [*self._assembly.close(), *end_run(self._run)]


def measured_figures(looks: Path) -> Figures:
    """Return the figures of an A/A canary; raise ValueError or OSError where it has none."""
    return figures_of(read_looks(looks))


def policy(loaded: LoadedConfig) -> CanaryConfig:
    """Return the file's policy without persons: nothing waits for an approval, or is held."""
    config = canary_config(loaded)
    phases = tuple(phase.model_copy(update={"approve": None}) for phase in config.phases)
    return config.model_copy(update={"phases": phases, "inconclusive": "rollback"})


def compressed(config: CanaryConfig, speed: float) -> CanaryConfig:
    """Return the policy with all its times, but for timeouts, divided by `speed`.

    The rate of the requests stays, so fewer of them judge each phase.
    """
    if speed == 1:
        return config
    phases = tuple(
        PhaseConfig(
            weight=phase.weight,
            duration=phase.duration / speed,
            max_duration=phase.longest / speed,
        )
        for phase in config.phases
    )
    return config.model_copy(
        update={
            "phases": phases,
            "sample_interval": config.sample_interval / speed,
            "look_interval": config.look_interval / speed,
        }
    )


def place(loaded: LoadedConfig) -> Place:
    """Return how many replicas the new version has, and what they may use."""
    config = blue_green_config(loaded)
    memory = float(quantity(config.limits.memory))
    # Of what splits traffic, only this machine's Envoy names the colour that it chose.
    return Place(config.replicas, memory, names_colors=loaded.environment.platform == "local")
