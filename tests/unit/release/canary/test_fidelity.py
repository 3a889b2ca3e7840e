"""A split that is proven, or is not, by who answers new connections."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain, cycle, repeat
from random import Random
from typing import Any

import pytest

from pytest_llmdeploy.errors import NotMeasuredError, PlatformError
from pytest_llmdeploy.release.canary.fidelity import Served, wait_for_one, wait_for_split
from pytest_llmdeploy.release.convergence import Identity
from pytest_llmdeploy.release.state import StepFailedError
from pytest_llmdeploy.waiting import WaitTimeoutError
from tests.unit.release.test_convergence import answering
from tests.unit.release.test_waiting import FakeClock

STABLE, CANARY = Identity("blue", "1"), Identity("green", "2")
Answers = Iterator[Identity | Exception]


def shared(share: float, seed: int = 1) -> Answers:
    """Return answers of which the canary gives a share at random."""
    random = Random(seed)
    while True:
        yield CANARY if random.random() < share else STABLE


def prove(
    answers: Answers,
    weight: int,
    tolerance: float = 0.1,
    timeout: float = 60.0,
    check: Callable[[], None] = lambda: None,
) -> Served:
    return wait_for_split(
        answering(answers),
        STABLE,
        CANARY,
        weight=weight,
        tolerance=tolerance,
        timeout=timeout,
        clock=FakeClock(),
        check=check,
    )


@pytest.mark.parametrize("weight", [1, 5, 10, 25, 50, 75, 95, 99])
def test_a_right_split(weight: int) -> None:
    """Wrong with a probability below 1e-6: some sample of the 12000 connections must agree.

    A right split is excluded in a sample with 1 % at most; the seed is fixed besides.
    """
    served = prove(shared(weight / 100), weight)
    assert served.low <= weight / 100 <= served.high
    assert served.high - weight / 100 <= 0.1
    assert 0 < served.share < 1


@pytest.mark.parametrize(("weight", "answer"), [(100, CANARY), (0, STABLE)])
def test_all_or_none(weight: int, answer: Identity) -> None:
    served = prove(repeat(answer), weight)
    assert (served.share, served.connections) == (weight / 100, 20)


def test_a_change_that_takes_its_time() -> None:
    """The sample with former answers is thrown away; the proof counts from the last one on."""
    served = prove(chain(repeat(STABLE, 3000), shared(0.5)), 50)
    assert served.connections < 1000
    assert served.since > 10  # 3000 connections of 5 ms each came first, in samples that failed


def test_the_first_moment_of_the_last_sample_is_told() -> None:
    served = prove(chain(repeat(STABLE, 1), repeat(CANARY)), 100)
    # The answer that excluded the weight was the first one; the sample begins after it.
    assert served.since == pytest.approx(0.0)
    assert served.connections == 20


@pytest.mark.parametrize("weight", [1, 5, 10, 40, 60, 90, 99])
@pytest.mark.parametrize("answer", [STABLE, CANARY])
@pytest.mark.parametrize("tolerance", [0.1, 0.5, 0.99])
def test_a_router_that_does_nothing_is_never_believed(
    weight: int, answer: Identity, tolerance: float
) -> None:
    """Not even where the tolerance is as wide as the weight."""
    with pytest.raises(WaitTimeoutError) as caught:
        prove(repeat(answer), weight, tolerance, timeout=5.0)
    assert str(caught.value).startswith(
        f"{weight} % of new connections should be answered by green 2 within 5 s "
        "(canary.converge_timeout), but it did not come; last: "
    )


def test_nobody_answers() -> None:
    with pytest.raises(WaitTimeoutError, match=r"last: no answer: refused$"):
        prove(repeat(NotMeasuredError("refused")), 50, timeout=1.0)


def test_some_who_do_not_answer_prove_nothing_and_disprove_nothing() -> None:
    answers = chain.from_iterable((each, NotMeasuredError("-")) for each in shared(0.5))
    assert prove(answers, 50).connections > 20


@pytest.mark.parametrize("who", [Identity("red", "3"), Identity(None, None), Identity(None, "1.5")])
def test_a_third_version(who: Identity) -> None:
    with pytest.raises(PlatformError) as caught:
        prove(chain(repeat(STABLE, 3), repeat(who)), 50)
    assert str(caught.value).startswith(f"cannot tell who answers ({who}, neither blue 1 nor green")


def test_a_rollout_that_fails_meanwhile_ends_the_waiting() -> None:
    def fails() -> None:
        raise StepFailedError("crash loop")

    with pytest.raises(StepFailedError, match="crash loop"):
        prove(shared(0.5), 50, check=fails)


def one(answers: Iterator[Any]) -> None:
    wait_for_one(
        answering(answers),
        CANARY,
        what="connections with canary",
        connections=3,
        timeout=1.0,
        clock=FakeClock(),
    )


def test_a_header_route() -> None:
    one(repeat(CANARY))
    one(chain([STABLE, CANARY, CANARY, NotMeasuredError("-")], repeat(CANARY)))


def test_a_header_route_that_leads_elsewhere() -> None:
    for answers, told in [
        (repeat(STABLE), r"\d+ by blue 1"),
        (cycle([CANARY, CANARY, STABLE]), r"\d+ by blue 1"),
        (repeat(NotMeasuredError("refused")), r"\d+ by nobody \(refused\)"),
        (repeat(Identity(None, None)), r"\d+ by somebody who does not say who"),
    ]:
        with pytest.raises(
            WaitTimeoutError,
            match="3 connections with canary in a row should be answered by green 2 within 1 s "
            rf"\(canary.converge_timeout\), but it did not come; answered otherwise: {told}$",
        ):
            one(answers)
