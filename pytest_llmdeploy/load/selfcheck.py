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
MAX_TTFT_ERROR = 0.05
"""Share by which the median time to the mock's first token may be off."""
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
    rate = peak_rate(traffic)
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
    return _judged(result, rate, max_dispatch_lag)


def _judged(result: TrafficResult, rate: float, max_dispatch_lag: float) -> Check:
    times = Histogram()
    failed = 0
    for record in read_ledger(result.ledger):
        if record["class"] != EndClass.OK:
            failed += 1
        elif "first" in record:
            times.add(max(record["first"] - record["at"], 0.0))
    median = times.quantile(0.5)
    error = None if median is None else median / MOCK_TTFT - 1
    reason = lateness(result, max_dispatch_lag)
    if failed:
        reason = f"{failed} of {result.intended} requests to a mock failed"
    elif error is not None and error > MAX_TTFT_ERROR:
        reason = f"against a mock the median TTFT was {error:.0%} off ({MAX_TTFT_ERROR:.0%} may be)"
    lag = result.dispatch_lag.quantile(0.99)
    return Check(rate, error, lag, result.cpu, "saturated" if reason else "ok", reason)


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
