"""Reads what ``llmdeploy calibrate`` is told."""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import replace
from pathlib import Path

from pytest_llmdeploy.release.canary.calibration.cases import CASES, Case
from pytest_llmdeploy.release.canary.calibration.figures import Figures

GIVEN = ("rate", "error_rate", "latency_p50", "latency_p95", "ttft_share")
"""Keys of --figures; times in seconds, ttft_share the part of them before the first token."""


def read_cases(text: str) -> tuple[Case, ...]:
    """Return cases by their names, in their usual order; raise ArgumentTypeError."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if unknown := [name for name in names if name not in CASES]:
        raise argparse.ArgumentTypeError(
            f"no case {', '.join(unknown)}; the cases are {', '.join(CASES)}"
        )
    if not names:
        raise argparse.ArgumentTypeError("name at least one case")
    return tuple(case for name, case in CASES.items() if name in names)


def read_whole(text: str) -> int:
    """Return a number of canaries; raise ArgumentTypeError."""
    if not text.isdecimal() or int(text) > 1_000_000:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 0 to 1000000")
    return int(text)


def read_speed(text: str) -> float:
    """Return the factor of --speed; raise ArgumentTypeError."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 1 <= value <= 1000:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to 1000")
    return value


def read_figures(text: str) -> Figures:
    """Return figures of a file, or given ones; parts with an equals sign replace a file's.

    Raises ArgumentTypeError.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    files = [part for part in parts if "=" not in part]
    try:
        given = {
            key: float(value) for key, _, value in (p.partition("=") for p in parts if "=" in p)
        }
        if unknown := sorted(set(given) - set(GIVEN)):
            raise ValueError(f"no {', '.join(unknown)}; figures are {', '.join(GIVEN)}")
        if not files:
            if lacks := [key for key in ("rate", "latency_p50", "latency_p95") if key not in given]:
                raise ValueError(f"{', '.join(lacks)} must be given, too")
            return Figures.given(
                given["rate"],
                given.get("error_rate", 0.0),
                given["latency_p50"],
                given["latency_p95"],
                given.get("ttft_share", 0.0),
            )
        if len(files) > 1 or set(given) - {"rate", "error_rate"}:
            raise ValueError("beside one file, only rate and error_rate can be given")
        data = json.loads(Path(files[0]).read_text(encoding="utf-8"))
        found = Figures.from_json(data["figures"])
        if not (0 < given.get("rate", 1.0) < 1e6 and 0 <= given.get("error_rate", 0.0) < 1):
            raise ValueError("rate must be above 0, and error_rate from 0 to below 1")
        return replace(
            found,
            rate=given.get("rate", found.rate),
            error_rate=given.get("error_rate", found.error_rate),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None
