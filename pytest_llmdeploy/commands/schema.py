"""``llmdeploy schema``: the JSON Schema of llmdeploy.yaml, for editors."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from pytest_llmdeploy.commands.files import write_whole
from pytest_llmdeploy.config.schema import json_schema


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "schema", help="Print the JSON Schema of llmdeploy.yaml for editors"
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="Write it to this file")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the schema or write it to a file."""
    text = json.dumps(json_schema(), indent=2, ensure_ascii=False)
    if arguments.output is None:
        print(text)
    else:
        write_whole(arguments.output, text + "\n")
    return 0
