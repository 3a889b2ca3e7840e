"""Runs and load summaries as a real run leaves them, made up by a seeded generator."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_llmdeploy.events import VerdictEvent
from pytest_llmdeploy.reports.result import RunResult
from pytest_llmdeploy.verdicts import Verdict

Json = dict[str, Any]


def event(
    stage: str, name: str, verdict: Verdict = Verdict.PASS, reason: str = "as expected", **more: Any
) -> Json:
    """Return an item's event as builtins."""
    values: Json = {
        "duration": 0.4,
        "environment": "staging",
        "service": "chat",
        "version": "1.4.0",
        **more,
    }
    return VerdictEvent(f"llmdeploy.yaml::{stage}::{name}", stage, name, verdict, reason, **values
                        ).to_dict()  # fmt: skip


def load_event(
    profile: str, name: str, verdict: Verdict = Verdict.PASS, reason: str = "as expected"
) -> Json:
    """Return the event of a load item, which names its profile's summary."""
    detail = {"summary": f"records/load/{profile}/summary.json"}
    return event("load", f"{profile}::{name}", verdict, reason, detail=detail)


def run(output: Path, events: Sequence[Mapping[str, Any]] = (), **more: Any) -> RunResult:
    """Return a finished run."""
    values: Json = {
        "run_id": "20250301-120000-ab12",
        "started": 1_740_830_400.0,
        "duration": 96.2,
        "exit_code": 0,
        "interrupted": False,
        "others_failed": False,
        "not_collected": False,
        **more,
    }
    return RunResult(output=output, events=events, **values)


def write_summary(output: Path, summary: Json, text: str | None = None) -> None:
    """Write a summary where `load_event` says it is."""
    path = output / "records" / "load" / summary["name"] / "summary.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(summary) if text is None else text, encoding="utf-8")


