"""Is it the generator that is slow? Measured against a mock whose schedule is known."""

from __future__ import annotations

import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pytest_llmdeploy.errors import NotMeasuredError
from pytest_llmdeploy.load.controller import TrafficResult, run_traffic
from pytest_llmdeploy.load.ledger import EndClass, read_ledger
from pytest_llmdeploy.load.spec import Step, Target, TrafficSpec
from pytest_llmdeploy.verdicts.histogram import Histogram

MOCK_TTFT = 0.1
MOCK_INTERVAL = 0.01
"""Seconds between two tokens of the mock, and so at most 100 tokens a second and stream."""
MAX_ERROR = 0.05
"""Share of the strictest latency objective by which the generator's own times may be off."""
LEAST_RATE = 10.0
"""Requests per second of the check: fewer would be too few to tell."""
BUSY_CPU = 0.6
"""Share of one core; below it a late generator waits for a machine that others keep busy."""
MAX_CPU = 0.9
"""Share of one core; beyond it the times of tokens are the generator's own."""
LONGEST_ANSWER = 200
"""Tokens of the mock's answers at most, so that the check ends soon."""
START_TIMEOUT = 30.0


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
            *(sys.executable, "-m", "pytest_llmdeploy.load.mock", "--port", "0"),
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
        ready, _, _ = select.select([process.stdout], [], [], START_TIMEOUT)
        words = process.stdout.readline().decode().split() if ready else []
        if len(words) < 2:
            raise NotMeasuredError("the mock for the generator's self-check did not start")
        yield words[1]
    finally:
        process.stdin.close()
        process.terminate()
        process.wait()
        process.stdout.close()


def check_generator(
    traffic: TrafficSpec, seconds: float, folder: Path, processes: int, max_dispatch_lag: float
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
            drain=MOCK_TTFT + MOCK_INTERVAL * most + 2.0,
        )
        result = run_traffic(against_mock, folder, processes=processes)
    result.check_complete()
    return _judged(result, rate, max_dispatch_lag, tolerated_error(traffic, max_dispatch_lag))


def tolerated_error(traffic: TrafficSpec, otherwise: float) -> float:
    """Return the seconds by which times may be off without a verdict's depending on them."""
    limits = [
        objective.limit
        for objective in traffic.parsed_objectives()
        if objective.metric in ("ttft", "ttfr", "e2e", "queueing")
    ]
    limits += [limit for metric, limit in traffic.good.items() if metric != "tpot"]
    return max(min(limits) * MAX_ERROR if limits else otherwise, MOCK_TTFT * MAX_ERROR)


def _judged(result: TrafficResult, rate: float, max_dispatch_lag: float, tolerated: float) -> Check:
    times = Histogram()
    failed = 0
    for record in read_ledger(result.ledger):
        if record["class"] != EndClass.OK:
            failed += 1
        elif "first" in record:
            times.add(max(record["first"] - record["at"], 0.0))
    median = times.quantile(0.5)
    error = None if median is None else median - MOCK_TTFT
    reason = lateness(result, max_dispatch_lag)
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


def lateness(result: TrafficResult, max_dispatch_lag: float) -> str | None:
    """Return why a run's times are the generator's own; None where they are the service's."""
    lag = result.dispatch_lag.quantile(0.99) or 0.0
    loop = result.loop_lag.quantile(0.99) or 0.0
    if lag > max_dispatch_lag:
        return f"requests were sent late: dispatch lag p99 {lag * 1000:.0f} ms" + _allowed(
            max_dispatch_lag
        )
    if loop > max_dispatch_lag:
        return f"its loop woke up late: lag p99 {loop * 1000:.0f} ms" + _allowed(max_dispatch_lag)
    if result.cpu > MAX_CPU:
        return f"a process used {result.cpu:.0%} of its core"
    return None


def _allowed(seconds: float) -> str:
    return f" (max_dispatch_lag is {seconds * 1000:.0f} ms)"
