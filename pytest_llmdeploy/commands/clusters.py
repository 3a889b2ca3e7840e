"""``llmdeploy clusters``: what runs have left on this machine, and its end."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pytest_llmdeploy.assembly.fleets import Leftover, end_leftover, leftovers
from pytest_llmdeploy.run import OUTPUT_ROOT


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "clusters", help="List the clusters and local fleets that runs have left here, and end them"
    )
    parser.add_argument(
        "--root",
        type=Path,
        default=Path(OUTPUT_ROOT),
        metavar="DIR",
        help=f"Folder of the runs' output folders (default: {OUTPUT_ROOT})",
    )
    parser.add_argument(
        "--sweep",
        action="store_true",
        help="End what belongs to runs that are over, but for kind clusters that were kept",
    )
    parser.add_argument(
        "--all",
        action="store_true",
        help="With --sweep: end also what a run is using, and what was kept",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print a line each; 1 where something could not be ended."""
    found = leftovers(arguments.root)
    if not found:
        print("nothing is left of any run")
        return 0
    code = 0
    for each in found:
        swept = arguments.sweep and (arguments.all or not each.in_use)
        said = _end(each) if swept else None
        code = code or int(said is not None)
        state = "in use or kept" if each.in_use else "left over"
        print(f"{each.kind} {each.name}: {said or ('ended' if swept else state)}")
    return code


def _end(each: Leftover) -> str | None:
    """End it; return what is wrong where that fails."""
    return end_leftover(each)
