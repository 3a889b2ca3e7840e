"""The run's own requests as a source of figures."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_llmdeploy.errors import NoDataError, NotMeasuredError
from pytest_llmdeploy.metrics import client
from pytest_llmdeploy.metrics.client import ClientSource
from pytest_llmdeploy.ports import RequestOutcome, Subject, Tally

CANARY = Subject("canary", "green", "2.0.0")
STABLE = Subject("stable", "blue", "1.0.0")
WALL, MONOTONIC = 1_000_000.0, 50.0


def outcome(end: float, version: str | None = "2.0.0", **fields: Any) -> RequestOutcome:
    """Return a request that ended `end` seconds after the source was made."""
    fields = {"ok": True, "ended": "ok", "latency": 0.5, **fields}
    return RequestOutcome(end=MONOTONIC + end, version=version, **fields)


class Run:
    """A source, and the requests that it is to be told."""

    def __init__(self) -> None:
        self.ended: list[RequestOutcome] = []
        self.source = ClientSource(self.drain, clock=lambda: WALL, monotonic=lambda: MONOTONIC)

    def drain(self) -> list[RequestOutcome]:
        told, self.ended = self.ended, []
        return told

    def look(self, *outcomes: RequestOutcome) -> None:
        self.ended += outcomes
        self.source.look([CANARY, STABLE])

    def tally(self, since: float, until: float, subject: Subject = CANARY) -> Tally:
        return self.source.tally(subject, WALL + since, WALL + until)

    def value(self, signal: str, since: float = 0, until: float = 10) -> float:
        return self.source.read(signal, CANARY, WALL + since, WALL + until).value


def failed(end: float, ended: str = "http_5xx", **fields: Any) -> RequestOutcome:
    return outcome(end, ok=False, ended=ended, latency=None, **fields)


def test_requests_are_counted_by_version() -> None:
    run = Run()
    run.look(outcome(1), failed(2), outcome(3, "1.0.0"), failed(4, version=None))
    run.look(outcome(5, latency=2.0, ttft=0.25))
    tally = run.tally(0, 10)
    assert (tally.requests, tally.errors) == (3, 1)
    assert [count for _, count in tally.latency] == [1, 1]
    assert [edge for edge, _ in tally.latency] == pytest.approx([0.5, 2.0], rel=0.002)
    assert sum(count for _, count in tally.ttft) == 1
    assert tally.query == "requests of this run answered by 2.0.0, 10.0 s"
    assert run.tally(0, 10, STABLE).requests == 1
    nameless = run.source.unattributed(WALL, WALL + 10)
    assert (nameless.requests, nameless.errors) == (1, 1)
    assert run.source.unattributed(WALL + 5, WALL + 10).requests == 0


def test_all_signals() -> None:
    run = Run()
    times = [outcome(n / 100, latency=n / 100, ttft=n / 200, itl=n / 1000) for n in range(1, 101)]
    cut = [failed(2, "truncated", tokens=3), failed(2), outcome(3, latency=1.0, tokens=17)]
    run.look(*times, *cut)
    assert run.value("error_rate") == 2 / 103
    assert run.value("truncated") == 1 / 103
    assert run.value("throughput") == 10.3
    assert run.value("tokens_per_second") == 2.0
    # 101 latencies: those of failed requests are left out.
    assert run.value("latency_p50") == pytest.approx(0.51, rel=0.001)
    assert run.value("latency_p95") == pytest.approx(0.96, rel=0.001)
    assert run.value("latency_p99") == pytest.approx(1.0, rel=0.001)
    assert run.value("ttft_p50") == pytest.approx(0.25, rel=0.001)
    assert run.value("ttft_p95") == pytest.approx(0.475, rel=0.001)
    assert run.value("itl_p95") == pytest.approx(0.095, rel=0.001)
    reading = run.source.read("ttft_p95", CANARY, WALL, WALL + 10)
    assert reading.n == 100
    assert reading.query == "ttft_p95 of requests of this run answered by 2.0.0, 10.0 s"


def test_nothing_from_outside_the_span_is_in_it() -> None:
    run = Run()
    run.look(*(outcome(n / 100) for n in range(1000)))
    tally = run.tally(1.13, 4.99)
    assert 337 <= tally.requests <= 387  # at most a slice is missing at each end
    assert run.tally(0, 9.99).requests == 1000


def test_spans_that_meet_at_a_time_that_was_asked_for_have_every_request_once() -> None:
    run = Run()
    run.look(*(outcome(n / 100) for n in range(500)))
    first = run.tally(0, 4.995).requests
    # These became known later, and their slice lies on both sides of the time.
    run.look(*(outcome(n / 100) for n in range(495, 600)))
    assert first == 500
    assert run.tally(0, 4.995).requests + run.tally(4.995, 10).requests == 605


def test_what_the_client_gave_up_says_nothing_about_a_version() -> None:
    run = Run()
    run.look(outcome(1), *(failed(1, how) for how in client.NOT_OURS))
    assert run.tally(0, 2).requests == 1


def test_no_request_is_no_data() -> None:
    run = Run()
    query = "requests of this run answered by 2.0.0, 10.0 s"
    for ask in (
        lambda: run.tally(0, 10),
        lambda: run.value("error_rate"),
        lambda: run.value("throughput"),
    ):
        with pytest.raises(NoDataError, match=f"{query}: no request was answered by it"):
            ask()
    run.look(outcome(1, "1.0.0"))
    assert run.value("throughput") == 0  # there was traffic, and none of it came here
    run.look(failed(1))
    with pytest.raises(NoDataError, match=r"ttft_p95 of .*: none of 1 requests has one"):
        run.value("ttft_p95")
    with pytest.raises(NoDataError, match="no answer told its number of tokens"):
        run.value("tokens_per_second")
    with pytest.raises(NoDataError, match="the span is empty"):
        run.value("error_rate", 3, 3)


def test_a_version_without_a_name_is_not_measured() -> None:
    run = Run()
    with pytest.raises(NotMeasuredError) as raised:
        run.tally(0, 1, Subject("canary", "green", None))
    assert str(raised.value) == (
        "requests of this run: answers of the canary version do not say who gave them "
        "(service.version_header), so its requests cannot be told from the other's"
    )


def test_what_it_offers() -> None:
    source = Run().source
    assert source.offers("tally")
    assert source.offers("truncated")
    assert not source.offers("cpu_usage")
    with pytest.raises(NotMeasuredError, match="the client's requests do not tell it"):
        source.read("cpu_usage", CANARY, 0, 1)


def test_traffic_that_failed_is_told() -> None:
    def drain() -> list[RequestOutcome]:
        raise NotMeasuredError("the traffic has ended")

    with pytest.raises(NotMeasuredError, match="the traffic has ended"):
        ClientSource(drain).look([])


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "MOST_SLICES", 8)
    run = Run()
    for second in range(100):
        run.look(outcome(second))
    assert run.tally(-1, 100).requests == 100
    assert sum(len(slices) for slices in run.source._slices.values()) <= 8
    run.look(*(outcome(101, f"v{number}") for number in range(1000)))
    assert len(run.source._slices) <= client.MOST_VERSIONS + 2
    kept = run.source._between(tuple(run.source._slices), WALL - 1, WALL + 200)
    assert kept.requests == 1100


def test_what_was_sent_before_the_span_is_in_no_tally_of_it() -> None:
    run = Run()
    run.look(outcome(5, sent=MONOTONIC + 1), outcome(5.5, sent=MONOTONIC + 4.5))
    assert run.tally(4, 10).requests == 1
    assert run.tally(0, 10).requests == 2
    assert run.value("error_rate", 4) == 0  # a sample of a signal has what ended in it


def test_who_answered_is_what_the_router_says_or_else_the_answer() -> None:
    run = Run()
    run.look(failed(1, version=None, color="green"), outcome(2), outcome(3, None, color="blue"))
    tally = run.tally(0, 10)
    assert (tally.requests, tally.errors) == (2, 1)
    assert run.tally(0, 10, STABLE).requests == 1
    assert run.source.unattributed(WALL, WALL + 10).requests == 0
