"""``llmdeploy bless``: make a run's answers the baseline that later runs are held against."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from pytest_llmdeploy.assembly.baselines import BLESSED, REPORT
from pytest_llmdeploy.errors import LLMDeployError, NotMeasuredError
from pytest_llmdeploy.gates.baseline import Baseline, blessed, read_baseline
from pytest_llmdeploy.verdicts import Verdict


class BlessError(LLMDeployError):
    """Name another run, or say that its verdict does not matter: this one is not blessed."""


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "bless", help="Make a run's gates the baseline of --llmdeploy-baseline"
    )
    parser.add_argument(
        "path", type=Path, metavar="RUN", help=f"Output folder of a run, or its {REPORT}"
    )
    parser.add_argument(
        "--to",
        type=Path,
        default=Path(BLESSED),
        metavar="FILE",
        help=f"Where to write it (default: {BLESSED})",
    )
    parser.add_argument(
        "--whatever-verdict",
        action="store_true",
        help="Also bless a run whose gates did not all pass",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the file whole or not at all, and say what is in it."""
    path: Path = arguments.path
    path = path / REPORT if path.is_dir() else path
    try:
        text = path.read_text(encoding="utf-8")
        report = json.loads(text)
        gates = {gate["name"]: gate["verdict"] for gate in report["gates"]}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise BlessError(f"{path} is no report of a run: {error}") from error
    failing = [name for name, verdict in gates.items() if verdict != Verdict.PASS]
    if not gates:
        raise BlessError(f"{path}: the run decided no gate, so there is nothing to bless")
    if failing and not arguments.whatever_verdict:
        listed = ", ".join(f"{name} {gates[name]}" for name in failing)
        raise BlessError(
            f"{path}: not every gate passed ({listed}): bless a run that did, or add"
            " --whatever-verdict"
        )
    try:
        baseline = read_baseline(text, str(path))
    except NotMeasuredError as error:
        raise BlessError(str(error)) from error
    _refuse_unmeasured(baseline)
    _write(arguments.to, blessed(baseline))
    for gate, cases in sorted(baseline.gates.items()):
        passed = sum(case.verdict is Verdict.PASS for case in cases.values())
        print(f"gate {gate}: {passed} of {len(cases)} cases pass")
    print(f"written to {arguments.to}: commit it, and run with --llmdeploy-baseline {arguments.to}")
    return 0


def _refuse_unmeasured(baseline: Baseline) -> None:
    if not any(old.hash for cases in baseline.gates.values() for old in cases.values()):
        raise BlessError(
            f"{baseline.name} does not say what its cases asked: it is of an older version; run"
            " the gates again"
        )


def _write(path: Path, content: dict[str, Any]) -> None:
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_text(
            json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8"
        )
        partial.replace(path)
    except OSError as error:
        raise BlessError(f"{path} cannot be written: {error}") from error
