"""The llmdeploy command, one subcommand a module.

A subcommand reads the project's files and the machine; what runs against a service is pytest's.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path

from pytest_llmdeploy.commands import (
    audit,
    bless,
    calibrate,
    calibrate_judge,
    clusters,
    doctor,
    init,
    rejudge,
    rollback,
    schema,
)
from pytest_llmdeploy.errors import LLMDeployError

_COMMANDS = (
    init,
    schema,
    doctor,
    calibrate,
    calibrate_judge,
    rollback,
    rejudge,
    bless,
    clusters,
    audit,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit code; 2 when it could not do what was asked."""
    try:
        try:
            arguments = _parser().parse_args(argv)
            code: int = arguments.run(arguments)
        finally:
            print(end="", flush=True)  # at the interpreter's end nobody could answer for it
    except BrokenPipeError:  # who reads our output has seen enough
        _discard_output()
        return 1
    except (LLMDeployError, OSError) as exc:
        print(f"llmdeploy: {exc}", file=sys.stderr)
        _discard_output()
        return 2
    return code


def _discard_output() -> None:
    """Let what is still to be written go nowhere: the interpreter would try it again at its end."""
    # An output that is closed or captured has no number.
    with suppress(OSError, AttributeError), Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="llmdeploy",
        description="Writes llmdeploy.yaml for pytest, and looks after what its runs leave.",
    )
    parser.add_argument("--version", action="version", version=f"llmdeploy {_version()}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in _COMMANDS:
        command.add_parser(subparsers)
    return parser


def _version() -> str:
    try:
        return metadata.version("pytest-llmdeploy")
    except metadata.PackageNotFoundError:
        return "(not installed: run from its source)"
