"""``llmdeploy doctor``: what works on this machine, and what to install for the rest."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from typing import Any

from pytest_llmdeploy.commands.machine import Finding, examine


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser("doctor", help="Show what works on this machine")
    parser.add_argument("--json", action="store_true", help="Print JSON instead of a table")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print what was found; 0 when the core works, else 1."""
    findings = examine()
    works = all(finding.present for finding in findings if finding.core)
    if arguments.json:
        document = {"core_works": works, "findings": [asdict(finding) for finding in findings]}
        print(json.dumps(document, indent=2))
    elif sys.stdout.isatty():
        _print_table(findings)
    else:
        print("\n".join(_plain_lines(findings)))
    if not arguments.json:
        print("The core works." if works else "The core does not work: see what is missing above.")
    return 0 if works else 1


def _mark(finding: Finding) -> str:
    return "ok" if finding.present else "missing"


def _plain_lines(findings: list[Finding]) -> list[str]:
    width = max(len(finding.name) for finding in findings)
    lines = []
    for finding in findings:
        lines.append(f"{finding.name:{width}}  {_mark(finding):7}  {finding.detail}".rstrip())
        if not finding.present:
            indent = " " * (width + 11)
            lines.append(f"{indent}needed for {finding.needed_for}")
            lines.append(f"{indent}install: {finding.install}")
    return lines


def _print_table(findings: list[Finding]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("What", "", "Found", "Needed for")
    for finding in findings:
        needed = finding.needed_for
        if not finding.present:
            needed += f"\n{finding.install}"
        table.add_row(
            finding.name,
            Text(_mark(finding), style="green" if finding.present else "yellow"),
            Text(finding.detail),
            Text(needed),
        )
    Console().print(table)
