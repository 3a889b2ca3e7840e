"""A growing queue is told from a busy one."""

from __future__ import annotations

import math
import random

import pytest

from pytest_llmdeploy.verdicts.drift import Drift, judge_backlog

CAPACITY = 20.0
"""Requests a second that the simulated server can answer."""


def queue(load: float, seed: int, duration: float = 60.0) -> tuple[list[float], list[float]]:
    """Return four samples a second of one server's queue, 20 s after the first arrival."""
    chance = random.Random(seed)
    times: list[float] = []
    lengths: list[float] = []
    now, length = -20.0, 0
    while now < duration:
        total = load * CAPACITY + (CAPACITY if length else 0)
        after = now + chance.expovariate(total)
        while len(times) / 4 < min(after, duration):
            times.append(len(times) / 4)
            lengths.append(length)
        now = after
        length += 1 if chance.random() * total < load * CAPACITY else -1
    return times, lengths


def line(slope: float, seconds: float, per_second: float = 4.0) -> tuple[list[float], list[float]]:
    times = [tick / per_second for tick in range(int(seconds * per_second) + 1)]
    return times, [3 + slope * time for time in times]


def test_a_busy_queue_is_stable() -> None:
    """At load 0.7 none of 10000 simulated queues seemed to grow, so less than 0.2 % do.

    More than 3 of 20 have a probability below 1e-6.
    """
    judged = [judge_backlog(*queue(0.7, seed), 0.7 * CAPACITY).stable for seed in range(20)]
    assert judged.count(True) >= 17


def test_a_growing_queue_is_not_stable() -> None:
    """At load 1.2 99.6 % of 10000 simulated queues seemed to grow, so more than 99.3 % do.

    More than 4 of 20 missed have a probability below 1e-6.
    """
    judged = [judge_backlog(*queue(1.2, seed), 1.2 * CAPACITY).stable for seed in range(20)]
    assert judged.count(False) >= 16


def answers(duration: float, seconds: float, seed: int) -> tuple[list[float], list[float]]:
    """Return four samples a second, once it is full, of a service that makes nobody wait."""
    chance = random.Random(seed)
    arrivals = [0.0]
    while arrivals[-1] < seconds:
        arrivals.append(arrivals[-1] + chance.expovariate(CAPACITY))
    times = [tick / 4 for tick in range(int(4 * duration) + 1, int(4 * seconds))]
    return times, [sum(at <= time < at + duration for at in arrivals) for time in times]


@pytest.mark.parametrize(("duration", "seconds"), [(5, 30), (3, 10), (20, 30)])
def test_answers_as_long_as_the_samples_are_no_backlog(duration: float, seconds: float) -> None:
    """Of 1000 simulated runs of each none seemed to grow, so less than 0.5 % do.

    More than 4 of 30 have a probability below 1e-6.
    """
    judged = [
        judge_backlog(
            *answers(duration, seconds, seed), rate=CAPACITY, answer_duration=duration
        ).stable
        for seed in range(30)
    ]
    assert judged.count(False) <= 4


@pytest.mark.parametrize("duration", [1.0, 20.0])
def test_growth_is_seen_through_the_chance_of_long_answers(duration: float) -> None:
    """At 100 in flight chance makes a difference of 14, and of 57 hardly ever."""
    times, lengths = line(3.0, 24)
    full = [length + 97 for length in lengths]
    assert judge_backlog(times, full, rate=20, answer_duration=duration).stable is False
    times, lengths = line(1.5, 24)
    full = [length + 97 for length in lengths]
    found = judge_backlog(times, full, rate=20, answer_duration=duration)
    assert found.stable is (duration > 3)
    bursts = judge_backlog(*line(9.0, 24), rate=20, answer_duration=duration, dispersion=100)
    assert bursts.stable is (duration > 3)


def test_the_slope_is_in_requests_a_second() -> None:
    drift = judge_backlog(*line(1.5, 30), rate=20)
    assert (drift.slope, drift.lower) == pytest.approx((1.5, 1.5))
    assert drift.stable is False


def test_the_bound_is_below_the_slope_where_samples_scatter() -> None:
    times, lengths = line(1.5, 30)
    scattered = [
        length + 9 * math.sin(40 * time) for time, length in zip(times, lengths, strict=True)
    ]
    drift = judge_backlog(times, scattered, rate=20)
    assert drift.slope is not None
    assert drift.lower is not None
    assert drift.lower < drift.slope


@pytest.mark.parametrize(
    ("slope", "rate", "stable"),
    [
        (0.0, 20.0, True),
        (-3.0, 20.0, True),
        (0.39, 20.0, True),
        (0.41, 20.0, False),
        (0.15, 5.0, False),
        (0.13, 5.0, True),  # 3.9 requests in 30 s
    ],
)
def test_how_much_growth_counts(slope: float, rate: float, stable: bool) -> None:
    assert judge_backlog(*line(slope, 30), rate).stable is stable


@pytest.mark.parametrize(
    "samples",
    [([], []), line(9.0, 4.75), line(9.0, 30, per_second=0.25)],
    ids=["none", "short", "few"],
)
def test_too_little_to_tell(samples: tuple[list[float], list[float]]) -> None:
    assert judge_backlog(*samples, rate=20) == Drift(None, None, None)


def test_the_least_to_tell() -> None:
    assert judge_backlog(*line(9.0, 5.0), rate=20).stable is False
    assert judge_backlog(*line(9.0, 9.0, per_second=1.0), rate=20).stable is False


@pytest.mark.parametrize("rate", [0.0, -1.0, math.nan, math.inf])
def test_impossible_rates(rate: float) -> None:
    with pytest.raises(ValueError) as raised:
        judge_backlog(*line(1.0, 30), rate)
    assert str(raised.value) == f"an arrival rate must be above 0, not {rate}"


def test_samples_that_are_none() -> None:
    times, lengths = line(1.0, 30)
    with pytest.raises(ValueError, match=r"^samples of the number in flight must be finite$"):
        judge_backlog(times, [math.nan, *lengths[1:]], rate=20)
    with pytest.raises(
        ValueError, match=r"^samples of the number in flight must be in the order of time$"
    ):
        judge_backlog(times[::-1], lengths, rate=20)
    with pytest.raises(ValueError):
        judge_backlog(times, lengths[1:], rate=20)
