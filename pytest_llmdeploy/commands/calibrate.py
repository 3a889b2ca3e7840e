"""``llmdeploy calibrate``: which bad versions would this policy catch, and which good ones?"""

from __future__ import annotations

import argparse
import json
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from pytest_llmdeploy.assembly.calibrations import (
    Calibration,
    measured_figures,
    policy,
)
from pytest_llmdeploy.assembly.releases import check_rehearsal
from pytest_llmdeploy.commands.arguments import add_config
from pytest_llmdeploy.commands.calibration_findings import Known, conclude, judge, to_json
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
from pytest_llmdeploy.release.canary.calibration.cases import A_A, CASES
from pytest_llmdeploy.release.canary.calibration.results import (
    ALARMED,
    NOT_MEASURED,
    Measured,
    exit_code,
)
from pytest_llmdeploy.reports.html.calibration_page import write_page
from pytest_llmdeploy.run import OUTPUT_ROOT, Run, claim_folder, new_run_id

RESULT = "calibration.json"
INTERRUPTED = 130


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "calibrate",
        help="Try the canary's policy with good and bad versions of the reference service",
    )
    add_config(parser, "File that describes service and policy")
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
    known = Known(
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
            judge(known, console)
        except KeyboardInterrupt:
            known.interrupted = True
            if not known.results:
                conclude(known, {})
    return _tell(known, console)


@contextmanager
def _ending_with_sigterm() -> Iterator[None]:
    """Let SIGTERM end it as Ctrl-C does."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _perform(known: Known, console: Console) -> None:
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


def _take_figures(known: Known, looks: Path) -> None:
    try:
        known.figures = measured_figures(looks)
    except (ValueError, OSError) as error:
        known.notes.append(f"nothing can be simulated: {error}")


def _tell(known: Known, console: Console) -> int:
    """Write the files, print the table, and return the exit code."""
    code = INTERRUPTED if known.interrupted else exit_code(known.results)
    if code not in (ALARMED, INTERRUPTED) and (known.stopped or known.figures is None):
        code = NOT_MEASURED
    data = to_json(known, code)
    folder = known.run.prepare()
    partial = folder / f"{RESULT}.partial"
    partial.write_text(json.dumps(data, indent=1), encoding="utf-8")
    partial.replace(folder / RESULT)
    page = write_page(folder, data)
    print_table(console, data)
    console.print(f"figures: {folder / RESULT}\npicture: {page}", soft_wrap=True, highlight=False)
    return code
