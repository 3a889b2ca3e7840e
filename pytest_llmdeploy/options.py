"""Command line, ini and environment settings, read in one place."""

from __future__ import annotations

import math
import os
from itertools import pairwise
from pathlib import Path

import pytest

from pytest_llmdeploy.markers import MARKERS
from pytest_llmdeploy.run import ANSWERS_NAME, OUTPUT_ROOT, Replay

DEFAULT_ENVIRONMENT = "local"
CONFIG_NAME = "llmdeploy.yaml"
ENVIRONMENT_VARIABLE = "LLMDEPLOY_ENV"
ENVIRONMENT_INI = "llmdeploy_env"


def _file(text: str) -> Path:
    path = Path(text)
    try:
        found = path.is_file()
    except OSError:  # a name that no file can have
        found = False
    if not found:
        raise pytest.UsageError(f"--llmdeploy-config: there is no file {text!r}")
    return path


def _text(text: str) -> str:
    if not text.strip():
        raise pytest.UsageError("--llmdeploy-image and --env take a name, not an empty text")
    return text


def _weight(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 100):
        raise pytest.UsageError(
            f"--llmdeploy-weight takes a percentage from 1 to 100, not {text!r}"
        )
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < math.inf:
        raise pytest.UsageError(f"--llmdeploy-duration takes seconds above 0, not {text!r}")
    return seconds


def _baseline(text: str) -> str:
    if not text.startswith("git:") and not Path(text).exists():
        raise pytest.UsageError(
            f"--llmdeploy-baseline: there is no {text!r}: give a run's report.json, what"
            " `llmdeploy bless` wrote, or git:REF"
        )
    return text


REPLAYS = ("off", "record", "strict")


def add_options(parser: pytest.Parser) -> None:
    """Register our options but ``--env``, which waits for `add_env_option`."""
    group = _group(parser)
    group.addoption(
        "--llmdeploy-config",
        dest="llmdeploy_config",
        metavar="FILE",
        type=_file,
        help=f"Run this file instead of a collected {CONFIG_NAME}",
    )
    group.addoption(
        "--llmdeploy-output",
        dest="llmdeploy_output",
        metavar="DIR",
        type=Path,
        help="Folder for reports, records and logs (default: .llmdeploy/RUN_ID)",
    )
    group.addoption(
        "--llmdeploy-image",
        dest="llmdeploy_image",
        metavar="REF",
        type=_text,
        help="Version to release: an image reference",
    )
    group.addoption(
        "--llmdeploy-weight",
        dest="llmdeploy_weight",
        metavar="PERCENT",
        type=_weight,
        help="Make one shift of the canary's traffic instead of all its phases, and hold it there",
    )
    group.addoption(
        "--llmdeploy-duration",
        dest="llmdeploy_duration",
        metavar="SECONDS",
        type=_seconds,
        help="Watch that shift for so long (default: 300)",
    )
    group.addoption(
        "--llmdeploy-baseline",
        dest="llmdeploy_baseline",
        metavar="FILE",
        type=_baseline,
        help="Hold the gates against an earlier run: its report.json or output folder, a file that"
        " `llmdeploy bless` wrote, or git:REF for that file as a commit has it",
    )
    group.addoption(
        "--llmdeploy-replay",
        dest="llmdeploy_replay",
        metavar="MODE",
        choices=REPLAYS,
        default="off",
        help="Answers of models: record keeps those of this run for others, strict takes recorded"
        " ones and asks nobody (default: off)",
    )
    group.addoption(
        "--llmdeploy-answers",
        dest="llmdeploy_answers",
        metavar="PATH",
        type=Path,
        help="File with recorded answers, or the output folder of a run"
        f" (default: {OUTPUT_ROOT}/{ANSWERS_NAME})",
    )
    group.addoption(
        "--llmdeploy-keep-cluster",
        dest="llmdeploy_keep_cluster",
        action="store_true",
        help="Keep the cluster or the local fleet that the run made; `llmdeploy clusters` ends it",
    )
    parser.addini(ENVIRONMENT_INI, f"Environment of {CONFIG_NAME} to run against", default=None)


