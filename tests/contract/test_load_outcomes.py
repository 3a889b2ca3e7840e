"""Requests told while the traffic goes on: each once, soon, and none lost at the end."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from pytest_llmdeploy.errors import NotMeasuredError
from pytest_llmdeploy.load.background import BackgroundTraffic, Running
from pytest_llmdeploy.load.outcomes import received, tell
from pytest_llmdeploy.load.spec import Step, Target, TrafficSpec
from pytest_llmdeploy.ports import RequestOutcome
from pytest_llmdeploy.redaction import Redactor
from tests.contract.conftest import wait_until
from tests.contract.traffic import (
    CHAT,
    CHUNKED,
    WHOLE,
    chunk,
    make_pipes_small,
    send,
    stream,
    traffic,
)
from tests.raw_server import FOREVER, Piece, RawServer, Then

REFUSED: list[Piece] = [
    b"HTTP/1.1 503 Service Unavailable\r\nx-color: green\r\ncontent-length: 0\r\n\r\n",
    Then.NEXT,
]
NAMED = CHUNKED.removesuffix(b"\r\n") + b"x-version: 2.0\r\nx-color: green\r\n\r\n"


def named(*events: bytes) -> list[Piece]:
    return [NAMED, *list(stream(*events))[1:]]


def mixed(_request: bytes, number: int) -> Iterable[Piece]:
    """Answer well by name, well without one, and not at all, in turns."""
    return (named(*WHOLE), stream(*WHOLE), REFUSED)[number % 3]


def told_of(records: Iterable[Mapping[str, Any]], start: float) -> list[RequestOutcome]:
    return received(map(tell, records), start)


def background(spec: TrafficSpec, tmp_path: Path) -> BackgroundTraffic:
    return BackgroundTraffic(spec, tmp_path / "traffic", tmp_path, Redactor(()))


@contextmanager
def running(spec: TrafficSpec, tmp_path: Path) -> Iterator[Running]:
    begun = background(spec, tmp_path).start()
    try:
        yield begun
    finally:
        begun._over.set()
        begun._ended.wait()


def endless(url: str, rate: float = 50.0, **more: Any) -> TrafficSpec:
    target = Target(
        url + CHAT, {"x-more": "yes"}, "m", version_header="x-version", color_header="x-color"
    )
    steps = (Step(rate, rate, 3600.0),)
    return traffic(url, 1, **{"outcomes": True, "steps": steps, "targets": (target,), **more})


def test_each_request_is_told_once_and_the_last_ones_after_the_end(tmp_path: Path) -> None:
    with RawServer(mixed) as server, running(endless(server.url), tmp_path) as begun:
        pieces: list[list[RequestOutcome]] = []

        def told(number: int) -> bool:
            pieces.append(list(begun.outcomes()))
            return sum(map(len, pieces)) >= number

        wait_until(lambda: told(60), 20)
        before = sum(map(len, pieces))
        ledger = begun.finish()
        pieces.append(list(begun.outcomes()))
        assert begun.outcomes() == []
        assert b"x-more: yes" in server.requests[0]
    found = [outcome for piece in pieces for outcome in piece]
    assert found == told_of(ledger.records(), ledger.zero)
    assert before < len(found), "some were open when it ended"
    assert {(o.version, o.color, o.ended) for o in found} == {
        ("2.0", "green", "ok"),
        (None, None, "ok"),
        (None, "green", "http_5xx"),
    }
    for outcome in found:
        assert outcome.ok == (outcome.ended == "ok")
        assert (outcome.ttft is None) == (not outcome.ok)
    assert all(a.end <= b.end + 1.0 for a, b in pairwise(found))


def test_their_times_are_those_of_this_process(tmp_path: Path) -> None:
    begin = time.monotonic()
    with RawServer(mixed) as server, running(endless(server.url), tmp_path) as begun:
        found: list[RequestOutcome] = []

        def told() -> bool:
            found.extend(begun.outcomes())
            return bool(found)

        wait_until(told, 20)
        now = time.monotonic()
        assert all(begin < outcome.end < now for outcome in found)


def test_open_requests_are_told_when_they_end(tmp_path: Path) -> None:
    """A finish waits for streams that are open; how they end is told, too."""
    held: list[Piece] = [NAMED, chunk(WHOLE[0]), chunk(WHOLE[1]), FOREVER]

    def answer(_request: bytes, number: int) -> Iterable[Piece]:
        return held if number == 2 else named(*WHOLE)

    with (
        RawServer(answer) as server,
        running(endless(server.url, drain=1.0), tmp_path) as begun,
    ):
        wait_until(lambda: len(server.requests) > 5)
        ledger = begun.finish()
        found = begun.outcomes()
    assert Counter(outcome.ended for outcome in found)["in_flight"] == 1
    assert len(found) == len(list(ledger.records()))
    (cut,) = (outcome for outcome in found if outcome.ended == "in_flight")
    assert (cut.version, cut.color, cut.ok) == ("2.0", "green", False)


def test_several_processes_and_an_owner_that_does_not_listen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pipe that is full delays what is told, and loses nothing."""
    make_pipes_small(monkeypatch)
    found: list[RequestOutcome] = []
    with RawServer(mixed) as server:

        def watch(_progress: object) -> None:
            wait_until(lambda: len(server.requests) >= 500, 30)

        spec = traffic(server.url, 500, rate=250.0, outcomes=True)
        sent = send(spec, tmp_path, watch=watch, processes=2, outcomes=found.extend)
    start = sent.result.zero

    def order(outcome: RequestOutcome) -> tuple[float, str, float]:
        return outcome.end, outcome.ended, outcome.sent or 0.0  # some end in the same microsecond

    assert sorted(found, key=order) == sorted(told_of(sent.records, start), key=order)


def test_nothing_is_told_unless_it_is_wanted(tmp_path: Path) -> None:
    found: list[RequestOutcome] = []
    with RawServer(mixed) as server:
        send(traffic(server.url, 20), tmp_path, outcomes=found.extend)
        assert found == []
        with running(endless(server.url, outcomes=False), tmp_path) as begun:
            text = r"^this traffic was begun without outcomes: nothing tells them$"
            with pytest.raises(NotMeasuredError, match=text):
                begun.outcomes()


def test_traffic_that_has_ended_badly_has_none(tmp_path: Path) -> None:
    with RawServer(mixed) as server:
        spec = endless(server.url, steps=(Step(50.0, 50.0, 0.5),))
        with running(spec, tmp_path) as begun:
            begun._ended.wait()
            with pytest.raises(NotMeasuredError, match="its time was over"):
                begun.outcomes()
