"""``llmdeploy rollback``: end a release that was interrupted, by the way back or by keeping it."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_llmdeploy.assembly.recoveries import (
    Interrupted,
    audit,
    has_gone,
    newest_interrupted,
    note_gone,
    recovery,
    take_lock,
)
from pytest_llmdeploy.commands.arguments import add_config
from pytest_llmdeploy.config.loader import load_config
from pytest_llmdeploy.errors import PlatformError
from pytest_llmdeploy.release.recovery import Recovery, describe
from pytest_llmdeploy.run import OUTPUT_ROOT


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "rollback",
        help="End an interrupted release from its journal, by the way back",
    )
    add_config(parser, "File that describes the service")
    parser.add_argument(
        "--run",
        dest="output",
        type=Path,
        metavar="DIR",
        help=f"Output folder of the interrupted run (default: the newest below {OUTPUT_ROOT})",
    )
    parser.add_argument(
        "--keep-new",
        action="store_true",
        help="Let the new version stay instead, where it alone has the traffic and is complete",
    )
    parser.add_argument(
        "--look", action="store_true", help="Only tell what state things are in; change nothing"
    )
    parser.add_argument(
        "--take-over",
        action="store_true",
        help="Take the release's lock from whoever holds it; make sure first that they are gone",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """End the newest interrupted release; 1 where it could not be brought back."""
    loaded = load_config(arguments.config, arguments.env)
    found = newest_interrupted(loaded, arguments.output)
    if found is None:
        print(f"no interrupted release of the environment '{arguments.env}' was found")
        return 0
    if has_gone(found, loaded):
        print(f"{found.situation.in_words()}; its fleet has ended, and nothing of it is left")
        if not arguments.look:
            note_gone(found)
        return 0
    ended = recovery(found, loaded)
    try:
        for line in describe(found.situation, ended.fleet):
            print(line)
        if arguments.look:
            return 0
        take_lock(ended.fleet, take_over=arguments.take_over)
        end = _keep if arguments.keep_new else _undo
        _audit(found, end.__name__.lstrip("_"), {"command": "llmdeploy rollback"})
        code = end(ended)
        _audit(found, "ended", {"exit_code": code})
        return code
    finally:
        ended.fleet.close()


def _audit(found: Interrupted, event: str, detail: Mapping[str, Any]) -> None:
    """Note it where that can be: what is in the way of the trail is not in that of the rollback."""
    try:
        audit(found, event, detail)
    except PlatformError as error:
        print(error)


def _keep(ended: Recovery) -> int:
    print(f"kept: {ended.keep()}")
    ended.fleet.lock.release()
    return 0


def _undo(ended: Recovery) -> int:
    print("goes back …", flush=True)
    report = ended.undo()
    if report.succeeded:
        ended.fleet.lock.release()
        print(f"rolled back: {report.reason}")
        return 0
    print(f"ROLLBACK FAILED: {report.reason}")
    for difference in report.differences:
        print(f"differs from before: {difference}")
    print("to bring the former state back, run:")
    for command in report.commands:
        print(f"  {command}")
    return 1
