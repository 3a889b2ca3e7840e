"""What a calibration knows: held against what the policy says, and as builtins."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import TYPE_CHECKING, Any

from rich.console import Console

from pytest_llmdeploy.assembly.calibrations import place
from pytest_llmdeploy.release.canary.calibration.advice import advice
from pytest_llmdeploy.release.canary.calibration.cases import A_A, Case
from pytest_llmdeploy.release.canary.calibration.figures import Figures
from pytest_llmdeploy.release.canary.calibration.policy import (
    BLIND,
    PROMOTE,
    UNKNOWN,
    Stance,
    stance,
)
from pytest_llmdeploy.release.canary.calibration.results import CaseResult, Measured, summary_of
from pytest_llmdeploy.release.canary.calibration.simulation import judged_by, simulate
from pytest_llmdeploy.run import Run

if TYPE_CHECKING:
    from pytest_llmdeploy.config.canary import CanaryConfig
    from pytest_llmdeploy.config.loader import LoadedConfig

FORMAT = 1
BUDGET = 120.0
"""Seconds for all simulated canaries; what is not simulated by then is left out, and told."""


@dataclass(slots=True)
class Known:
    """What a calibration is told, and what is known so far."""

    loaded: LoadedConfig
    config: CanaryConfig
    cases: tuple[Case, ...]
    run: Run
    arguments: argparse.Namespace
    figures: Figures | None
    started: float = field(default_factory=time.time)
    measured: dict[str, list[Measured]] = field(default_factory=dict)
    results: list[CaseResult] = field(default_factory=list)
    left_out: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)
    interrupted: bool = False
    stopped: bool = False
    """A canary could not be begun, or not be taken back, and nothing more was tried."""


def judge(known: Known, console: Console) -> None:
    """Simulate, and hold all against what the policy says."""
    summaries: dict[str, Any] = {}
    number, figures = known.arguments.simulate, known.figures
    if figures is not None and number:
        config, known.left_out = judged_by(known.config, figures)
        wanted = [case for case in known.cases if _why_not(case, known) is None]
        begun = time.monotonic()
        with console.status("simulates") as status:
            for index, case in enumerate(wanted):
                left = max(0.0, BUDGET - (time.monotonic() - begun))
                # How often it cries wolf is the rarest event, and wants the most canaries.
                share = 3 if case.name == A_A else 1

                def tell(done: int, name: str = case.name) -> None:
                    status.update(f"simulates {name}: {done} of {number}")

                assert case.effect is not None
                simulated = simulate(
                    config,
                    figures,
                    case.effect,
                    place(known.loaded),
                    number=number,
                    random=Random(f"{known.arguments.seed} {case.name}"),  # noqa: S311
                    budget=share * left / (len(wanted) - index - 1 + share),
                    tell=tell,
                )
                summaries[case.name] = summary_of(simulated)
    conclude(known, summaries)


def _why_not(case: Case, known: Known) -> str | None:
    """Return why a case is not simulated; None where it is."""
    if case.effect is None:
        return "what notices it is not a figure"
    if not known.arguments.simulate:
        return "not asked for"
    if known.figures is None:
        return "no figures to simulate with"
    if case.name != A_A and _stance(case, known).says == BLIND:
        return "the policy judges it as a version that is no worse"
    return None


def _stance(case: Case, known: Known) -> Stance:
    if known.figures is not None:
        return stance(case, known.config, known.figures, place(known.loaded))
    if case.name == A_A:
        return Stance(PROMOTE, "it is no worse")
    return Stance(UNKNOWN, "nothing is known of the running version")


def conclude(known: Known, summaries: Mapping[str, Any]) -> None:
    """Put together what is known of each case."""
    for case in known.cases:
        measured = tuple(known.measured.get(case.name, ()))
        if known.interrupted and not measured:
            continue
        known.results.append(
            CaseResult(
                case,
                _stance(case, known),
                measured,
                summaries.get(case.name),
                "" if case.name in summaries else _why_not(case, known) or "interrupted",
            )
        )


def to_json(known: Known, code: int) -> dict[str, Any]:
    """Return all that is known, as builtins, without secrets."""
    redact, figures = known.loaded.redactor, known.figures
    return {
        "format": FORMAT,
        "run": known.run.id,
        "service": known.loaded.service.name,
        "environment": known.loaded.environment_name,
        "config": str(known.loaded.path),
        "started": datetime.fromtimestamp(known.started, UTC).isoformat(),
        "duration": time.time() - known.started,
        "speed": known.arguments.speed,
        "runs": known.arguments.runs,
        "simulate": known.arguments.simulate,
        "seed": known.arguments.seed,
        "exit_code": code,
        "interrupted": known.interrupted,
        "policy": redact.deep(known.config.model_dump(mode="json", exclude={"metrics"})),
        "figures": None if figures is None else figures.to_json(),
        "left_out": list(known.left_out),
        "cases": [redact.deep(result.to_json()) for result in known.results],
        "advice": [] if figures is None else advice(known.results, known.config, figures),
        "notes": [redact(note) for note in known.notes],
    }
