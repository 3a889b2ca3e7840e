"""What a load run measured, as its summary.json tells; read leniently, shown as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pytest_llmdeploy.untrusted import one_line, read_json
from pytest_llmdeploy.verdicts import Verdict

LARGEST = 16 * 1024 * 1024
"""Bytes of a summary that are read."""
Number = Annotated[float, Field(ge=-1e12, le=1e12, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=10**15)]
Latency = Number | None
"""Seconds; None is infinite: more requests failed than the percentile leaves room for."""
Points = tuple[tuple[Number, Number], ...]


class Shape(BaseModel):
    """A mapping of the summary; what a newer writer adds is left out."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Service(Shape):
    name: str = ""
    url: str = ""
    scripted: bool = False


class Percentiles(Shape):
    n: Count = 0
    finite: Count = 0
    mean: Latency = None
    p50: Latency = None
    p90: Latency = None
    p95: Latency = None
    p99: Latency = None
    max: Latency = None


class LatencySummary(Percentiles):
    from_sent: Percentiles | None = None


class Curves(Shape):
    intended: Points = ()
    sent: Points = ()


class Timeline(Shape):
    bin: Annotated[float, Field(ge=1e-3, le=1e6, allow_inf_nan=False)] = 1.0
    start: Number = 0.0
    intended: tuple[Count, ...] = ()
    ok: tuple[Count, ...] = ()
    failed: tuple[Count, ...] = ()
    in_flight: tuple[Number | None, ...] = ()
    ttft_p50: tuple[Latency, ...] = ()
    ttft_p95: tuple[Latency, ...] = ()
    e2e_p95: tuple[Latency, ...] = ()


class Marked(Shape):
    at: Number
    label: str


class SelfCheck(Shape):
    rate: Number | None = None
    ttft_error: Number | None = None
    dispatch_lag_p99: Number | None = None
    verdict: str = ""


class Generator(Shape):
    processes: Count | None = None
    verdict: str = ""
    reason: str | None = None
    dispatch_lag_p50: Number | None = None
    dispatch_lag_p99: Number | None = None
    loop_lag_p99: Number | None = None
    cpu: Number | None = None
    memory_mb: Number | None = None
    check: SelfCheck | None = None


class ObjectiveResult(Shape):
    name: str
    text: str
    verdict: Verdict
    value: Number | None = None
    lower: Number | None = None
    upper: Number | None = None
    limit: Number | None = None
    n: Count = 0
    reason: str = ""


class Failure(Shape):
    class_: str = Field(alias="class")
    count: Count
    detail: str = ""


class Client(Shape):
    intended: Count = 0
    ok: Count = 0


class Tokens(Shape):
    prompt: Count | None = None
    completion: Count | None = None
    cached: Count | None = None


class Rates(Shape):
    intended: Number | None = None
    ok: Number | None = None
    tokens: Number | None = None


class Probe(Shape):
    rate: Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
    verdict: Verdict
    n: Count = 0
    good: Number | None = None
    ttft_p95: Latency = None
    e2e_p95: Latency = None
    in_flight_slope: Number | None = None
    stable: bool | None = None
    reason: str = ""
    duration: Number | None = None


class Confirmation(Shape):
    rate: Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
    expected: Verdict
    verdict: Verdict
    n: Count = 0
    reason: str = ""


class Capacity(Shape):
    rate: Number | None = None
    low: Number | None = None
    high: Number | None = None
    verdict: Verdict
    reason: str = ""
    probes: tuple[Probe, ...] = ()
    confirmations: tuple[Confirmation, ...] = ()


class Metric(Shape):
    name: str
    verdict: Verdict
    a: Latency = None
    b: Latency = None
    ratio: Number | None = None
    low: Number | None = None
    high: Number | None = None
    max_increase: Number | None = None
    reason: str = ""


class Comparison(Shape):
    verdict: Verdict
    reason: str = ""
    kind: str = ""
    metrics: tuple[Metric, ...] = ()


class Summary(Shape):
    """One profile's run; times in seconds since its start."""

    format: Literal[1]
    name: str
    model: str
    traffic: str = ""
    service: Service = Service()
    environment: str = ""
    started: str = ""
    duration: Number
    window: tuple[Number, Number] | None = None
    intended: Count
    judged: Count
    sent: Count
    classes: dict[str, Count]
    versions: dict[str, Count] = {}
    clients: dict[str, Client] = {}
    tokens: Tokens = Tokens()
    rates: Rates = Rates()
    latencies: dict[str, LatencySummary | None] = {}
    cdf: dict[str, Curves | None] = {}
    timeline: Timeline = Timeline()
    events: tuple[Marked, ...] = ()
    generator: Generator = Generator()
    error: str | None = None
    """Why what was measured is no measurement of the service."""
    objectives: tuple[ObjectiveResult, ...] = ()
    failures: tuple[Failure, ...] = ()
    capacity: Capacity | None = None
    comparison: Comparison | None = None
    notes: tuple[str, ...] = ()


def read_summary(output: Path, name: str) -> Summary | str:
    """Return the summary at `name` below the run's folder, or in one sentence why not."""
    try:
        path = (output / name).resolve()
        if not path.is_relative_to(output.resolve()):
            return f"{name} lies outside the run's folder"
        with path.open("rb") as file:
            body = file.read(LARGEST + 1)
    except (OSError, ValueError, RuntimeError) as error:  # no path's name, links in a circle
        return f"{name} cannot be read: {getattr(error, 'strerror', None) or error}"
    return _parsed(body, name)


def _parsed(body: bytes, name: str) -> Summary | str:
    if len(body) > LARGEST:
        return f"{name} is larger than {LARGEST // 1024**2} MiB"
    try:
        value = read_json(body)
        why = _not_measured(value)
        if why and "classes" not in value:  # nothing was measured before it ended
            return f"{name} says why: {one_line(why)}"
        return Summary.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        return f"{name} is no summary of a load run: {place or 'whole'}: {one_line(first['msg'])}"
    except ValueError as error:
        return f"{name} holds no JSON: {one_line(str(error))}"


def _not_measured(value: Any) -> str | None:
    """Return why the run was not begun, or came to no measurement."""
    if not isinstance(value, dict):
        return None
    why = value.get("skipped") or value.get("error")
    return why if isinstance(why, str) else None
