"""From the file's section to the traffic of a run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pytest_llmdeploy.config.load import DEFAULT_USERS, LoadConfig, PromptsConfig
from pytest_llmdeploy.config.text import display_path, read_text
from pytest_llmdeploy.errors import ConfigError, Problem
from pytest_llmdeploy.load.ledger import read_ledger
from pytest_llmdeploy.load.spec import Step, Target, Timeouts, TrafficSpec

LARGEST_FILE = 256 << 20
"""Bytes of a file of prompts or arrivals."""
LARGEST_TIME = 1e15
"""Of a recorded arrival; milliseconds since the epoch lie below."""
CLOSED_LOOP_NOTE = (
    "closed loop: users wait for answers, so a slow service is asked less, and what it would have "
    "done to the requests that were never sent does not show"
)
LOCUSTFILE_NOTE = (
    "locustfile: times are those of Locust's events (of a stream, until its headers, unless the "
    "file fires its own); requests without an event are not known"
)


def traffic_of(config: LoadConfig, targets: Sequence[Target], root: Path) -> TrafficSpec:
    """Return the traffic that the section describes.

    Raises ConfigError where a file of prompts or arrivals cannot be used.
    """
    good = config.good.model_dump(exclude_none=True) if config.good else {}
    closed = not config.open_loop
    spec = TrafficSpec(
        targets=tuple(targets),
        arrivals=config.arrivals,
        burstiness=config.burstiness,
        users=(config.users or DEFAULT_USERS) if closed else 0,
        duration=config.duration if closed else 0.0,
        think_time=config.think_time,
        locustfile=str(_existing(root / config.locustfile, "locustfile"))
        if config.locustfile
        else None,
        seed=config.seed,
        warmup=config.warmup,
        prompts=read_prompts(config.prompts, root),
        words=config.prompts.words,
        shared_prefix=config.prompts.shared_prefix,
        output_tokens=config.output_tokens,
        long_stream_tokens=config.long_stream_tokens,
        parameters=config.parameters,
        streamed=config.streamed,
        turns=config.turns,
        clients={name: weight for name, weight in config.clients if weight},
        timeouts=Timeouts(**config.timeouts.model_dump()),
        max_in_flight=config.max_in_flight,
        drain=config.drain,
        objectives=config.objectives,
        good=good,
    )
    if config.trace:
        spec = replace(spec, trace=read_trace(root / config.trace))
    elif config.steps:
        steps = [
            Step(step.rate, step.rate if step.to is None else step.to, step.duration)
            for step in config.steps
        ]
        spec = replace(spec, steps=tuple(steps))
    elif config.rate is not None:
        spec = replace(spec, steps=(Step(config.rate, config.rate, config.duration),))
    if config.compare and config.compare.url:
        window = spec.traffic_duration / config.compare.blocks
        spec = replace(spec, block=window)
    if config.trace and spec.warmup >= spec.traffic_duration:
        raise _problem(
            root / config.trace,
            0,
            f"its arrivals span {spec.traffic_duration:g} s, all of it warmup: "
            "nothing would be judged",
        )
    return spec


def model_kind(spec: TrafficSpec) -> str:
    """Return what the traffic is called in reports."""
    if spec.locustfile:
        return "locustfile"
    return "open loop" if spec.open_loop else "closed loop"


def in_words(spec: TrafficSpec) -> str:
    """Return the traffic in one line."""
    whole = f"for {spec.traffic_duration:g} s"
    if spec.trace:
        return f"{len(spec.trace)} recorded arrivals {whole}"
    if not spec.open_loop:
        what = f"{spec.users} users"
        if spec.locustfile:
            return f"{what} of {display_path(Path(spec.locustfile))} {whole}"
        return f"{what}, think time {spec.think_time:g} s, {whole}"
    steps = [
        f"{step.rate:g}/s" if step.rate == step.to else f"{step.rate:g} to {step.to:g}/s"
        for step in spec.steps
    ]
    shape = f" (shape {spec.burstiness:g})" if spec.arrivals == "gamma" else ""
    return f"{spec.arrivals}{shape} arrivals, {', '.join(steps)} {whole}"


def read_prompts(config: PromptsConfig, root: Path) -> tuple[Any, ...]:
    """Return the prompts of the file, texts or lists of messages; none without a file."""
    if config.file is None:
        return ()
    path = _existing(root / config.file, "prompts.file")
    lines = _lines(path)
    prompts: list[Any] = [line for _, line in lines]
    if path.suffix == ".jsonl":
        prompts = [_prompt(path, number, line) for number, line in lines]
    if not prompts:
        raise _problem(path, 0, "has no prompt")
    return tuple(prompts)


def _prompt(path: Path, number: int, line: str) -> Any:
    data = _object(path, number, line)
    if isinstance(data.get("prompt"), str):
        return data["prompt"]
    messages = data.get("messages")
    if isinstance(messages, list) and messages and all(isinstance(m, dict) for m in messages):
        return messages
    raise _problem(path, number, "expected 'prompt' (a text) or 'messages' (a list)")


def read_trace(path: Path) -> tuple[float, ...]:
    """Return the recorded arrivals in seconds since the first, ascending.

    A ledger's intended starts, or JSONL with `at` (seconds) or `timestamp` (milliseconds).
    """
    _existing(path, "trace")
    if path.name.endswith(".zst"):
        try:
            times = [record["at"] for record in read_ledger(path) if not record.get("turn")]
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise _problem(path, 0, f"no ledger of a load run: {error}") from error
    else:
        times = [_arrival(path, number, line) for number, line in _lines(path)]
    if not times:
        raise _problem(path, 0, "has no arrival")
    first = min(times)
    return tuple(sorted(time - first for time in times))


def _arrival(path: Path, number: int, line: str) -> float:
    data = _object(path, number, line)
    for key, unit in (("at", 1.0), ("timestamp", 1e-3)):
        value = data.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        if 0 <= value <= LARGEST_TIME:
            return value * unit
    raise _problem(path, number, "expected 'at' in seconds or 'timestamp' in milliseconds")


def _lines(path: Path) -> list[tuple[int, str]]:
    """Return the lines that are not blank, with their numbers."""
    # Not splitlines: JSON may hold U+2028 and its like.
    lines = enumerate(read_text(path, LARGEST_FILE).split("\n"), 1)
    return [(number, line.rstrip("\r")) for number, line in lines if line.strip()]


def _object(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        data = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _problem(path, number, f"no JSON: {error}") from error
    if not isinstance(data, dict):
        raise _problem(path, number, "expected an object")
    return data


def _existing(path: Path, key: str) -> Path:
    if not path.is_file():
        raise _problem(path, 0, f"there is no such file ({key})")
    return path


def _problem(path: Path, line: int, message: str) -> ConfigError:
    return ConfigError([Problem(display_path(path), line, "", message)])
