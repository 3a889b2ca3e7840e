"""Is it the generator that is slow? Measured against a mock whose schedule is known."""

from __future__ import annotations

import math
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pytest_llmdeploy.config.objectives import RATES, SHARES
from pytest_llmdeploy.errors import NotMeasuredError
from pytest_llmdeploy.load.controller import TrafficResult, run_traffic
from pytest_llmdeploy.load.ledger import EndClass, read_ledger
from pytest_llmdeploy.load.spec import Step, Target, Timeouts, TrafficSpec
from pytest_llmdeploy.verdicts.histogram import Histogram

MOCK_TTFT = 0.1
MOCK_INTERVAL = 0.01
"""Seconds between two tokens of the mock, and so at most 100 tokens a second and stream."""
MAX_ERROR = 0.05
"""Share of the strictest latency objective by which the generator's own times may be off."""
MAX_LAG = 0.05
"""Seconds by which a hundredth of what the generator does may be late."""
MAX_LAG_SHARE = 0.2
"""The same as a share of the strictest latency objective, where that is less."""
LEAST_RATE = 10.0
"""Requests per second of the check: fewer would be too few to tell."""
BUSY_CPU = 0.6
"""Share of one core; below it a late generator waits for a machine that others keep busy."""
MAX_CPU = 0.9
"""Share of one core; beyond it the times of tokens are the generator's own."""
LONGEST_ANSWER = 200
"""Tokens of the mock's answers at most, so that the check ends soon."""
START_TIMEOUT = 30.0
STOP_TIMEOUT = 5.0
MOST_IN_FLIGHT = 50_000
"""What the user allows to be open, and for how long, is meant for the service."""


@dataclass(frozen=True, slots=True)
class Check:
    """What the generator's measurement of the mock showed."""

    rate: float
    """Requests per second."""
    ttft_error: float | None
    """Share by which the median time to the first token was off; None where none was answered."""
    ttft_error_seconds: float | None
    """The same in seconds; what may be is 5 % of the strictest latency objective."""
    dispatch_lag_p99: float | None
    """Seconds."""
    cpu: float
    verdict: str
    """``ok`` or ``saturated``."""
    reason: str | None = None

    def to_json(self) -> dict[str, object]:
        """Return builtins."""
        return asdict(self)


def peak_rate(traffic: TrafficSpec) -> float:
    """Return the highest number of requests per second that the traffic can ask for."""
    if traffic.trace:
        seconds = max(traffic.traffic_duration, 1e-3)
        return max(len(traffic.trace) / seconds, 1.0)
    if traffic.steps:
        return max(max(step.rate, step.to) for step in traffic.steps)
    answer = MOCK_TTFT + MOCK_INTERVAL * sum(traffic.output_tokens) / 2
    return traffic.users / (answer + traffic.think_time)


@contextmanager
def mock_server(tokens: int) -> Iterator[str]:
    """Run the mock; yield the address of its API."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-P", "-m", "pytest_llmdeploy.load.mock", "--port", "0"),
            *("--ttft", str(MOCK_TTFT), "--interval", str(MOCK_INTERVAL)),
            *("--tokens", str(tokens)),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        words = _first_line(process.stdout.fileno()).split()
        if len(words) < 2:
            raise NotMeasuredError("the mock for the generator's self-check did not start")
        yield words[1]
    finally:
        process.stdin.close()
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def _first_line(descriptor: int) -> str:
    """Return what a process says first; what there is of it where it does not come to its end."""
    said, deadline = b"", time.monotonic() + START_TIMEOUT
    while b"\n" not in said and (left := deadline - time.monotonic()) > 0:
        if not select.select([descriptor], [], [], left)[0]:
            break
        piece = os.read(descriptor, 1 << 12)
        if not piece:
            break
        said += piece
    return said.decode() if b"\n" in said else ""


def check_generator(
    traffic: TrafficSpec, seconds: float, folder: Path, processes: int, max_lag: float | None
) -> Check:
    """Measure the generator for some seconds at the traffic's peak rate."""
    rate = max(peak_rate(traffic), LEAST_RATE)
    least, most = (min(tokens, LONGEST_ANSWER) for tokens in traffic.output_tokens)
    with mock_server(most) as url:
        against_mock = replace(
            traffic,
            targets=(Target(f"{url}/chat/completions", {}, "mock"),),
            steps=(Step(rate, rate, seconds),),
            trace=(),
            users=0,
            locustfile=None,
            block=None,
            warmup=0.0,
            arrivals="constant" if traffic.trace or not traffic.steps else traffic.arrivals,
            output_tokens=(least, most),
            long_stream_tokens=most,
            turns=1,
            objectives=(),
            max_tokens_total=None,
            timeouts=Timeouts(),
            max_in_flight=MOST_IN_FLIGHT,
            drain=MOCK_TTFT + MOCK_INTERVAL * most + 2.0,
        )
        result = run_traffic(against_mock, folder, processes=processes)
    result.check_complete()
    allowed = allowed_lag(traffic, max_lag)
    return _judged(result, rate, allowed, tolerated_error(traffic, allowed))


