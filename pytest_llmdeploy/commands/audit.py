"""``llmdeploy audit verify``: is the audit trail as it was written?"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pytest_llmdeploy.errors import LLMDeployError
from pytest_llmdeploy.reports.audit import AUDIT, verify


class BrokenTrailError(LLMDeployError):
    """Ask who changed the file: its lines do not follow each other."""


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser("audit", help="Verify the audit trail of a run")
    parser.add_argument("action", choices=["verify"], help="Is it as it was written?")
    parser.add_argument(
        "path", type=Path, metavar="PATH", help=f"Output folder of a run, or its {AUDIT}"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Verify the chain; 2 where it is broken."""
    path: Path = arguments.path
    path = path / AUDIT if path.is_dir() else path
    try:
        number, last = verify(path)
    except ValueError as error:
        raise BrokenTrailError(str(error)) from error
    print(f"{path}: {number} entries, each follows the one before it")
    print(f"last hash: {last}")
    return 0