def load_summary(name: str = "steady", *, failing: bool = False, seconds: int = 60) -> Json:
    """Return the summary of an open-loop run at 20 requests per second; `failing` with an outage.

    In the outage, between a half and two thirds of the run, connections are reset.
    """
    rng = random.Random(7)
    outage = range(seconds // 2, seconds * 2 // 3) if failing else range(0)
    ttft: list[float] = []
    e2e: list[float] = []
    line: Json = {"bin": 1.0, "start": 0.0}
    keys = ("intended", "ok", "failed", "in_flight", "ttft_p50", "ttft_p95", "e2e_p95")
    rows: dict[str, list[Any]] = {key: [] for key in keys}
    for second in range(seconds):
        n = max(8, round(rng.gauss(20, 4)))
        bad = round(n * 0.6) if second in outage else 0
        slow = 6.0 if second in outage else 1.0
        firsts = sorted(slow * 0.18 * math.exp(rng.gauss(0, 0.45)) for _ in range(n - bad))
        ends = [first + 0.9 * rng.uniform(0.7, 1.4) for first in firsts]
        ttft += firsts
        e2e += ends
        values = (
            n,
            n - bad,
            bad,
            round(20 * slow * 1.1 + rng.uniform(-3, 3)),
            firsts[len(firsts) // 2],
            firsts[int(0.95 * len(firsts))],
            max(ends),
        )
        for key, value in zip(keys, values, strict=True):
            rows[key].append(value)
    intended, failed = sum(rows["intended"]), sum(rows["failed"])
    ok = intended - failed
    classes = {"ok": ok}
    if failing:
        classes |= {"reset": failed - 7, "first_token_timeout": 5, "http_5xx": 2}
    p95 = _quantile(ttft, intended, 0.95)
    return {
        "format": 1,
        "name": name,
        "model": "open loop",
        "traffic": f"poisson, 20/s for {seconds} s",
        "service": {"name": "chat", "url": "http://chat.staging.example:8000", "scripted": False},
        "environment": "staging",
        "started": "2025-03-01T12:00:03+00:00",
        "duration": seconds + 2.4,
        "window": [5.0, float(seconds)],
        "intended": intended,
        "judged": intended,
        "sent": intended,
        "classes": classes,
        "versions": {"1.4.0": ok - ok // 4, "1.5.0-rc.1": ok // 4},
        "clients": {
            "keep_alive": {"intended": intended - intended // 5, "ok": ok - ok // 5},
            "new_connection": {"intended": intended // 5, "ok": ok // 5},
        },
        "tokens": {"prompt": 61 * intended, "completion": 64 * ok, "cached": None},
        "rates": {"intended": 20.1, "ok": ok / seconds, "tokens": 64 * ok / seconds},
        "latencies": {
            "ttft": {**_latency(ttft, intended), "from_sent": _latency(ttft, intended, 0.03)},
            "e2e": {**_latency(e2e, intended), "from_sent": _latency(e2e, intended, 0.03)},
            "tpot": _latency([value / 64 for value in e2e], intended),
            "queueing": _latency([0.0004 + rng.random() * 0.004 for _ in range(ok)], intended),
            "ttfr": None,
        },
        "cdf": {
            "ttft": {"intended": _cdf(ttft, intended), "sent": _cdf(ttft, intended, 0.03)},
            "e2e": {"intended": _cdf(e2e, intended), "sent": _cdf(e2e, intended, 0.03)},
        },
        "timeline": {**line, **rows},
        "events": [
            {"at": 5.0, "label": "warm-up ends"},
            *([{"at": float(outage[0]), "label": "resets begin"}] if failing else []),
        ],
        "generator": {
            "processes": 1,
            "verdict": "ok",
            "reason": None,
            "dispatch_lag_p50": 0.0004,
            "dispatch_lag_p99": 0.0043,
            "loop_lag_p99": 0.0021,
            "cpu": 0.31,
            "memory_mb": 118.4,
            "check": {
                "rate": 20.0,
                "ttft_error": 0.012,
                "dispatch_lag_p99": 0.0031,
                "verdict": "ok",
            },
        },
        "objectives": [
            {
                "name": "ttft_p95",
                "text": "ttft_p95 <= 0.8",
                "verdict": "FAIL" if failing else "PASS",
                "value": p95,
                "lower": None if p95 is None else 0.95 * p95,
                "upper": None if p95 is None else 1.06 * p95,
                "limit": 0.8,
                "n": intended,
                "reason": "16 % of 1199 requests took longer than 0.8 s; 5 % may"
                if failing
                else "0 of 1199 requests took longer than 0.8 s; 5 % may",
            },
            {
                "name": "error_rate",
                "text": "error_rate <= 0.05",
                "verdict": "INCONCLUSIVE" if failing else "PASS",
                "value": failed / intended,
                "lower": 0.042 if failing else 0.0,
                "upper": 0.118 if failing else 0.0025,
                "limit": 0.05,
                "n": intended,
                "reason": "the interval holds the limit: 2400 requests would tell"
                if failing
                else "0 of 1199 requests failed",
            },
        ],
        "failures": [
            {
                "class": "reset",
                "count": failed - 7,
                "detail": "connection reset by peer after 12 chunks",
            },
            {"class": "first_token_timeout", "count": 5, "detail": "no content within 30 s"},
        ]
        if failing
        else [],
        "capacity": None,
        "comparison": None,
        "notes": [],
    }


def capacity() -> Json:
    """Return a finished search for the highest rate."""
    probes = [
        (10, "PASS", 1.0, 0.21, 0.01),
        (20, "PASS", 0.998, 0.24, 0.0),
        (40, "FAIL", 0.71, 2.4, 3.1),
        (80, "FAIL", 0.08, None, 41.0),
        (30, "PASS", 0.991, 0.33, 0.05),
        (36, "PASS", 0.975, 0.58, 0.2),
        (38, "INCONCLUSIVE", 0.949, 0.79, 0.6),
    ]
    return {
        "rate": 36.0,
        "low": 36.0,
        "high": 40.0,
        "verdict": "PASS",
        "reason": "at least 36/s; 30/s was wanted",
        "probes": [
            {
                "rate": rate,
                "verdict": verdict,
                "n": rate * 30,
                "good": good,
                "ttft_p95": ttft,
                "e2e_p95": None if ttft is None else ttft + 1.1,
                "in_flight_slope": slope,
                "stable": slope < 2,
                "reason": "objectives hold" if verdict == "PASS" else "ttft_p95 <= 0.8 missed",
                "duration": 30.0,
            }
            for rate, verdict, good, ttft, slope in probes
        ],
    }


def comparison() -> Json:
    """Return a comparison with one metric of each verdict."""
    rows = [
        ("ttft_p95", "PASS", 0.41, 0.42, 1.02, 0.97, 1.07),
        ("e2e_p95", "INCONCLUSIVE", 1.51, 1.63, 1.08, 0.96, 1.21),
        ("tpot_p50", "FAIL", 0.021, 0.029, 1.38, 1.31, 1.46),
        ("itl_p99", "INCONCLUSIVE", 0.08, None, None, None, None),
    ]
    names = ("name", "verdict", "a", "b", "ratio", "low", "high")
    return {
        "verdict": "FAIL",
        "reason": "tpot_p50 rose by 31 % at least; 10 % may be",
        "kind": "interleaved",
        "metrics": [
            {
                **dict(zip(names, row, strict=True)),
                "max_increase": 0.1,
                "reason": "20 blocks a side",
            }
            for row in rows
        ],
    }


def full_run(output: Path) -> RunResult:
    """Write the summaries of three profiles; return a run of every stage with every verdict."""
    for summary in (
        load_summary("steady"),
        load_summary("outage", failing=True) | {"comparison": comparison()},
        load_summary("peak") | {
            "capacity": capacity(),
            "notes": ["closed loop: a stall delays the requests behind it"],
        },
    ):  # fmt: skip
        write_summary(output, summary)
    rates = {"passed": 28, "failed": 2, "errors": 0, "total": 30}
    gate = {"pass_rate": 28 / 30, "min_pass_rate": 0.9, **rates}
    case: Json = {"gate": "llmdeploy.yaml::gates::capitals"}
    missed = "ttft_p95 is above 0.8 s: 16 % of 1199 requests took longer; 5 % may"
    unsure = "the interval holds the limit: 2400 requests would tell"
    events = [
        event("health", "up"),
        event("smoke", "models"),
        event("smoke", "stream", Verdict.ERROR, "POST /v1/chat/completions: no answer in 20 s"),
        event("gates", "capitals::france", **case),
        event(
            "gates",
            "capitals::peru",
            Verdict.FAIL,
            "equals 'Lima': got 'Cusco'",
            counted=True,
            **case,
        ),
        event(
            "gates",
            "capitals::gate",
            reason="pass rate 0.93 (28 of 30) >= min_pass_rate 0.90",
            detail=gate,
            judges_gate=True,
            gate=case["gate"],
        ),
        load_event("steady", "ttft_p95"),
        load_event("steady", "error_rate"),
        load_event("outage", "ttft_p95", Verdict.FAIL, missed),
        load_event("outage", "error_rate", Verdict.INCONCLUSIVE, unsure),
        load_event("peak", "capacity"),
        load_event("lost", "ttft_p95", Verdict.ERROR, "the worker died"),
    ]
    return run(output, events, exit_code=1)


def _quantile(values: Sequence[float], total: int, share: float) -> float | None:
    rank = math.ceil(share * total)
    return sorted(values)[rank - 1] if 0 < rank <= len(values) else None


def _latency(values: Sequence[float], total: int, less: float = 0.0) -> Json:
    shifted = [max(value - less, 1e-4) for value in values]
    found = {f"p{q}": _quantile(shifted, total, q / 100) for q in (50, 90, 95, 99)}
    whole = len(values) == total
    mean = sum(shifted) / total if whole else None
    return {
        "n": total,
        "finite": len(values),
        "mean": mean,
        **found,
        "max": max(shifted) if whole else None,
    }


def _cdf(values: Sequence[float], total: int, less: float = 0.0) -> list[list[float]]:
    ordered = sorted(max(value - less, 1e-4) for value in values)
    step = max(1, len(ordered) // 200)
    points = [[value, (i + 1) / total] for i, value in enumerate(ordered)]
    return [*points[::step], points[-1]]
