"""What the answers of a gate cost, how long they took, and what its named metrics say. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pytest_llmdeploy.gates.store import Result


def summarize(results: Mapping[str, Result]) -> dict[str, Any]:
    """Return the sums and means over all answers of a gate, as builtins.

    ``usage`` has requests, prompt_tokens, completion_tokens and dollars (null where a price or the
    tokens of any answer are not known); ``latency`` p50 and p95 in seconds of what was not
    replayed; ``metrics`` the mean score and the number of scores by name; ``judges`` who judged,
    with the hash of each prompt; ``replayed`` how many answers came from a record.
    """
    samples = [
        sample for result in results.values() for sample in result["samples"] if "text" in sample
    ]
    asked = [sample for sample in samples if not sample.get("replayed")]
    summary: dict[str, Any] = {
        "usage": {
            "answers": len(samples),
            "prompt_tokens": _sum(samples, "prompt_tokens"),
            "completion_tokens": _sum(samples, "completion_tokens"),
            "dollars": _sum(samples, "cost"),
        },
        "replayed": len(samples) - len(asked),
    }
    if asked:
        latencies = sorted(float(sample["latency"]) for sample in asked)
        summary["latency"] = {"p50": _quantile(latencies, 0.5), "p95": _quantile(latencies, 0.95)}
    if metrics := _metrics(samples):
        summary["metrics"] = metrics
    if judges := _judges(samples):
        summary["judges"] = judges
    return summary


def _sum(samples: Iterable[Mapping[str, Any]], key: str) -> float | None:
    values = [sample.get(key) for sample in samples]
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return None
    return math.fsum(known) if key == "cost" else sum(known)


def _quantile(ordered: list[float], share: float) -> float:
    """Return the smallest value that `share` of the values do not exceed."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def _assertions(samples: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    stack = [check for sample in samples for check in sample.get("assertions", ())]
    while stack:
        check = stack.pop()
        yield check
        stack += check.get("parts", ())


def _metrics(samples: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    scores: dict[str, list[float]] = {}
    for check in _assertions(samples):
        if check.get("metric"):
            scores.setdefault(check["metric"], []).append(check["score"])
    return {
        name: {"mean": math.fsum(values) / len(values), "n": len(values)}
        for name, values in sorted(scores.items())
    }


def _judges(samples: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return each judge with the assertion type and prompt that it was asked with, once."""
    seen: dict[tuple[str, str, str], int] = {}
    for check in _assertions(samples):
        evidence = check.get("evidence", {})
        if "judge" in evidence:
            key = (check["type"], str(evidence["judge"]), str(evidence.get("prompt_sha256", "")))
            seen[key] = seen.get(key, 0) + 1
    names = ("type", "judge", "prompt_sha256", "verdicts")
    return [dict(zip(names, (*key, count), strict=True)) for key, count in sorted(seen.items())]
