"""``llmdeploy calibrate``: which bad versions would this policy catch, and which good ones?"""

from __future__ import annotations

import argparse
import json
import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape

from pytest_llmdeploy.assembly.calibrations import (
    Calibration,
    measured_figures,
    place,
    policy,
)
from pytest_llmdeploy.assembly.releases import check_rehearsal
from pytest_llmdeploy.commands.calibration_options import (
    GIVEN,
    read_cases,
    read_figures,
    read_speed,
    read_whole,
)
from pytest_llmdeploy.commands.calibration_table import print_table
from pytest_llmdeploy.config.loader import load_config
from pytest_llmdeploy.errors import LLMDeployError, NotMeasuredError
from pytest_llmdeploy.options import CONFIG_NAME, DEFAULT_ENVIRONMENT, ENVIRONMENT_VARIABLE
from pytest_llmdeploy.release.canary.calibration.advice import advice
from pytest_llmdeploy.release.canary.calibration.cases import A_A, CASES, Case
from pytest_llmdeploy.release.canary.calibration.figures import Figures
from pytest_llmdeploy.release.canary.calibration.policy import (
    BLIND,
    PROMOTE,
    UNKNOWN,
    Stance,
    stance,
)
from pytest_llmdeploy.release.canary.calibration.results import (
    ALARMED,
    NOT_MEASURED,
    CaseResult,
    Measured,
    exit_code,
    summary_of,
)
from pytest_llmdeploy.release.canary.calibration.simulation import judged_by, simulate
from pytest_llmdeploy.reports.html.calibration_page import write_page
from pytest_llmdeploy.run import OUTPUT_ROOT, Run, claim_folder, new_run_id

if TYPE_CHECKING:
    from pytest_llmdeploy.config.canary import CanaryConfig
    from pytest_llmdeploy.config.loader import LoadedConfig

FORMAT = 1
RESULT = "calibration.json"
BUDGET = 120.0
"""Seconds for all simulated canaries; what is not simulated by then is left out, and told."""
INTERRUPTED = 130


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "calibrate",
        help="Try the canary's policy with good and bad versions of the reference service",
    )
    parser.add_argument(
        "--config",
        type=Path,
        default=Path(CONFIG_NAME),
        metavar="FILE",
        help=f"File that describes service and policy (default: {CONFIG_NAME})",
    )
    parser.add_argument(
        "--env",
        default=os.environ.get(ENVIRONMENT_VARIABLE) or DEFAULT_ENVIRONMENT,
        metavar="NAME",
        help=f"Environment (default: ${ENVIRONMENT_VARIABLE}, or {DEFAULT_ENVIRONMENT})",
    )
    parser.add_argument(
        "--only",
        type=read_cases,
        default=tuple(CASES.values()),
        metavar="CASE,…",
        help=f"Cases to try: {', '.join(CASES)} (default: all)",
    )
    parser.add_argument(
        "--runs",
        type=read_whole,
        default=1,
        metavar="N",
        help="Real canaries of each case; 0: simulate only, by --figures (default: 1)",
    )
    parser.add_argument(
        "--simulate",
        type=read_whole,
        default=500,
        metavar="N",
        help="Simulated canaries of each case, at most; 0: none (default: 500)",
    )
    parser.add_argument(
        "--speed",
        type=read_speed,
        default=1.0,
        metavar="FACTOR",
        help="Divide the times of real canaries by this; simulated ones keep them (default: 1)",
    )
    parser.add_argument(
        "--figures",
        type=read_figures,
        metavar="FIGURES",
        help=f"What to simulate with: an earlier {RESULT}, or {', '.join(GIVEN)} as KEY=VALUE,…; "
        "both, the file first (default: what the case a-a measures)",
    )
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help=f"New folder (default: below {OUTPUT_ROOT})"
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="Of what is simulated (default: 0)"
    )
    parser.set_defaults(run=run)


@dataclass(slots=True)
class _Known:
    """What is known so far."""

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


def run(arguments: argparse.Namespace) -> int:
    """Calibrate; 0 as the policy says, 1 not so, 10 not measured, 130 interrupted."""
    loaded = load_config(arguments.config, arguments.env)
    check_rehearsal(loaded, "a calibration plants")
    cases = arguments.only
    if arguments.figures is None and CASES[A_A] not in cases:
        cases = (CASES[A_A], *cases)  # what all others are held against
    if not arguments.runs and arguments.figures is None:
        raise LLMDeployError("--runs 0 measures nothing to simulate with: give --figures")
    if not arguments.runs and not arguments.simulate:
        raise LLMDeployError("--runs 0 --simulate 0 leaves nothing to do")
    run_id = new_run_id()
    if arguments.output is not None:
        try:
            claim_folder(arguments.output, run_id)
        except ValueError as error:
            raise LLMDeployError(f"--output: {error}") from None
    output = (arguments.output or loaded.root / OUTPUT_ROOT / run_id).absolute()
    known = _Known(
        loaded,
        policy(loaded),
        cases,
        Run(id=run_id, output=output, environment=arguments.env),
        arguments,
        arguments.figures,
    )
    known.run.prepare()
    console = Console()
    with _ending_with_sigterm():
        try:
            if arguments.runs:
                _perform(known, console)
            _judge(known, console)
        except KeyboardInterrupt:
            known.interrupted = True
            if not known.results:
                _conclude(known, {})
    return _tell(known, console)