def strictest_limit(traffic: TrafficSpec) -> float | None:
    """Return the lowest latency, in seconds, that a verdict depends on; None where none does."""
    limits = [
        objective.limit
        for objective in traffic.parsed_objectives()
        if objective.metric not in (*RATES, *SHARES)
    ]
    return min([*limits, *traffic.good.values()], default=None)


def tolerated_error(traffic: TrafficSpec, otherwise: float) -> float:
    """Return the seconds by which times may be off without a verdict's depending on them."""
    limit = strictest_limit(traffic)
    return max(otherwise if limit is None else limit * MAX_ERROR, MOCK_TTFT * MAX_ERROR)


def allowed_lag(traffic: TrafficSpec, max_lag: float | None) -> float:
    """Return the seconds by which the generator may be late: as told, else what verdicts bear.

    No less than is asked of its times: a machine that does anything else is late by milliseconds.
    """
    if max_lag is not None:
        return max_lag
    limit = strictest_limit(traffic)
    return min(MAX_LAG, max((limit or math.inf) * MAX_LAG_SHARE, MOCK_TTFT * MAX_ERROR))


def _judged(result: TrafficResult, rate: float, max_lag: float, tolerated: float) -> Check:
    times = Histogram()
    failed = 0
    for record in read_ledger(result.ledger):
        if record["class"] != EndClass.OK:
            failed += 1
        elif "first" in record:
            times.add(max(record["first"] - record["at"], 0.0))
    median = times.quantile(0.5)
    error = None if median is None else median - MOCK_TTFT
    reason = lateness(result, max_lag)
    if failed:
        reason = f"{failed} of {result.intended} requests to a mock failed"
    elif error is not None and error > tolerated:
        reason = (
            f"against a mock the median TTFT was {error * 1000:.0f} ms off "
            f"({tolerated * 1000:.0f} ms may be, {MAX_ERROR:.0%} of the strictest objective)"
        )
    lag = result.dispatch_lag.quantile(0.99)
    return Check(
        rate=rate,
        ttft_error=None if error is None else error / MOCK_TTFT,
        ttft_error_seconds=error,
        dispatch_lag_p99=lag,
        cpu=result.cpu,
        verdict="saturated" if reason else "ok",
        reason=reason,
    )


def advice(cpu: float, processes: int) -> str:
    """Return what to do about a generator that is late."""
    if cpu < BUSY_CPU:
        return (
            f"it used {cpu:.0%} of a core, so it is the machine that is busy: "
            "run it where less else runs"
        )
    return f"use `processes: {processes * 2}`, or a machine of its own"


def lateness(result: TrafficResult, max_lag: float) -> str | None:
    """Return why a run's times are the generator's own; None where they are the service's."""
    lag = result.dispatch_lag.quantile(0.99) or 0.0
    loop = result.loop_lag.quantile(0.99) or 0.0
    allowed = f" ({max_lag * 1000:.0f} ms may be)"
    if lag > max_lag:
        return f"requests were sent late: dispatch lag p99 {lag * 1000:.0f} ms" + allowed
    if loop > max_lag:
        return f"its loop woke up late: lag p99 {loop * 1000:.0f} ms" + allowed
    if result.cpu > MAX_CPU:
        return f"a process used {result.cpu:.0%} of its core"
    return None
