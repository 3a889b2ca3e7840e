"""Bounds of a pass rate, against scipy and statsmodels and against tables."""

from __future__ import annotations

import math
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from pytest_llmdeploy.verdicts.proportions import (
    Rule,
    bounds,
    chance_of_at_least,
    effective_number,
    enough_at,
    shows_at_least,
    smallest_n,
)

RULES: tuple[Rule, ...] = get_args(Rule)
CONFIDENCES = st.floats(0.51, 0.9999)
LIMITS = st.floats(0.001, 0.999)


@st.composite
def counts(draw: st.DrawFn, most: int = 20_000) -> tuple[int, int]:
    n = draw(st.integers(1, most))
    return draw(st.integers(0, n)), n


@given(counts(), CONFIDENCES)
def test_bounds_are_those_of_statsmodels_and_scipy(of: tuple[int, int], sure: float) -> None:
    x, n = of
    methods: tuple[tuple[Rule, str], ...] = (("wilson", "wilson"), ("exact", "beta"))
    for rule, method in methods:
        expected = proportion_confint(x, n, alpha=2 * (1 - sure), method=method)
        expected = [0.0 if x == 0 else expected[0], 1.0 if x == n else expected[1]]
        assert bounds(rule, x / n, n, sure) == pytest.approx(expected, rel=1e-7, abs=1e-9)
    posterior = stats.beta(1 + x, 1 + n - x)
    assert bounds("bayes", x / n, n, sure) == pytest.approx(
        (posterior.ppf(1 - sure), posterior.ppf(sure)), rel=1e-7, abs=1e-9
    )


@given(counts(), LIMITS)
def test_the_chance_is_that_of_the_test(of: tuple[int, int], limit: float) -> None:
    x, n = of
    exact = stats.binomtest(x, n, limit, alternative="less").pvalue
    assert chance_of_at_least("exact", x / n, n, limit) == pytest.approx(exact, rel=1e-6, abs=1e-12)
    if x < n:
        score = (x / n - limit) / math.sqrt(limit * (1 - limit) / n)
        expected = stats.norm.cdf(score)
        assert chance_of_at_least("wilson", x / n, n, limit) == pytest.approx(expected, abs=1e-12)
    posterior = stats.beta(1 + x, 1 + n - x).sf(limit)
    assert chance_of_at_least("bayes", x / n, n, limit) == pytest.approx(
        posterior, rel=1e-6, abs=1e-12
    )


@given(st.sampled_from(RULES), counts(300), LIMITS, CONFIDENCES)
def test_bounds_and_tests_say_the_same(
    rule: Rule, of: tuple[int, int], limit: float, sure: float
) -> None:
    x, n = of
    lower, upper = bounds(rule, x / n, n, sure)
    if abs(lower - limit) > 1e-7:
        assert shows_at_least(rule, x / n, n, limit, sure) is (lower >= limit)
    if abs(upper - limit) > 1e-7:
        assert (chance_of_at_least(rule, x / n, n, limit) < 1 - sure) is (upper < limit)


@given(st.sampled_from(RULES), counts(200), LIMITS, CONFIDENCES)
def test_a_further_pass_never_makes_it_worse(
    rule: Rule, of: tuple[int, int], limit: float, sure: float
) -> None:
    x, n = of
    if x == n:
        return
    worse, better = (bounds(rule, passes / n, n, sure) for passes in (x, x + 1))
    assert better.lower >= worse.lower - 1e-12
    assert better.upper >= worse.upper - 1e-12
    assert shows_at_least(rule, (x + 1) / n, n, limit, sure) or not shows_at_least(
        rule, x / n, n, limit, sure
    )


@pytest.mark.parametrize("rule", RULES)
def test_a_rate_of_one_is_never_shown_and_refuted_by_one_fail(rule: Rule) -> None:
    assert not shows_at_least(rule, 1.0, 10_000, 1.0, 0.95)
    assert chance_of_at_least(rule, 1.0, 10_000, 1.0) == 1.0
    assert chance_of_at_least(rule, 0.9999, 10_000, 1.0) == 0.0
    assert smallest_n(rule, 0.95, 1.0) is None


@pytest.mark.parametrize("rule", RULES)
def test_without_cases_nothing_is_shown(rule: Rule) -> None:
    assert bounds(rule, 0.0, 0, 0.95) == (0.0, 1.0)
    assert not shows_at_least(rule, 1.0, 0, 0.01, 0.95)
    assert rule == "bayes" or chance_of_at_least(rule, 0.0, 0, 0.9) == 1.0


@pytest.mark.parametrize(
    ("x", "n", "lower"),
    [(20, 20, 0.881), (50, 50, 0.949), (45, 50, 0.808), (95, 100, 0.901), (285, 300, 0.925)],
)
def test_wilson_by_table(x: int, n: int, lower: float) -> None:
    assert round(bounds("wilson", x / n, n, 0.95).lower, 3) == lower


def test_smallest_n_by_table() -> None:
    limits = (0.8, 0.9, 0.95, 0.98, 0.99)
    assert [smallest_n("exact", 0.95, each) for each in limits] == [14, 29, 59, 149, 299]
    assert [smallest_n("wilson", 0.95, each) for each in limits] == [11, 25, 52, 133, 268]
    assert [smallest_n("bayes", 0.95, each) for each in limits] == [13, 28, 58, 148, 298]


@given(st.sampled_from(RULES), LIMITS, CONFIDENCES)
def test_smallest_n_is_the_first_that_shows_it(rule: Rule, limit: float, sure: float) -> None:
    n = smallest_n(rule, sure, limit)
    assert n is not None
    assert shows_at_least(rule, 1.0, n, limit, sure)
    assert n == 1 or not shows_at_least(rule, 1.0, n - 1, limit, sure)


@given(st.sampled_from(RULES), st.floats(0.02, 0.98), st.floats(0.005, 0.3))
def test_enough_at_shows_it(rule: Rule, limit: float, above: float) -> None:
    mean = min(1.0, limit + above)
    n = enough_at(rule, mean, limit, 0.95)
    assert n is not None
    assert shows_at_least(rule, mean, n, limit, 0.95)
    assert enough_at(rule, limit, limit, 0.95) is None


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=50))
def test_the_effective_number_is_kishs(weights: list[float]) -> None:
    expected = math.fsum(weights) ** 2 / math.fsum(weight**2 for weight in weights)
    assert effective_number(weights) == pytest.approx(expected)
    assert effective_number([7.5] * len(weights)) == len(weights)
    assert effective_number([1e308, 1e308, 1.0]) == pytest.approx(2)
    assert effective_number([]) == 0


@pytest.mark.parametrize(("mean", "n"), [(-0.1, 5), (1.1, 5), (0.5, -1), (math.nan, 5)])
def test_what_cannot_be_is_refused(mean: float, n: float) -> None:
    with pytest.raises(ValueError, match=rf"^a mean of {mean} in {n} cases cannot be$"):
        bounds("wilson", mean, n, 0.95)


def test_limits_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^a pass rate must lie in \(0, 1\], not 0$"):
        smallest_n("wilson", 0.95, 0)
    with pytest.raises(ValueError, match=r"^a confidence must lie between 0.5 and 1, not 1$"):
        bounds("wilson", 0.5, 10, 1)
