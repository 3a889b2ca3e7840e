"""Arrivals: how many, when, and the same ones for any number of processes."""

from __future__ import annotations

import itertools
import statistics
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_llmdeploy.load.schedule import arrivals, dispersion, expected_arrivals
from pytest_llmdeploy.load.spec import Step, TrafficSpec


def traffic(*steps: tuple[float, float, float], **changes: Any) -> TrafficSpec:
    """Return traffic of steps (rate, to, duration), constant unless changed."""
    return TrafficSpec(
        targets=(),
        steps=tuple(Step(*step) for step in steps),
        **{"arrivals": "constant", **changes},
    )


def test_constant_arrivals_have_one_gap() -> None:
    assert list(arrivals(traffic((4, 4, 2)))) == pytest.approx(
        [0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75]
    )


def test_the_rate_is_kept_where_it_is_no_whole_number() -> None:
    assert len(list(arrivals(traffic((1.1, 1.1, 10))))) == 11
    assert len(list(arrivals(traffic((0.7, 0.7, 10))))) == 7


def test_steps_follow_each_other() -> None:
    times = list(arrivals(traffic((2, 2, 1), (10, 10, 1), (2, 2, 1))))
    assert times == pytest.approx([0, 0.5, *(1 + n / 10 for n in range(10)), 2, 2.5])


def test_equal_steps_may_be_one_object() -> None:
    step = Step(5, 5, 2)
    spec = TrafficSpec(targets=(), steps=(step, step), arrivals="constant")
    assert list(arrivals(spec)) == pytest.approx([n / 5 for n in range(20)])


@pytest.mark.parametrize(("rate", "to"), [(0, 10), (10, 0), (2, 8)])
def test_a_ramps_rate_changes_evenly(rate: float, to: float) -> None:
    """Arrival n comes when n arrivals were due: rate·t + (to - rate)·t²/2d."""
    times = list(arrivals(traffic((rate, to, 20))))
    assert len(times) == 100
    due = [rate * t + (to - rate) * t * t / 40 for t in times]
    assert due == pytest.approx(range(100), abs=1e-6)


@pytest.mark.parametrize(
    ("kind", "burstiness", "variation"),
    [("constant", 1, 0.0), ("poisson", 1, 1.0), ("gamma", 1, 1.0), ("gamma", 0.25, 2.0)],
)
def test_gaps_vary_as_they_should(kind: str, burstiness: float, variation: float) -> None:
    """The coefficient of variation is 1/sqrt(shape); the seed is fixed.

    Over 20000 gaps its standard error is below 0.03 (shape 0.25, by simulation), so another seed
    would fail with a probability far below 1e-6.
    """
    spec = traffic((100, 100, 200), arrivals=kind, burstiness=burstiness, seed=1)
    gaps = [later - sooner for sooner, later in itertools.pairwise(arrivals(spec))]
    assert statistics.fmean(gaps) == pytest.approx(0.01, rel=0.01)
    found = statistics.stdev(gaps) / statistics.fmean(gaps)
    assert found == pytest.approx(variation, abs=0.18)


def test_the_number_of_arrivals_varies_by_its_dispersion() -> None:
    """500 stretches of 20 arrivals each; the variance's standard error is 10 % of it at most.

    In short stretches it is a little less than in long ones. The seed is fixed.
    """
    spec = traffic((100, 100, 100), arrivals="gamma", burstiness=0.25, seed=2)
    counts = [0] * 500
    for at in arrivals(spec):
        counts[min(int(at * 5), 499)] += 1
    found = statistics.variance(counts) / statistics.fmean(counts)
    assert found == pytest.approx(dispersion(spec), rel=0.6)
    assert dispersion(traffic((1, 1, 1), arrivals="gamma", burstiness=4.0)) == 1.0
    assert dispersion(traffic((1, 1, 1), arrivals="poisson")) == 1.0


STEPS = st.lists(
    st.tuples(st.floats(0.5, 50), st.floats(0, 50), st.floats(0.5, 20)), min_size=1, max_size=4
)
SPECS = st.builds(
    lambda steps, kind, burstiness, seed: traffic(
        *steps, arrivals=kind, burstiness=burstiness, seed=seed
    ),
    STEPS,
    st.sampled_from(["constant", "poisson", "gamma"]),
    st.floats(0.05, 5),
    st.integers(0, 1000),
)


@settings(derandomize=True, database=None, deadline=None)
@given(spec=SPECS)
def test_any_schedule_ascends_within_its_time_and_has_the_number_that_is_announced(
    spec: TrafficSpec,
) -> None:
    times = list(arrivals(spec))
    assert len(times) == expected_arrivals(spec)
    assert times == sorted(times)
    assert times[0] >= 0
    assert times[-1] <= spec.traffic_duration + 1e-6
    assert list(arrivals(spec)) == times, "same spec, same arrivals"


def test_another_seed_has_other_arrivals() -> None:
    first, second = (
        list(arrivals(traffic((10, 10, 10), arrivals="poisson", seed=seed))) for seed in (1, 2)
    )
    assert first != second
    assert len(first) == len(second) == 100


def test_very_few_arrivals_are_one_at_least() -> None:
    spec = traffic((0.01, 0.01, 5))
    assert expected_arrivals(spec) == 1
    assert list(arrivals(spec)) == [0.0]


def test_a_trace_is_replayed_as_it_is() -> None:
    spec = TrafficSpec(targets=(), trace=(0.0, 0.5, 0.5, 7.25))
    assert list(arrivals(spec)) == [0.0, 0.5, 0.5, 7.25]
    assert expected_arrivals(spec) == 4
    assert spec.traffic_duration == 7.25
