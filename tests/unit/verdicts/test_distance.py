"""How far two versions are apart, at every look."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, special

from pytest_llmdeploy.verdicts.distance import difference_bounds, ratio_bounds
from pytest_llmdeploy.verdicts.sequences import Buckets, Distribution, share_bounds
from pytest_llmdeploy.verdicts.sequential import log_e_value

counts = st.integers(1, 20_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


def log_e(bad: float, n: float, share: float) -> float:
    """Return the martingale's logarithm by scipy; infinite where the share cannot be."""
    mixture = special.betaln(bad + 0.5, n - bad + 0.5) - special.betaln(0.5, 0.5)
    return float(mixture - special.xlogy(bad, share) - special.xlog1py(n - bad, -share))


def joint(stable: tuple[int, int], canary: tuple[int, int], s: float, c: float) -> float:
    return log_e(*canary, c) + float(special.log1p(math.exp(min(log_e(*stable, s), 700))))


def largest(stable: tuple[int, int], canary: tuple[int, int], alpha: float) -> float:
    """Return the upper bound by searching all shares of the stable version."""
    most = math.log(2 / alpha)
    observed = canary[0] / canary[1]

    def gap(s: float) -> float:
        def excess(c: float) -> float:
            return joint(stable, canary, s, c) - most

        if excess(min(max(observed, 1e-12), 1 - 1e-12)) >= 0:
            return 2.0
        top = 1 - 1e-15
        return s - (top if excess(top) < 0 else optimize.brentq(excess, observed or 1e-12, top))

    low, high = share_bounds(*stable, alpha / 1000)[0], stable[0] / stable[1]
    found = optimize.minimize_scalar(gap, bounds=(low, high or 1e-12), method="bounded")
    grid = min(gap(low + (high - low) * i / 50) for i in range(1, 51)) if high else gap(0.0)
    return -min(float(found.fun), grid)


@given(counts, counts, st.sampled_from([0.05, 0.003]))
def test_the_bounds_are_the_farthest_pairs_that_the_martingale_keeps(
    stable: tuple[int, int], canary: tuple[int, int], alpha: float
) -> None:
    low, high = difference_bounds(stable, canary, alpha)
    assert -1 <= low <= high <= 1
    assert low <= canary[0] / canary[1] - stable[0] / stable[1] <= high
    searched = largest(stable, canary, alpha)
    assert high >= searched - 1e-9
    assert high <= searched + 2e-3


@given(counts, counts)
def test_the_sides_can_be_swapped_in_kind(stable: tuple[int, int], canary: tuple[int, int]) -> None:
    """The bounds of successes are those of failures, negated."""
    low, high = difference_bounds(stable, canary, 0.01)
    other = difference_bounds(
        (stable[1] - stable[0], stable[1]), (canary[1] - canary[0], canary[1]), 0.01
    )
    assert other == pytest.approx((-high, -low), abs=1e-9)


@pytest.mark.parametrize(
    ("share", "stable_n", "canary_n"), [(0.0, 2400, 600), (0.01, 19_000, 1000), (0.02, 3000, 3000)]
)
def test_two_sequences_with_half_of_alpha_each_are_wider(
    share: float, stable_n: int, canary_n: int
) -> None:
    stable, canary = (round(share * stable_n), stable_n), (round(share * canary_n), canary_n)
    s, c = (share_bounds(*counted, 0.005) for counted in (stable, canary))
    assert difference_bounds(stable, canary, 0.01)[1] < c[1] - s[0]


def test_nothing_is_known_without_requests() -> None:
    low, high = difference_bounds((0, 0), (0, 0), 0.05)
    assert (low, high) == (-1, 1)
    assert ratio_bounds(Distribution.of(()), Distribution.of(((1.0, 3),)), 0.5, 0.05) == (
        None,
        None,
    )


def fine(values: list[float]) -> Distribution:
    """Return a bucket for each value."""
    counted: dict[float, int] = {}
    for value in values:
        counted[value] = counted.get(value, 0) + 1
    return Distribution.of(tuple((value, counted[value]) for value in sorted(counted)))


values = st.lists(st.floats(0.1, 10), min_size=1, max_size=60)


@given(values, values, st.sampled_from([0.5, 0.9]))
def test_ratio_bounds_are_never_inside_those_of_any_pair_that_is_kept(
    stable: list[float], canary: list[float], q: float
) -> None:
    alpha = 0.2
    low, high = ratio_bounds(fine(stable), fine(canary), q, alpha)
    assert low is not None
    high = math.inf if high is None else high
    s_sorted, c_sorted = sorted(stable), sorted(canary)
    most = math.log(2 / alpha)
    for s_rank in range(len(stable) + 1):
        s_cost = math.log1p(math.exp(log_e_value(s_rank, len(stable), q)))
        s_below = s_sorted[s_rank - 1] if s_rank else 0.0
        s_above = s_sorted[s_rank] if s_rank < len(stable) else math.inf
        for c_rank in range(len(canary) + 1):
            if log_e_value(c_rank, len(canary), q) + s_cost >= most:
                continue
            # Any quantiles strictly between the neighbours of both ranks have these counts.
            c_below = c_sorted[c_rank - 1] if c_rank else 0.0
            c_above = c_sorted[c_rank] if c_rank < len(canary) else math.inf
            assert low <= c_below / s_above + 1e-12
            assert high >= (c_above / s_below if s_below else math.inf) * (1 - 1e-12)


def test_a_factor_stands_for_as_many_more_values() -> None:
    chance = random.Random(1)
    stable, canary = ([chance.lognormvariate(0, 0.5) for _ in range(500)] for _ in range(2))
    more = [fine([value for value in side for _ in range(4)]) for side in (stable, canary)]
    bounds = ratio_bounds(fine(stable), fine(canary), 0.9, 0.05, factor=4)
    assert bounds == ratio_bounds(more[0], more[1], 0.9, 0.05)


def test_coarse_buckets_give_coarse_bounds() -> None:
    coarse: Buckets = ((0.5, 0), (1.0, 100_000), (math.inf, 0))
    side = Distribution.of(coarse)
    assert ratio_bounds(side, side, 0.95, 0.05) == (0.5, 2.0)
    first = Distribution.of(((1.0, 1000), (2.0, 0)))
    assert ratio_bounds(first, first, 0.5, 0.05) == (0.0, None)
    endless = Distribution.of(((1.0, 10), (math.inf, 90)))
    assert ratio_bounds(endless, endless, 0.95, 0.05) == (0.0, None)


@pytest.mark.parametrize("share", [0.005, 0.2])
def test_looking_all_the_time_keeps_the_true_difference_inside(share: float) -> None:
    """Of 300 runs at most 10 % ever leave it out; more than 59 have a probability below 1e-6."""
    chance = random.Random(6)
    left = 0
    for _ in range(300):
        stable, canary = [0, 0], [0, 0]
        for n in range(1, 801):
            side = canary if chance.random() < 0.25 else stable
            side[0] += chance.random() < share
            side[1] += 1
            if n % 10 == 0:
                low, high = difference_bounds((stable[0], stable[1]), (canary[0], canary[1]), 0.1)
                if not low <= 0 <= high:
                    left += 1
                    break
    assert left <= 59