@contextmanager
def _ending_with_sigterm() -> Iterator[None]:
    """Let SIGTERM end it as Ctrl-C does."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _perform(known: _Known, console: Console) -> None:
    """Perform the real canaries; ends at the first that could not be taken back."""
    calibration = Calibration(known.run, known.loaded, known.arguments.speed)
    order = [(case, number) for case in known.cases for number in range(known.arguments.runs)]
    try:
        with console.status("begins") as status:
            for place_in_order, (case, number) in enumerate(order, 1):
                head = f"{place_in_order}/{len(order)} "

                def tell(line: str, head: str = head) -> None:
                    status.update(escape(head + line))

                calibration.waiting(tell)
                tell(case.name)
                begun = time.monotonic()
                try:
                    measured, looks = calibration.perform(case, number)
                except NotMeasuredError as error:
                    known.stopped = True
                    known.notes.append(f"{case.name} was not begun, and nothing after it: {error}")
                    return
                known.measured.setdefault(case.name, []).append(measured)
                took = time.monotonic() - begun
                console.print(escape(f"{head}{case.name}: {_line(measured)} ({took:.0f} s)"))
                if case.name == A_A and known.arguments.figures is None:
                    _take_figures(known, looks)
                if not measured.restored:
                    known.stopped = True
                    known.notes.append(
                        f"{case.name} could not be taken back, so nothing more was tried: "
                        "llmdeploy rollback shows what is left"
                    )
                    return
    finally:
        known.notes += calibration.close()


def _line(measured: Measured) -> str:
    told = measured.outcome.upper() if measured.outcome == "promoted" else measured.outcome
    if measured.by:
        told += f" by {measured.by}"
    if measured.seconds is not None and measured.weight:
        told += f", {measured.seconds:.1f} s after the first weight, at {measured.weight} %"
    if not measured.weight:
        told += ", before it had traffic"
    return told


def _take_figures(known: _Known, looks: Path) -> None:
    try:
        known.figures = measured_figures(looks)
    except (ValueError, OSError) as error:
        known.notes.append(f"nothing can be simulated: {error}")


def _judge(known: _Known, console: Console) -> None:
    """Simulate, and hold all against what the policy says."""
    summaries: dict[str, Any] = {}
    number, figures = known.arguments.simulate, known.figures
    if figures is not None and number:
        config, known.left_out = judged_by(known.config, figures)
        wanted = [case for case in known.cases if _why_not(case, known) is None]
        begun = time.monotonic()
        with console.status("simulates") as status:
            for index, case in enumerate(wanted):
                left = BUDGET - (time.monotonic() - begun)

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
                    budget=max(0.0, left) / (len(wanted) - index),
                    tell=tell,
                )
                summaries[case.name] = summary_of(simulated)
    _conclude(known, summaries)


def _why_not(case: Case, known: _Known) -> str | None:
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


def _stance(case: Case, known: _Known) -> Stance:
    if known.figures is not None:
        return stance(case, known.config, known.figures, place(known.loaded))
    if case.name == A_A:
        return Stance(PROMOTE, "it is no worse")
    return Stance(UNKNOWN, "nothing is known of the running version")


def _conclude(known: _Known, summaries: Mapping[str, Any]) -> None:
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


def _tell(known: _Known, console: Console) -> int:
    """Write the files, print the table, and return the exit code."""
    code = INTERRUPTED if known.interrupted else exit_code(known.results)
    if code not in (ALARMED, INTERRUPTED) and (known.stopped or known.figures is None):
        code = NOT_MEASURED
    data = _json(known, code)
    folder = known.run.prepare()
    partial = folder / f"{RESULT}.partial"
    partial.write_text(json.dumps(data, indent=1), encoding="utf-8")
    partial.replace(folder / RESULT)
    page = write_page(folder, data)
    print_table(console, data)
    console.print(f"figures: {folder / RESULT}\npicture: {page}", soft_wrap=True, highlight=False)
    return code


def _json(known: _Known, code: int) -> dict[str, Any]:
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
