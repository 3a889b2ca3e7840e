"""Traffic that is split on this machine, with the real Envoy and the real reference service."""

from __future__ import annotations

import math
import os
import re
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from pytest_llmdeploy.config.canary import CanaryConfig, RouterConfig
from pytest_llmdeploy.errors import ConflictError, PlatformError
from pytest_llmdeploy.load.background import BackgroundTraffic
from pytest_llmdeploy.load.spec import Step, Target, TrafficSpec
from pytest_llmdeploy.platforms.local_fleet.fleet import LocalFleet
from pytest_llmdeploy.platforms.local_fleet.launching import list_fleets, stop_fleet
from pytest_llmdeploy.platforms.local_fleet.router import LocalRouter
from pytest_llmdeploy.ports import BLUE, COLOR_HEADER, GREEN, Finding, RequestOutcome, Route
from pytest_llmdeploy.redaction import Redactor
from pytest_llmdeploy.release.convergence import endpoints_lack
from tests.contract.conftest import wait_until
from tests.contract.test_local_fleet import (
    CHAT,
    NEW,
    Client,
    Make,
    complete,
    make_fleet,
    process_of,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

OLD_VERSION, NEW_VERSION = "1.0.0", "2.0.0"
CANARY = CanaryConfig()
PLAIN = CanaryConfig(router=RouterConfig(header=None))
Answer = tuple[int, str | None, str | None]
"""Status, version, and the colour that Envoy names."""


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Return a function that makes clients of the test's fleet; the fleet ends with the test."""
    with ExitStack() as stack:

        def make(**options: Any) -> LocalFleet:
            fleet = make_fleet(tmp_path / "fleet", **options)
            stack.callback(fleet.close)
            return fleet

        yield make
    assert stop_fleet(tmp_path / "fleet", 20)


@pytest.fixture
def fleet(make: Make) -> LocalFleet:
    """Return a fleet whose both colours are ready; blue is selected."""
    fleet = make()
    fleet.entry()
    fleet.deploy(GREEN, NEW, {})
    complete(fleet, GREEN)
    return fleet


def accepted(router: LocalRouter) -> None:
    """Return once Envoy says that it has what was written."""
    wait_until(lambda: router.lacks() is None)


def prepared(fleet: LocalFleet, config: CanaryConfig = CANARY) -> LocalRouter:
    """Return a router that has a place for green."""
    router = fleet.router(config)
    router.prepare(BLUE, GREEN)
    accepted(router)
    return router


def answers(url: str, number: int, headers: Mapping[str, str] | None = None) -> Counter[Answer]:
    """Return who answered so many requests, every second one over a new connection."""
    found: Counter[Answer] = Counter()
    with httpx.Client(trust_env=False, headers=headers) as client:
        for turn in range(number):
            more = {"connection": "close"} if turn % 2 else {}
            got = client.get(f"{url}/ready", headers=more)
            found[got.status_code, *map(got.headers.get, ("x-llm-version", COLOR_HEADER))] += 1
    return found


OLD: Answer = (200, OLD_VERSION, BLUE)
SENT_BACK: Answer = (200, OLD_VERSION, None)
SWITCHED: Answer = (200, NEW_VERSION, None)
NEW_ANSWER: Answer = (200, NEW_VERSION, GREEN)


# Weights and headers


def binomial_bounds(n: int, p: float, miss: float) -> tuple[int, int]:
    """Return bounds that a binomial count leaves with probability `miss` at most."""

    def mass(k: int) -> float:
        ways = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
        return math.exp(ways + k * math.log(p) + (n - k) * math.log1p(-p))

    def beyond(order: range) -> int:
        total = 0.0
        for k in order:
            total += mass(k)
            if total > miss / 2:
                return k
        raise AssertionError

    return beyond(range(n + 1)), beyond(range(n, -1, -1))


def test_weights_are_met_from_outside(fleet: LocalFleet) -> None:
    """Three shares of 1200 requests each, at 3e-7: false failure in at most 1e-6 of the runs."""
    url, router, number = fleet.entry().url, prepared(fleet), 1200
    assert answers(url, 100) == {OLD: 100}
    for weight in (5, 50, 80):
        assert router.set_weight(BLUE, GREEN, weight) == weight
        assert router.read() == Route({BLUE: 100 - weight, GREEN: weight}, header=GREEN)
        accepted(router)
        found = answers(url, number)
        assert set(found) <= {OLD, NEW_ANSWER}
        low, high = binomial_bounds(number, weight / 100, 3e-7)
        assert low <= found[NEW_ANSWER] <= high
    router.set_weight(BLUE, GREEN, 100)
    accepted(router)
    assert answers(url, 100) == {NEW_ANSWER: 100}


def test_the_header_leads_to_the_new_version_and_nothing_else_does(fleet: LocalFleet) -> None:
    url, router = fleet.entry().url, prepared(fleet)
    assert router.has_header
    assert router.read() == Route({BLUE: 100, GREEN: 0}, header=GREEN)
    assert answers(url, 30, {"canary": "true"}) == {NEW_ANSWER: 30}
    for headers in (
        {"canary": "True"},
        {"canary": "true, true"},
        {"canary": ""},
        {"canar": "true"},
    ):
        assert answers(url, 10, headers) == {OLD: 10}
    router.set_weight(BLUE, GREEN, 100)
    accepted(router)
    assert answers(url, 10, {"canary": "no"}) == {NEW_ANSWER: 10}, "its weight says so"


def test_without_a_header_route(fleet: LocalFleet) -> None:
    url, router = fleet.entry().url, prepared(fleet, PLAIN)
    assert not router.has_header
    assert router.read() == Route({BLUE: 100, GREEN: 0})
    assert answers(url, 10, {"canary": "true"}) == {OLD: 10}
    assert router.set_weight(BLUE, GREEN, 100) == 100
    accepted(router)
    fleet.switch(BLUE, GREEN)
    router.promote(GREEN)
    accepted(router)
    assert answers(url, 10) == {SWITCHED: 10}


# From beginning to end, and the way back


def test_a_split_from_beginning_to_end(fleet: LocalFleet) -> None:
    url = fleet.entry().url
    before = fleet.snapshot()
    router = fleet.router(CANARY)
    assert router.name == "Envoy of llm"
    assert router.preflight(BLUE, GREEN) == [
        Finding("router", "Envoy of llm answers, with routes 3")
    ]
    snapshot = router.snapshot()
    assert router.read() == Route({BLUE: 100, GREEN: 0})
    assert answers(url, 10) == {SENT_BACK: 10}, "no header is added where nothing is split"
    router.prepare(BLUE, GREEN)
    router.prepare(BLUE, GREEN)
    for weight in (5, 60):
        router.set_weight(BLUE, GREEN, weight)
        assert router.differences(snapshot) == [
            f"the split is blue {100 - weight} %, green {weight} %, canary: true to green, not none"
        ]
        assert fleet.snapshot() == before, "what the fleet is does not depend on the split"
        assert fleet.differences(before) == []
        assert endpoints_lack(fleet, BLUE) is None
        assert fleet.color() == BLUE
    fleet.switch(BLUE, GREEN)
    wait_until(lambda: endpoints_lack(fleet, GREEN) is None)
    router.promote(GREEN)
    router.promote(GREEN)
    accepted(router)
    assert router.read() == Route({BLUE: 0, GREEN: 100})
    assert router.differences(snapshot) == []
    assert answers(url, 20) == {SWITCHED: 20}
    assert answers(url, 10, {"canary": "true"}) == {SWITCHED: 10}
    wait_until(lambda: endpoints_lack(fleet, GREEN) is None)


def test_the_way_back(fleet: LocalFleet) -> None:
    url, router = fleet.entry().url, fleet.router(CANARY)
    before, snapshot = fleet.snapshot(), router.snapshot()
    router.restore_weights(snapshot)
    assert router.differences(snapshot) == [], "there was nothing to give back"
    router.prepare(BLUE, GREEN)
    router.set_weight(BLUE, GREEN, 50)
    router.restore_weights(snapshot)
    accepted(router)
    assert router.read() == Route({BLUE: 100, GREEN: 0}, header=GREEN)
    assert answers(url, 50) == {OLD: 50}
    assert answers(url, 5, {"canary": "true"}) == {NEW_ANSWER: 5}, "the header route stays"
    fleet.restore_traffic(before)
    router.restore(snapshot)
    router.restore(snapshot)
    accepted(router)
    assert router.differences(snapshot) == []
    assert router.snapshot() == snapshot
    assert answers(url, 20) == {SENT_BACK: 20}
    assert answers(url, 5, {"canary": "true"}) == {SENT_BACK: 5}
    assert router.commands(snapshot) == ["llmdeploy rollback --env local"]


@pytest.mark.parametrize("promoted", [False, True])
def test_the_way_back_after_the_switch_never_leads_to_the_new_version(
    fleet: LocalFleet, promoted: bool
) -> None:
    """Whichever of fleet and router goes first, and whether the split had ended or not."""
    url, router = fleet.entry().url, fleet.router(CANARY)
    before, snapshot = fleet.snapshot(), router.snapshot()
    for router_first in (True, False):
        router.prepare(BLUE, GREEN)
        router.set_weight(BLUE, GREEN, 100)
        fleet.switch(BLUE, GREEN)
        if promoted:
            router.promote(GREEN)
        accepted(router)
        assert set(answers(url, 5)) == {SWITCHED if promoted else NEW_ANSWER}
        router.restore_weights(snapshot)
        accepted(router)
        assert answers(url, 10) == {OLD: 10}
        if router_first:
            router.restore(snapshot)
            accepted(router)
            assert answers(url, 10) == {OLD: 10}, "the selector alone would lead to the new version"
        fleet.restore_traffic(before)
        router.restore(snapshot)
        accepted(router)
        assert answers(url, 10) == {SENT_BACK: 10}
        assert [*router.differences(snapshot), *fleet.differences(before)] == []


def test_a_split_that_was_there_is_come_back_to(fleet: LocalFleet) -> None:
    router = prepared(fleet)
    router.set_weight(BLUE, GREEN, 30)
    again = fleet.router(CANARY)
    shown = "blue 70 %, green 30 %, canary: true to green"
    assert [finding.text for finding in again.preflight(GREEN, BLUE)][1:] == [
        "the service's name leads to blue, not to green",
        f"a split is there already: {shown}",
    ]
    snapshot = again.snapshot()
    again.set_weight(BLUE, GREEN, 60)
    again.promote(BLUE)
    assert again.differences(snapshot) == [f"the split is none, not {shown}"]
    again.restore(snapshot)
    assert again.differences(snapshot) == []
    assert again.read() == Route({BLUE: 70, GREEN: 30}, header=GREEN)


# What must not happen


def test_somebody_else_writes(make: Make, fleet: LocalFleet) -> None:
    router, other = fleet.router(CANARY), make().router(PLAIN)
    with pytest.raises(
        PlatformError, match=r"^Envoy of llm has no split to change: it must be prepared$"
    ):
        router.set_weight(BLUE, GREEN, 5)
    snapshot = router.snapshot()
    router.prepare(BLUE, GREEN)
    other.set_weight(BLUE, GREEN, 40)
    text = (
        "somebody else has changed how Envoy of llm splits the traffic: "
        "blue 60 %, green 40 %, canary: true to green now, "
        "blue 100 %, green 0 %, canary: true to green as this release left it"
    )
    writes: list[Callable[[], object]] = [
        lambda: router.set_weight(BLUE, GREEN, 5),
        lambda: router.prepare(BLUE, GREEN),
        lambda: router.promote(BLUE),
    ]
    for write in writes:
        with pytest.raises(ConflictError) as caught:
            write()
        assert str(caught.value) == text
    assert router.read().weights == {BLUE: 60, GREEN: 40}
    other.promote(BLUE)
    with pytest.raises(ConflictError, match=r"splits the traffic: none now, blue 100 %"):
        router.set_weight(BLUE, GREEN, 5)
    other.prepare(BLUE, GREEN)
    router.restore(snapshot)
    assert router.differences(snapshot) == [], "the way back asks nobody"


def test_a_release_that_was_taken_over_changes_no_weight(make: Make, fleet: LocalFleet) -> None:
    fleet.lock.acquire("run 1")
    router = prepared(fleet)
    other = make()
    other.entry()
    other.lock.steal("run 2")
    with pytest.raises(ConflictError, match=r"^run 2 has taken over the release of this fleet"):
        router.set_weight(BLUE, GREEN, 5)
    assert other.router(CANARY).set_weight(BLUE, GREEN, 7) == 7


def test_what_envoy_refuses_is_never_accepted(fleet: LocalFleet) -> None:
    """A weight counts only once Envoy has loaded it."""
    url, router = fleet.entry().url, fleet.router(CANARY)
    snapshot = router.snapshot()
    broken = CANARY.model_copy(
        update={"router": RouterConfig.model_construct(header="bad\n", header_value="true")}
    )
    refused = fleet.router(broken)
    lacks = re.compile(r"^Envoy has routes 3, not [4-9]; why, its log tells$")
    log = fleet._layout.envoy_log
    refused.prepare(BLUE, GREEN)
    wait_until(lambda: "rejected" in log.read_text())
    assert lacks.match(refused.lacks() or "")
    refused.set_weight(BLUE, GREEN, 100)
    wait_until(lambda: bool(lacks.match(refused.lacks() or "")))
    assert answers(url, 20) == {SENT_BACK: 20}
    router.restore(snapshot)
    accepted(router)  # though Envoy has had these routes all the time
    assert answers(url, 5, {"canary": "true"}) == {SENT_BACK: 5}


def test_envoy_comes_back_with_the_split(fleet: LocalFleet) -> None:
    url, router = fleet.entry().url, prepared(fleet)
    router.set_weight(BLUE, GREEN, 100)
    accepted(router)
    (found,) = list_fleets(fleet._layout.folder)
    assert found.status is not None
    assert found.status.envoy_pid is not None
    os.kill(found.status.envoy_pid, signal.SIGKILL)

    def is_back() -> bool:
        (now,) = list_fleets(fleet._layout.folder)
        if now.status is None or not now.status.envoy_restarts or now.status.envoy_pid is None:
            return False
        return router.lacks() is None

    wait_until(is_back)
    assert answers(url, 20) == {NEW_ANSWER: 20}


# Nothing is lost


class Streams(threading.Thread):
    """Opens one stream after the other, each of which must come to its end."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url
        self.stopped = threading.Event()
        self.ended: Counter[str] = Counter()
        self.lost: list[str] = []
        self.start()

    def run(self) -> None:
        message = {"role": "user", "content": "Hello"}
        body = {"messages": [message], "stream": True, "max_tokens": 200}
        with httpx.Client(trust_env=False, timeout=20) as client:
            while not self.stopped.is_set():
                try:
                    with client.stream("POST", self.url + CHAT, json=body) as answer:
                        lines = [line for line in answer.iter_lines() if line]
                except httpx.TransportError as error:
                    self.lost.append(repr(error))
                    continue
                if answer.status_code == 200 and lines[-1] == "data: [DONE]":
                    self.ended[answer.headers["x-llm-version"]] += 1
                else:
                    self.lost.append(f"{answer.status_code} {lines[-1:]}")


def test_no_change_of_a_weight_loses_a_request(fleet: LocalFleet) -> None:
    url, router = fleet.entry().url, fleet.router(CANARY)
    before, snapshot = fleet.snapshot(), router.snapshot()
    clients: list[Client | Streams] = [
        Client(url, keep_alive=True),
        Client(url, keep_alive=False),
        Streams(url),
        Streams(url),
    ]

    def answered() -> int:
        return sum(sum(each.answers.values()) for each in clients if isinstance(each, Client))

    def go_on() -> None:
        """Return when more requests were answered meanwhile."""
        have = answered()
        wait_until(lambda: answered() >= have + 10)

    try:
        for turn in range(4):
            router.prepare(BLUE, GREEN)
            for weight in (5, 25, 50, 75, 100):
                router.set_weight(BLUE, GREEN, weight)
                accepted(router)
                go_on()
            if turn % 2:
                router.restore_weights(snapshot)
                go_on()
                router.restore(snapshot)
            else:
                fleet.switch(BLUE, GREEN)
                router.promote(GREEN)
                accepted(router)
                go_on()
                fleet.restore_traffic(before)
            go_on()
    finally:
        for client in clients:
            client.stopped.set()
        for client in clients:
            client.join()
    assert [client.lost for client in clients] == [[]] * 4
    for client in clients:
        seen = client.answers if isinstance(client, Client) else client.ended
        assert set(seen) == {OLD_VERSION, NEW_VERSION}
    assert router.differences(snapshot) == []


# Whose failures they are


def test_failures_that_envoy_answers_itself_are_a_colors(fleet: LocalFleet, tmp_path: Path) -> None:
    """A replica that is gone says no version; Envoy says whom it could not reach.

    Of 40 requests one at least goes to each colour: false failure in 2e-12 of the runs.
    """
    url, router = fleet.entry().url, prepared(fleet)
    router.set_weight(BLUE, GREEN, 50)
    accepted(router)
    target = Target(
        url + CHAT, {}, "scripted", version_header="x-llm-version", color_header=COLOR_HEADER
    )
    spec = TrafficSpec(
        targets=(target,), steps=(Step(40, 40, 600.0),), arrivals="constant", outcomes=True
    )
    running = BackgroundTraffic(spec, tmp_path / "load", tmp_path, Redactor(())).start()
    found: list[RequestOutcome] = []

    def number(ok: bool) -> int:
        found.extend(running.outcomes())
        return sum(outcome.ok is ok for outcome in found)

    try:
        wait_until(lambda: number(ok=True) >= 40)
        for pod in fleet.pods(GREEN):
            os.kill(process_of(fleet, pod.name), signal.SIGSTOP)  # first: both at once
        for pod in fleet.pods(GREEN):
            os.kill(process_of(fleet, pod.name), signal.SIGKILL)
        fleet.scale(GREEN, 0)
        wait_until(lambda: not fleet.pods(GREEN))
        have = number(ok=False)
        wait_until(lambda: number(ok=False) >= have + 20)
        assert answers(url, 5, {"canary": "true"}) == {(503, None, GREEN): 5}
    finally:
        records = list(running.finish().records())
        found.extend(running.outcomes())
    assert len(found) == len(records)
    good = {(outcome.version, outcome.color) for outcome in found if outcome.ok}
    assert good == {(OLD_VERSION, BLUE), (NEW_VERSION, GREEN)}
    failed = [outcome for outcome in found if not outcome.ok]
    refused = {(o.version, o.color) for o in failed if o.ended == "http_5xx"}
    assert refused == {(None, GREEN)}
    assert {o.color for o in failed} == {GREEN}
    assert {record.get("color") for record in records} == {BLUE, GREEN}
