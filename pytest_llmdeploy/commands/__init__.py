"""The llmdeploy command, one subcommand a module.

A subcommand reads the project's files and the machine; what runs against a service is pytest's.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import metadata

from pytest_llmdeploy.commands import doctor, init, schema
from pytest_llmdeploy.errors import LLMDeployError

_COMMANDS = (init, schema, doctor)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit code; 2 when it could not do what was asked."""
    arguments = _parser().parse_args(argv)
    try:
        code: int = arguments.run(arguments)
    except LLMDeployError as exc:
        print(f"llmdeploy: {exc}", file=sys.stderr)
        return 2
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="llmdeploy", description="Helps to write llmdeploy.yaml, which pytest runs."
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
