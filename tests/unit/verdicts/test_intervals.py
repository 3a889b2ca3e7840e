"""Quantiles of the Beta and Student distributions, against scipy 1.17; the interval of a mean."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmdeploy.verdicts.intervals import (
    MeanInterval,
    beta_quantile,
    incomplete_beta,
    mean_interval,
    student_quantile,
)

parameters = st.floats(min_value=0.1, max_value=1e5)


@pytest.mark.parametrize(
    ("a", "b", "x", "expected"),  # scipy.special.betainc
    [
        (0.5, 0.5, 0.25, 1 / 3),
        (2, 3, 0.4, 0.5248),
        (0.01, 50, 1e-6, 0.9107886776870843),
        (1e4, 1e4, 0.5, 0.5),
        (300.5, 9700.25, 0.031, 0.71583023730568),
        (500001, 9500000, 0.0501, 0.9263444003522436),
        (1e7, 3, 0.9999999, 0.9196985754344627),
        (2, 3, 0.0, 0.0),
        (2, 3, 1.0, 1.0),
    ],
)
def test_the_incomplete_beta_function(a: float, b: float, x: float, expected: float) -> None:
    assert incomplete_beta(a, b, x) == pytest.approx(expected, rel=1e-7)


@given(parameters, parameters, st.floats(min_value=0.001, max_value=0.999))
def test_a_quantile_is_where_the_distribution_has_its_probability(
    a: float, b: float, probability: float
) -> None:
    assert incomplete_beta(a, b, beta_quantile(probability, a, b)) == pytest.approx(
        probability, rel=1e-6
    )


@given(parameters, parameters, st.floats(min_value=0.001, max_value=0.999))
def test_the_complement_is_the_distribution_from_the_other_side(
    a: float, b: float, x: float
) -> None:
    assert incomplete_beta(a, b, x) + incomplete_beta(b, a, 1 - x) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    ("probability", "freedom", "expected"),  # scipy.stats.t.ppf
    [
        (0.5, 3, 0.0),
        (0.95, 1, 6.313751514675037),
        (0.99, 6, 3.1426684032910064),
        (0.975, 10, 2.228138851986274),
        (0.999, 3, 10.214531852407383),
        (0.95, 1000, 1.6463788172854643),
        (0.6, 4.5, 0.2687518355421751),
        (0.99999, 2, 223.60344363454604),
        (0.9999999, 1, 1 / math.tan(1e-7 * math.pi)),  # Cauchy's
        (0.05, 7, -1.8945786050900066),
    ],
)
def test_the_quantile_of_student(probability: float, freedom: float, expected: float) -> None:
    assert student_quantile(probability, freedom) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_the_interval_of_a_mean() -> None:
    mean, lower, upper = mean_interval([1, 2, 4, 4, 7], 0.95)
    assert mean == pytest.approx(3.6)
    # scipy.stats.t.interval(0.9, 4, ...)
    assert (lower, upper) == pytest.approx((1.4051293970729062, 5.794870602927093))


def test_too_few_values_have_no_bounds() -> None:
    assert mean_interval([], 0.95) == MeanInterval(None, None, None)
    assert mean_interval([3.5], 0.95) == MeanInterval(3.5, None, None)


@pytest.mark.parametrize("values", [[1.0, math.nan], [math.inf], [1.0, -math.inf, 2.0]])
def test_values_without_a_mean(values: list[float]) -> None:
    with pytest.raises(
        ValueError, match=r"^the mean of values that are not finite has no interval$"
    ):
        mean_interval(values, 0.95)


@pytest.mark.parametrize("confidence", [0.0, 0.5, 1.0, 95.0, math.nan])
def test_a_confidence_is_more_than_a_coins(confidence: float) -> None:
    with pytest.raises(ValueError) as raised:
        mean_interval([1.0, 2.0], confidence)
    assert str(raised.value) == f"a confidence must lie between 0.5 and 1, not {confidence}"


def test_each_bound_holds_as_often_as_it_says() -> None:
    """Each bound misses 5 % of 2000 means; below 57, and above 149, less likely than 1e-6 each."""
    chance = random.Random(1)
    intervals = [mean_interval([chance.gauss(5, 2) for _ in range(4)], 0.95) for _ in range(2000)]
    too_high = sum(lower is not None and lower > 5 for _, lower, _ in intervals)
    too_low = sum(upper is not None and upper < 5 for _, _, upper in intervals)
    assert 57 <= too_high <= 149
    assert 57 <= too_low <= 149