def add_env_option(parser: pytest.Parser) -> None:
    """Register ``--env``, unless a conftest.py or another plugin owns it: then ours steps back.

    To be called when the first conftest files have been loaded, as two owners of one option end
    pytest with an error in whichever comes second.
    """
    groups = [*parser._groups, parser._anonymous]
    if any("--env" in option.names() for group in groups for option in group.options):
        return
    _group(parser).addoption(
        "--env",
        dest="llmdeploy_env",
        metavar="NAME",
        type=_text,
        help=f"Environment of {CONFIG_NAME} to run against "
        f"(default: ${ENVIRONMENT_VARIABLE}, ini {ENVIRONMENT_INI}, or {DEFAULT_ENVIRONMENT})",
    )


def forget_env_value(paths: list[str], arguments: list[str]) -> None:
    """Remove the NAME of ``--env NAME`` from the paths of an early parse that did not know it."""
    for option, value in pairwise(arguments):
        if option == "--env" and value in paths:
            paths.remove(value)


def _group(parser: pytest.Parser) -> pytest.OptionGroup:
    return parser.getgroup("llmdeploy", "release of an LLM service")


def environment_name(config: pytest.Config) -> str:
    """Return the chosen environment: option, then variable, then ini, then ``local``."""
    option: str | None = config.getoption("llmdeploy_env", default=None)
    ini: str | None = config.getini(ENVIRONMENT_INI)
    return option or os.environ.get(ENVIRONMENT_VARIABLE) or ini or DEFAULT_ENVIRONMENT


def replay(config: pytest.Config) -> Replay:
    """Return what is to become of the answers of models."""
    mode: str = config.getoption("llmdeploy_replay")
    chosen: Path | None = config.getoption("llmdeploy_answers")
    if chosen is not None and mode == "off":
        raise pytest.UsageError(
            "--llmdeploy-answers belongs to --llmdeploy-replay record or strict: give both"
        )
    if chosen is not None and mode == "record" and chosen.is_dir():
        raise pytest.UsageError(
            f"--llmdeploy-answers: {str(chosen)!r} is a folder: answers are recorded in a file"
        )
    path = chosen or config.rootpath / OUTPUT_ROOT / ANSWERS_NAME
    return Replay(mode, path.absolute())


def config_path(config: pytest.Config) -> Path:
    """Return the file that fixtures use: the option's, else the one at the root directory."""
    chosen: Path | None = config.getoption("llmdeploy_config")
    return chosen or config.rootpath / CONFIG_NAME


def nearest_file(config: pytest.Config, path: Path) -> Path | None:
    """Return the file that governs a test at `path`: the option's, or the nearest above it."""
    chosen: Path | None = config.getoption("llmdeploy_config")
    folders = [folder for folder in path.parents if folder.is_relative_to(config.rootpath)]
    candidates = [chosen] if chosen else [folder / CONFIG_NAME for folder in folders]
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def wants_file(config: pytest.Config, path: Path) -> bool:
    """Return whether `path` is a file of ours to collect."""
    chosen: Path | None = config.getoption("llmdeploy_config")
    if chosen is not None:
        return path.resolve() == chosen.resolve()
    return path.name == CONFIG_NAME


def collect_config_file(config: pytest.Config) -> None:
    """Add our file to what pytest collects, where it would miss what was asked for.

    That is a file named by --llmdeploy-config outside the given paths, and, where the ini file's
    testpaths decide what is collected, the root's file when -m names one of its stages.
    """
    path = config_path(config).absolute()
    named = config.getoption("llmdeploy_config") is not None
    from_testpaths = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    if not named and not (from_testpaths and _names_any_stage(config.getoption("markexpr"))):
        return
    covered = any(
        path.is_relative_to((config.invocation_params.dir / argument.split("::")[0]).resolve())
        for argument in config.args
    )
    if path.is_file() and not covered:
        config.args.append(str(path))


def _names_any_stage(expression: str) -> bool:
    if not any(stage in expression for stage in MARKERS):
        return False
    from pytest_llmdeploy.protection import names_stage

    try:
        return any(names_stage(expression, stage) for stage in MARKERS)
    except Exception:  # noqa: BLE001 - no expression; its class depends on pytest's version
        return False  # pytest itself says so, later


def header(config: pytest.Config) -> list[str]:
    """Return the line that tells where the run goes, in a project that has our file."""
    if not config_path(config).is_file():
        return []
    line = f"llmdeploy: environment {environment_name(config)}"
    if not hasattr(config.option, "llmdeploy_env"):
        line += (
            f" (--env belongs to another plugin here: choose with {ENVIRONMENT_VARIABLE}"
            f" or the ini key {ENVIRONMENT_INI})"
        )
    return [line]
