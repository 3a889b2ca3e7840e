"""Gates against servers that refuse: 429 in bursts, every form of Retry-After, 503s, for ever.

The server notes when it announced a wait, and when each request came: what is asserted is their
order, by its own clock, and never how long anything took.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from pytest_llmdeploy.config.gates import SuiteConfig
from pytest_llmdeploy.gates.assertions import AssertionRegistry
from pytest_llmdeploy.gates.engine import GateEngine
from pytest_llmdeploy.gates.store import Result
from pytest_llmdeploy.gates.suite import Clients, build_suite
from pytest_llmdeploy.models.openai_chat import Endpoint, OpenAIChatModel
from tests.raw_server import Piece, RawServer, as_json, completion

BUSY = {"error": {"message": "busy"}}
PAUSE = 0.005
"""Seconds for an answer: long enough that requests are in flight together."""

HELD = 5.0
"""Seconds for which a request is held at most: what is asserted then fails."""


@dataclass
class Storm:
    """A server that refuses some requests, by their number, and keeps an account of all."""

    refusals: dict[int, str]
    """Status line and headers, separated by newlines, of the requests that are refused."""
    held: dict[int, int] = field(default_factory=dict)
    """Requests that are not answered before another one, by its number, has come."""
    lock: threading.Lock = field(default_factory=threading.Lock)
    came: list[float] = field(default_factory=list)
    """When each request came."""
    in_flight: list[int] = field(default_factory=list)
    """How many there were then, itself included."""
    refused: list[tuple[int, float]] = field(default_factory=list)
    """Number of the request, and when its 429 was on its way."""
    answered: Counter[str] = field(default_factory=Counter)
    """Successful answers by question."""
    now: int = 0

    def __call__(self, request: bytes, number: int) -> Iterable[Piece]:
        with self.lock:
            self.came.append(time.time())
            self.now += 1
            self.in_flight.append(self.now)
        yield from self._waits(number)
        refusal = self.refusals.get(number)
        with self.lock:
            self.now -= 1
            if refusal is None:
                question = json.loads(request.partition(b"\r\n\r\n")[2])["messages"][0]["content"]
                self.answered[question] += 1
            elif refusal.startswith("429"):
                self.refused.append((number, time.time()))
        if refusal is None:
            yield as_json(completion("Paris"))
        else:
            status, *headers = refusal.split("\n")
            yield as_json(BUSY, status, *headers)

    def _waits(self, number: int) -> Iterable[Piece]:
        yield PAUSE
        given_up = time.monotonic() + HELD
        while len(self.came) < self.held.get(number, 0) and time.monotonic() < given_up:
            yield PAUSE


def run(
    server: RawServer, root: Path, cases: int, concurrency: int, **keys: Any
) -> dict[str, Result]:
    """Ask a gate's cases through the real client, pacing and engine."""
    config: dict[str, Any] = {
        "cases": [{"id": f"c{n}", "prompt": f"q{n}"} for n in range(cases)],
        "assert": ["equals: Paris"],
        "concurrency": concurrency,
        **keys,
    }
    made = build_suite(
        key="k",
        name="s",
        config=SuiteConfig.model_validate(config),
        root=root,
        where=lambda *_: ("f", 1),
        registry=AssertionRegistry(),
        timeout=20,
        clients=Clients(lambda: OpenAIChatModel(Endpoint(server.url + "/v1", "m"), retries=3)),
        redact=lambda value: value,
    )
    asking = GateEngine(root / "r.sqlite", root / "p.pulse", workers=1)
    try:
        asking.want(made, list(made.cases))
        return asking.results("k")
    finally:
        asking.close(lambda: False)


def all_answered_once(storm: Storm, results: dict[str, Result], cases: int) -> None:
    assert {result["verdict"] for result in results.values()} == {"PASS"}
    assert len(results) == cases
    assert storm.answered == {f"q{n}": 1 for n in range(cases)}
    assert len(storm.came) == cases + len(storm.refusals)


@pytest.mark.parametrize("form", ["seconds", "milliseconds", "date"])
def test_nobody_comes_before_the_announced_time(form: str, tmp_path: Path) -> None:
    wait = 0.4
    header = {"seconds": f"retry-after: {wait}", "milliseconds": f"retry-after-ms: {wait * 1000}"}
    announced = 0.0
    if form == "date":  # whole seconds: at least one ahead of now
        announced = float(int(time.time()) + 2)
        header["date"] = f"retry-after: {formatdate(announced, usegmt=True)}"
    refusal = f"429 Too Many Requests\n{header[form]}"
    storm = Storm(dict.fromkeys(range(9, 17), refusal))
    with RawServer(storm) as server:
        results = run(server, tmp_path, cases=40, concurrency=8)
    all_answered_once(storm, results, 40)
    # Requests that were in flight when the first refusal was sent could not know of it.
    _, first = min(storm.refused, key=lambda one: one[1])
    _, last = max(storm.refused, key=lambda one: one[1])
    until = announced or last + wait
    in_flight = sum(came <= first for came in storm.came)
    late = sorted(storm.came)[max(in_flight, 16) :]
    assert late
    assert min(late) >= until


def test_a_burst_halves_what_is_in_flight_and_answers_bring_it_back(tmp_path: Path) -> None:
    refusal = "429 Too Many Requests\nretry-after-ms: 300"
    first, second, wide = range(1, 17), range(25, 33), range(201, 217)
    storm = Storm(dict.fromkeys([*first, *second], refusal))
    for burst in (first, second, wide):
        storm.held |= dict.fromkeys(burst, burst[-1])
    with RawServer(storm) as server:
        results = run(server, tmp_path, cases=300, concurrency=16)
    all_answered_once(storm, results, 300)
    assert storm.in_flight[15] == 16
    assert max(storm.in_flight[16:24]) <= 8
    assert 8 <= max(storm.in_flight[24:32]) <= 9  # eight answers let one more in
    assert max(storm.in_flight[33:37]) <= 4
    # Four answers for the fifth, five for the sixth ...: 114 until there are 16 again.
    assert storm.in_flight[215] == 16
    assert max(storm.in_flight) == 16


def test_overload_and_refusals_together_lose_nobody(tmp_path: Path) -> None:
    overload = "503 Unavailable\nretry-after: 0"
    refusal = "429 Too Many Requests\nretry-after-ms: 20"
    storm = Storm(
        {n: overload if n % 7 == 0 else refusal for n in range(5, 120) if n % 7 in (0, 3)}
    )
    with RawServer(storm) as server:
        results = run(server, tmp_path, cases=120, concurrency=12)
    all_answered_once(storm, results, 120)
    attempts = sum(result["samples"][0]["attempts"] for result in results.values())
    assert attempts == len(storm.came)  # the record says how often each was asked


def test_an_endpoint_that_refuses_for_ever_is_an_error_that_says_so(
    tmp_path: Path,
) -> None:
    refusal = "429 Too Many Requests\nretry-after-ms: 90"
    storm = Storm(dict.fromkeys(range(1, 1000), refusal))
    with RawServer(storm) as server:
        results = run(server, tmp_path, cases=3, concurrency=2, throttled_timeout=0.2)
        url = server.url
    assert {result["verdict"] for result in results.values()} == {"ERROR"}
    assert not storm.answered
    asked = results["c0"]["reason"].partition("(asked ")[2].partition(" ")[0]
    assert results["c0"]["reason"] == (
        f"{url}/v1: HTTP 429: busy (asked {asked} times; an endpoint that refuses for more than"
        " 0.2 s is given up: lower the gate's concurrency, ask for a higher limit, or raise"
        " throttled_timeout)"
    )
    assert int(asked) >= 2
