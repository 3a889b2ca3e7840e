"""The two arguments of every command that reads a file of settings: which file, which part."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from pytest_llmdeploy.options import CONFIG_NAME, DEFAULT_ENVIRONMENT, ENVIRONMENT_VARIABLE


def add_config(parser: argparse.ArgumentParser, about: str, *, usual: bool = True) -> None:
    """Add ``--config`` and ``--env``; without `usual`, no file is read unless one is named."""
    parser.add_argument(
        "--config",
        type=Path,
        default=Path(CONFIG_NAME) if usual else None,
        metavar="FILE",
        help=f"{about} (default: {CONFIG_NAME})" if usual else about,
    )
    parser.add_argument(
        "--env",
        default=os.environ.get(ENVIRONMENT_VARIABLE) or DEFAULT_ENVIRONMENT,
        metavar="NAME",
        help=f"Environment (default: ${ENVIRONMENT_VARIABLE}, or {DEFAULT_ENVIRONMENT})",
    )
