"""Convergence, for what a real fleet cannot be made to show."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain, cycle, repeat
from typing import Any, cast

import pytest

from pytest_llmdeploy.errors import ConflictError, NotMeasuredError, PlatformError
from pytest_llmdeploy.ports import Endpoint, Fleet, Pod
from pytest_llmdeploy.release.convergence import (
    Converged,
    Identity,
    endpoints_lack,
    wait_until_converged,
)
from pytest_llmdeploy.waiting import WaitTimeoutError
from tests.unit.release.test_waiting import FakeClock

BLUE, GREEN = Identity("blue", "1"), Identity("green", "2")
OURS = [Endpoint("g1", "green", ready=True), Endpoint("g2", "green", ready=True)]
THEIRS = [Endpoint("b1", "blue", ready=True)]
Said = list[Endpoint] | Exception


class FakeFleet:
    """Endpoints that a test says one after the other; two ready replicas of green."""

    def __init__(self, said: Iterator[Said]) -> None:
        self._said = said

    def endpoints(self) -> list[Endpoint]:
        found = next(self._said)
        if isinstance(found, Exception):
            raise found
        return found

    def pods(self, color: str) -> list[Pod]:
        ready = [Pod(name, color, "llm:2", ready=True) for name in ("g1", "g2")]
        return [*ready, Pod("g0", color, "llm:2", ready=True, terminating=True)]


def fleet(*said: Said) -> Fleet:
    """Return a fleet that says these endpoints, the last of them for ever."""
    return cast("Fleet", FakeFleet(chain(said, repeat(said[-1]))))


def answering(answers: Iterator[Identity | Exception]) -> Callable[[], Identity]:
    def ask() -> Identity:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return ask


def wait(found: Fleet, answers: Iterator[Identity | Exception], **more: Any) -> Converged:
    options: dict[str, Any] = {"connections": 3, "since": 0.0, "timeout": 2.0, "clock": FakeClock()}
    return wait_until_converged(found, "green", GREEN, answering(answers), **(options | more))


def test_the_row_begins_after_the_last_wrong_answer() -> None:
    nobody = NotMeasuredError("connection refused")
    found = wait(fleet(OURS), chain([BLUE, GREEN, BLUE, nobody], repeat(GREEN)))
    assert found.answers == {"blue 1": 2, "green 2": 4, "no answer": 1}
    assert found.probes == 7
    assert found.endpoints == 0.0
    assert found.first == pytest.approx(0.05)
    assert found.all == pytest.approx(0.20)


def test_a_control_plane_that_does_not_answer_for_a_while() -> None:
    down = [PlatformError("HTTP 500")] * 10
    found = wait(fleet(*down, THEIRS, OURS), repeat(GREEN))
    assert found.endpoints == pytest.approx(0.55)
    assert found.all == 0.0  # what users meet was right from the first


def test_endpoints_that_are_right_only_for_a_moment() -> None:
    found = wait(fleet(OURS, THEIRS, OURS[:1], OURS), repeat(GREEN))
    assert found.endpoints == pytest.approx(0.15)


@pytest.mark.parametrize(
    ("said", "answers", "last"),
    [
        ([OURS], cycle([GREEN, BLUE]), "blue 1 answered"),
        ([OURS], repeat(NotMeasuredError("refused")), "no answer: refused"),
        ([PlatformError("HTTP 503")], repeat(GREEN), "HTTP 503"),
        ([THEIRS], repeat(GREEN), "the service still leads to blue"),
        ([[]], repeat(GREEN), "the service leads to 0 of 2 ready replicas of green"),
    ],
)
def test_what_is_said_when_it_does_not_come(
    said: list[Said], answers: Iterator[Identity | Exception], last: str
) -> None:
    with pytest.raises(WaitTimeoutError) as caught:
        wait(fleet(*said), answers)
    assert str(caught.value) == (
        "3 new connections in a row should be answered by green 2 within 2 s "
        f"(blue_green.converge_timeout), but it did not come; last: {last}"
    )


def test_a_conflict_is_not_waited_out() -> None:
    with pytest.raises(ConflictError, match="somebody else"):
        wait(fleet(ConflictError("somebody else")), repeat(GREEN))


def test_answers_that_do_not_say_whose_they_are() -> None:
    with pytest.raises(PlatformError) as caught:
        wait(fleet(OURS), repeat(Identity(None, None)))
    assert str(caught.value) == (
        "cannot tell who answers (somebody who does not say who for green 2): let /health name its "
        "color, or set service.version_header and give versions different names"
    )


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (Identity("blue", "1"), Identity("blue", "2"), True),
        (Identity("blue", "1"), Identity("green", "1"), False),
        (Identity("blue", None), Identity(None, "1"), None),
        (Identity(None, "1"), Identity("green", "1"), True),
        (Identity(None, "1"), Identity(None, "2"), False),
        (Identity(None, None), Identity("blue", "1"), None),
    ],
)
def test_identities(one: Identity, other: Identity, same: bool | None) -> None:
    assert one.is_same(other) is same
    assert other.is_same(one) is same
    assert one.is_known() is (one != Identity(None, None))


@pytest.mark.parametrize(
    ("said", "lack"),
    [
        (OURS, None),
        ([*OURS, Endpoint("b1", "blue", ready=False)], None),
        ([*OURS, *THEIRS], "the service still leads to blue"),
        ([*OURS, Endpoint("10.0.0.1", None, ready=True)], "the service still leads to 10.0.0.1"),
        (OURS[:1], "the service leads to 1 of 2 ready replicas of green"),
        (
            [OURS[0], Endpoint("g2", "green", ready=False)],
            "the service leads to 1 of 2 ready replicas of green",
        ),
    ],
)
def test_endpoints_lack(said: list[Endpoint], lack: str | None) -> None:
    assert endpoints_lack(fleet(said), "green") == lack
