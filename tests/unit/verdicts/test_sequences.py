"""Bounds that hold at every look."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, special

from pytest_llmdeploy.verdicts.sequences import (
    Buckets,
    quantile_bounds,
    quantile_of,
    rank_bounds,
    share_bounds,
)


def log_e(bad: float, n: float, share: float) -> float:
    """Return what the martingale is, by scipy."""
    mixture = special.betaln(bad + 0.5, n - bad + 0.5) - special.betaln(0.5, 0.5)
    value = mixture - special.xlogy(bad, share) - special.xlog1py(n - bad, -share)
    return float(value)


def buckets(values: list[float], width: float = 0.1) -> Buckets:
    counts: dict[int, int] = {}
    for value in values:
        key = math.ceil(value / width)
        counts[key] = counts.get(key, 0) + 1
    return tuple((key * width, counts.get(key, 0)) for key in range(max(counts, default=0) + 1))


@given(st.integers(1, 100_000), st.floats(0, 1), st.sampled_from([0.05, 0.003, 1e-6]))
def test_a_bound_is_where_the_martingale_reaches_1_over_alpha(
    n: int, part: float, alpha: float
) -> None:
    bad = round(part * n)
    low, high = share_bounds(bad, n, alpha)
    assert 0 <= low <= bad / n <= high <= 1

    def excess(share: float) -> float:
        return log_e(bad, n, share) + math.log(alpha)

    if bad:
        assert low == pytest.approx(optimize.brentq(excess, 1e-300, bad / n), abs=1e-9)
    else:
        assert low == 0
    if bad < n:
        assert high == pytest.approx(optimize.brentq(excess, bad / n, 1 - 1e-16), abs=1e-9)
    else:
        assert high == 1


def test_nothing_is_known_of_nothing() -> None:
    assert share_bounds(0, 0, 0.05) == (0, 1)
    assert quantile_bounds((), 0.5, 0.05) == (None, None)
    assert quantile_bounds(((1.0, 0), (math.inf, 0)), 0.5, 0.05) == (None, None)
    assert quantile_of((), 0.5) is None


@pytest.mark.parametrize(("bad", "n"), [(-1, 3), (4, 3), (0, -1)])
def test_impossible_counts(bad: int, n: int) -> None:
    with pytest.raises(ValueError) as raised:
        share_bounds(bad, n, 0.05)
    assert str(raised.value) == f"{bad} bad requests of {n} cannot be"


@given(st.integers(1, 3000), st.floats(0.01, 0.99), st.sampled_from([0.05, 0.001]))
def test_ranks_are_those_that_the_martingale_keeps(n: int, q: float, alpha: float) -> None:
    kept = [rank for rank in range(n + 1) if log_e(rank, n, q) < -math.log(alpha)]
    assert rank_bounds(n, q, alpha) == (kept[0], kept[-1])


@given(st.lists(st.floats(0, 10), min_size=1, max_size=300), st.sampled_from([0.5, 0.95]))
def test_quantile_bounds_are_those_of_the_sorted_values(values: list[float], q: float) -> None:
    """Up to the width of a bucket."""
    found = sorted(values)
    first, last = rank_bounds(len(values), q, 0.05)
    low, high = quantile_bounds(buckets(values), q, 0.05)
    assert low is not None
    wanted = found[first - 1] if first else 0.0
    assert wanted - 0.1 - 1e-9 <= low <= wanted
    if last == len(values):
        assert high is None
    else:
        assert high is not None
        assert found[last] <= high + 1e-9
        assert high <= found[last] + 0.1 + 1e-9


@given(st.lists(st.floats(0, 10), min_size=1, max_size=50), st.floats(0.01, 0.99))
def test_the_estimate_lies_between_the_bounds(values: list[float], q: float) -> None:
    found = buckets(values)
    low, high = quantile_bounds(found, q, 0.05)
    estimate = quantile_of(found, q)
    assert estimate is not None
    assert low is not None
    assert low <= estimate <= (math.inf if high is None else high)


def test_an_infinite_edge_is_no_bound() -> None:
    slow: Buckets = ((0.1, 10), (0.5, 40), (1.0, 30), (math.inf, 20))
    assert quantile_bounds(slow, 0.95, 0.05) == (1.0, None)
    assert quantile_of(slow, 0.95) == 1.0  # what is known: it is above
    assert quantile_of(((math.inf, 3),), 0.5) is None
    assert quantile_of(slow, 0.5) == pytest.approx(0.5)
    assert quantile_of(slow, 0.3) == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (((1.0, 1), (1.0, 1)), "the edges of buckets must be numbers that grow"),
        (((math.nan, 1),), "the edges of buckets must be numbers that grow"),
        (((1.0, 1), (2.0, -1)), "the counts of buckets must not be negative"),
    ],
)
def test_what_is_no_distribution(broken: Buckets, message: str) -> None:
    with pytest.raises(ValueError) as raised:
        quantile_bounds(broken, 0.5, 0.05)
    assert str(raised.value) == message


@pytest.mark.parametrize("q", [0.0, 1.0, math.nan])
def test_impossible_quantiles(q: float) -> None:
    with pytest.raises(ValueError) as raised:
        quantile_bounds(((1.0, 1),), q, 0.05)
    assert str(raised.value) == f"a quantile must lie between 0 and 1, not {q}"


@pytest.mark.parametrize("atoms", [False, True])
def test_looking_after_every_value_keeps_the_true_quantile_inside(atoms: bool) -> None:
    """Of 400 runs at most 5 % ever leave it out; more than 44 have a probability below 1e-6.

    Also where values are whole numbers, of which many are equal.
    """
    chance = random.Random(5)
    q, true = 0.9, 9.0
    first, last = zip(*(rank_bounds(n, q, 0.05) for n in range(1, 601)), strict=True)
    left = 0
    for _ in range(400):
        below = upto = 0
        for n in range(600):
            value = chance.uniform(0, 10)
            value = math.ceil(value) if atoms else value
            below += value < true
            upto += value <= true
            if upto < first[n] or below > last[n]:
                left += 1
                break
    assert left <= 44
