"""The search for the highest rate, on services whose true capacity is known."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_llmdeploy.load.capacity import (
    MOST_PROBES,
    Capacity,
    Probe,
    search,
)
from pytest_llmdeploy.verdicts import Verdict


def probe(rate: float, verdict: Verdict, *, met: bool | None = None) -> Probe:
    return Probe(
        rate=rate,
        verdict=verdict,
        met=verdict is Verdict.PASS if met is None else met,
        n=100,
        good=None,
        ttft_p95=None,
        e2e_p95=None,
        in_flight_slope=None,
        stable=True,
        duration=10.0,
        reason="",
    )


class Service:
    """Meets the objectives up to a rate; notes what it was asked."""

    def __init__(self, capacity: float, blur: float = 0.0) -> None:
        """Within `blur` of the capacity, as a share, no probe is certain."""
        self.capacity = capacity
        self.blur = blur
        self.asked: list[float] = []

    def __call__(self, rate: float) -> Probe:
        self.asked.append(rate)
        met = rate <= self.capacity
        if abs(rate / self.capacity - 1) <= self.blur:
            return probe(rate, Verdict.INCONCLUSIVE, met=met)
        return probe(rate, Verdict.PASS if met else Verdict.FAIL)


def found(
    service: Callable[[float], Probe],
    first: float = 10,
    most: float = 1000,
    precision: float = 0.1,
    least: float | None = None,
) -> Capacity:
    return search(service, first, most, precision, least)


def test_it_doubles_and_then_narrows_down() -> None:
    service = Service(70)
    result = found(service)
    assert service.asked[:4] == [10, 20, 40, 80]
    assert service.asked[4] == pytest.approx(56.6, abs=0.1)
    assert result.verdict is Verdict.PASS
    assert result.low is not None
    assert result.high is not None
    assert result.low <= 70 < result.high <= result.low * 1.1
    assert result.rate == result.low
    assert result.reason == (
        "67.3 requests/s meet the objectives; 67.3/s hold for certain, 73.4/s certainly do not"
    )


def test_it_goes_down_where_the_first_rate_is_too_high() -> None:
    service = Service(3)
    result = found(service)
    assert service.asked[:3] == [10, 5, 2.5]
    assert result.low is not None
    assert result.high is not None
    assert result.low <= 3 < result.high


def test_it_ends_at_the_highest_rate_that_may_be_sent() -> None:
    service = Service(1e9)
    result = found(service, most=1000)
    assert service.asked == [10, 20, 40, 80, 160, 320, 640, 1000]
    assert (result.rate, result.low, result.high) == (1000, 1000, None)
    assert result.reason == (
        "1000 requests/s meet the objectives (the search ends at max_rate 1000/s); "
        "1000/s hold for certain, no limit was found"
    )


def test_it_gives_up_where_no_rate_will_do() -> None:
    result = found(Service(1e-9))
    assert len(result.probes) == 9
    assert (result.rate, result.low) == (None, None)
    assert result.verdict is Verdict.INCONCLUSIVE
    assert result.reason == "the objectives were missed at 0.0391/s already"


def test_it_says_that_it_ended_before_it_had_found_a_limit() -> None:
    result = found(Service(1e12), first=0.001, most=100_000)
    assert len(result.probes) == MOST_PROBES
    assert f"(the search ends after {MOST_PROBES} probes)" in result.reason


@pytest.mark.parametrize(
    ("capacity", "blur", "least", "verdict"),
    [
        (70, 0.0, 50, Verdict.PASS),
        (70, 0.0, 60, Verdict.PASS),
        (70, 0.0, 200, Verdict.FAIL),
        (70, 0.0, 75, Verdict.FAIL),
        (70, 0.0, 70, Verdict.INCONCLUSIVE),  # between 67.3 and 73.4
        (70, 0.9, 60, Verdict.INCONCLUSIVE),
        (1e-9, 0.0, 20, Verdict.FAIL),
        (1e-9, 0.0, 0.01, Verdict.INCONCLUSIVE),
        (1e9, 0.0, 1000, Verdict.PASS),
    ],
)
def test_the_rate_that_must_be_found(
    capacity: float, blur: float, least: float, verdict: Verdict
) -> None:
    result = found(Service(capacity, blur), least=least)
    assert result.verdict is verdict, result.reason


def test_a_rate_that_no_probe_was_sure_of_is_no_pass() -> None:
    result = found(lambda rate: probe(rate, Verdict.INCONCLUSIVE, met=rate < 50))
    assert result.verdict is Verdict.INCONCLUSIVE
    assert result.rate is not None
    assert (result.low, result.high) == (None, None)
    assert "no rate holds for certain, no limit was found" in result.reason


SEARCHES = {
    "capacity": st.floats(0.01, 5000),
    "first": st.floats(0.1, 100),
    "most": st.floats(100, 2000),
    "precision": st.floats(0.01, 1),
}


@settings(derandomize=True, database=None, deadline=None)
@given(**SEARCHES, blur=st.just(0.0) | st.floats(0, 0.5))
def test_the_interval_holds_the_truth(
    capacity: float, first: float, most: float, precision: float, blur: float
) -> None:
    service = Service(capacity, blur)
    result = found(service, first, most, precision)
    assert len(result.probes) == len(service.asked) <= MOST_PROBES
    assert max(service.asked) <= max(most, first)
    if result.low is not None:
        assert result.low <= capacity
    if result.high is not None:
        assert result.high > capacity
    if result.rate is not None:
        assert result.rate <= capacity
        if not blur and len(result.probes) < MOST_PROBES and result.rate < most:
            assert result.high is not None
            assert result.high / result.rate <= 1 + precision + 1e-9
    else:
        assert capacity < first
    written = json.loads(json.dumps(result.to_json(), allow_nan=False))
    rates = [each["rate"] for each in written["probes"]]
    assert rates == sorted(service.asked)


@settings(derandomize=True, database=None, deadline=None)
@given(**SEARCHES, seed=st.integers(0, 10**6), least=st.none() | st.floats(0.1, 2000))
def test_contradictory_probes_never_make_a_result_that_contradicts_itself(
    capacity: float, first: float, most: float, precision: float, seed: int, least: float | None
) -> None:
    chance = random.Random(seed)

    def noisy(rate: float) -> Probe:
        met = (rate <= capacity) ^ (chance.random() < 0.2)
        sure = Verdict.PASS if met else Verdict.FAIL
        return probe(rate, sure if chance.random() < 0.7 else Verdict.INCONCLUSIVE, met=met)

    result = found(noisy, first, most, precision, least)
    assert len(result.probes) <= MOST_PROBES
    if result.low is not None and result.high is not None:
        assert result.low < result.high
    if result.rate is not None and result.high is not None:
        assert result.rate < result.high
    if result.verdict is Verdict.PASS:
        assert result.low is not None
        assert least is None or result.low >= least
    if result.verdict is Verdict.FAIL:
        assert least is not None
        assert result.high is not None
        assert result.high <= least


def test_noise_near_the_capacity_moves_the_result_little() -> None:
    """A service of 100/s whose probes are wrong more often the nearer they are to it.

    A probe at rate r is wrong with exp(-20·|ln(r/100)|)/2: half of the time at 100, 0.6 % at 80.
    Of 20000 simulated searches 0.6 % ended outside 75 to 125, so less than 1 % do; more than 14 of
    300 have a probability below 1e-6.
    """
    chance = random.Random(3)

    def noisy(rate: float) -> Probe:
        wrong = chance.random() < math.exp(-20 * abs(math.log(rate / 100))) / 2
        return probe(rate, Verdict.PASS if (rate <= 100) ^ wrong else Verdict.FAIL)

    rates = [found(noisy, first=10).rate for _ in range(300)]
    assert sum(rate is None or not 75 <= rate <= 125 for rate in rates) <= 14
