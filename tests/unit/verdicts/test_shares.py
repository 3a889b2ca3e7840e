"""Shares of bad requests against a limit; bounds and counts against scipy 1.17."""

from __future__ import annotations

import math
import random
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmdeploy.verdicts import Verdict
from pytest_llmdeploy.verdicts.shares import (
    ClusterSums,
    ShareVerdict,
    judge_clustered,
    judge_share,
    lower_bound,
    order_statistic_ranks,
    smallest_n,
    upper_bound,
)

P, F, I = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE  # noqa: E741


@pytest.mark.parametrize(
    ("k", "n", "confidence", "lower", "upper"),  # scipy.stats.beta.ppf
    [
        (0, 0, 0.95, 0.0, 1.0),
        (0, 1, 0.95, 0.0, 0.95),
        (1, 1, 0.95, 0.05, 1.0),
        (0, 59, 0.95, 0.0, 0.04950760988822693),
        (5, 100, 0.95, 0.019905563662171843, 0.1022533776432745),
        (5, 100, 0.99, 0.012968921327023257, 0.12585173069767863),
        (50, 100, 0.9, 0.4314168255937808, 0.5685831744062192),
        (99, 100, 0.95, 0.9534401885464611, 0.9994871985837377),
        (3, 1000, 0.99, 0.000436386564076127, 0.010009791991707746),
        (500_000, 10_000_000, 0.95, 0.04988668249235622, 0.050113509947660825),
        (1, 10_000_000, 0.95, 5.129329425600047e-09, 4.743863629843794e-07),
        (2.5, 98.7, 0.95, 0.005830342094023155, 0.06964154157333681),
    ],
)
def test_exact_bounds(k: float, n: float, confidence: float, lower: float, upper: float) -> None:
    assert lower_bound(k, n, confidence) == pytest.approx(lower, rel=1e-7)
    assert upper_bound(k, n, confidence) == pytest.approx(upper, rel=1e-7)


@given(st.data(), st.integers(1, 3000), st.sampled_from([0.9, 0.95, 0.99]))
def test_bounds_enclose_the_share_and_mirror_each_other(
    data: st.DataObject, n: int, confidence: float
) -> None:
    k = data.draw(st.integers(0, n))
    lower, upper = lower_bound(k, n, confidence), upper_bound(k, n, confidence)
    assert 0 <= lower <= k / n <= upper <= 1
    assert lower == pytest.approx(1 - upper_bound(n - k, n, confidence), abs=1e-9)


@pytest.mark.parametrize(("k", "n"), [(-1, 5), (6, 5), (math.nan, 5), (0, math.nan), (0, math.inf)])
def test_impossible_counts(k: float, n: float) -> None:
    for bound in (lower_bound, upper_bound):
        with pytest.raises(ValueError) as raised:
            bound(k, n, 0.95)
        assert str(raised.value) == f"{k} bad requests of {n} cannot be"


@pytest.mark.parametrize(
    ("limit", "confidence", "n"),
    [
        (0.01, 0.95, 299),
        (0.05, 0.95, 59),
        (0.01, 0.99, 459),
        (0.05, 0.99, 90),
        (0.95, 0.95, 1),
        (0.5, 0.75, 2),
        (0.001, 0.95, 2995),
    ],
)
def test_the_fewest_requests_that_pass(limit: float, confidence: float, n: int) -> None:
    assert smallest_n(limit, confidence) == n
    assert judge_share(0, n, limit, confidence).verdict is P
    assert judge_share(0, n - 1, limit, confidence).verdict is I


@pytest.mark.parametrize(
    ("bad", "n", "limit", "verdict", "needed"),
    [
        (0, 0, 0.05, I, 59),
        (0, 58, 0.05, I, 59),
        (0, 59, 0.05, P, None),
        (1, 59, 0.05, I, 130),
        (2, 100, 0.05, I, 157),
        (2, 157, 0.05, P, None),
        (5, 100, 0.05, I, None),
        (9, 100, 0.05, I, None),
        (10, 100, 0.05, F, None),
        (100, 100, 0.05, F, None),
        (4_999_999, 100_000_000, 0.05, I, None),
        (0, 1_000_000, 0.0, I, None),
        (1, 1_000_000, 0.0, F, None),
        (0, 0, 0.0, I, None),
    ],
)
def test_verdicts(bad: int, n: int, limit: float, verdict: Verdict, needed: int | None) -> None:
    judged = judge_share(bad, n, limit, 0.95)
    assert (judged.verdict, judged.needed) == (verdict, needed)


def test_the_numbers() -> None:
    assert judge_share(0, 0, 0.05, 0.95) == ShareVerdict(I, None, 0.0, 1.0, 59)
    judged = judge_share(5, 100, 0.05, 0.95)
    assert (judged.share, judged.lower, judged.upper) == pytest.approx(
        (0.05, 0.019905563662171843, 0.1022533776432745)
    )


@given(st.integers(1, 40), st.integers(1, 2000), st.sampled_from([0.011, 0.05, 0.2]))
def test_needed_is_the_first_number_that_would_pass(bad: int, more: int, limit: float) -> None:
    n = bad + more
    needed = judge_share(bad, n, limit, 0.95).needed
    if needed is None:
        return
    assert needed > n
    share = bad / n
    assert upper_bound(share * needed, needed, 0.95) <= limit * (1 + 1e-9)
    if needed > n + 1:
        assert upper_bound(share * (needed - 1), needed - 1, 0.95) > limit * (1 - 1e-9)


@pytest.mark.parametrize("limit", [-0.1, 1.0, math.nan])
def test_impossible_limits(limit: float) -> None:
    sums = ClusterSums()
    sums.add(1, 2)
    for call in (
        lambda: smallest_n(limit, 0.95),
        lambda: judge_share(1, 2, limit, 0.95),
        lambda: judge_clustered(sums, limit, 0.95),
    ):
        with pytest.raises(ValueError) as raised:
            call()
        message = f"the limit of a share must be at least 0 and below 1, not {limit}"
        assert str(raised.value) == message


@pytest.mark.parametrize(
    ("n", "q", "confidence", "ranks"),  # first and last of a table by scipy.stats.binom
    [
        (0, 0.95, 0.95, (None, None)),
        (58, 0.95, 0.95, (52, None)),
        (59, 0.95, 0.95, (53, 59)),
        (100, 0.5, 0.95, (42, 59)),
        (1000, 0.95, 0.95, (938, 962)),
        (1000, 0.99, 0.99, (982, 998)),
        (5, 0.5, 0.95, (1, 5)),
        (4, 0.5, 0.95, (None, None)),
    ],
)
def test_the_ranks_that_bound_a_quantile(
    n: int, q: float, confidence: float, ranks: tuple[int | None, int | None]
) -> None:
    assert order_statistic_ranks(n, q, confidence) == ranks


@given(st.data(), st.integers(1, 500), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_a_percentile_and_its_share_agree(data: st.DataObject, n: int, q: float) -> None:
    slow = data.draw(st.integers(0, n))
    values = [1.0] * (n - slow) + [9.0] * slow
    lower, upper = order_statistic_ranks(n, q, 0.93)
    verdict = judge_share(slow, n, 1 - q, 0.93).verdict
    assert (verdict is P) == (upper is not None and values[upper - 1] <= 5.0)
    assert (verdict is F) == (lower is not None and values[lower - 1] > 5.0)


@pytest.mark.parametrize("q", [0.0, 1.0, 95.0, math.nan])
def test_impossible_quantiles(q: float) -> None:
    with pytest.raises(ValueError) as raised:
        order_statistic_ranks(100, q, 0.95)
    assert str(raised.value) == f"a quantile must lie between 0 and 1, not {q}"


def summed(clusters: list[tuple[int, int]]) -> ClusterSums:
    sums = ClusterSums()
    for bad, size in clusters:
        sums.add(bad, size)
    return sums


def test_sums_of_parts_are_those_of_the_whole() -> None:
    clusters = [(1, 5), (0, 7), (3, 3), (0, 0), (2, 9)]
    merged = summed(clusters[:2])
    merged.merge(summed(clusters[2:]))
    assert merged == summed(clusters)
    assert merged == ClusterSums(4, x=6, m=24, xx=14, xm=32, mm=164)
    assert ClusterSums(**asdict(merged)) == merged


def test_a_cluster_that_cannot_be() -> None:
    with pytest.raises(ValueError, match=r"^3 bad items of 2 are no cluster$"):
        ClusterSums().add(3, 2)


def test_clusters_of_one_are_requests() -> None:
    judged = judge_clustered(summed([(1, 1)] * 3 + [(0, 1)] * 397), 0.05, 0.95)
    alone = judge_share(3, 400, 0.05, 0.95)
    assert (judged.verdict, judged.share) == (alone.verdict, alone.share) == (P, 3 / 400)
    assert (judged.lower, judged.upper) == pytest.approx((alone.lower, alone.upper), rel=0.01)


def test_items_that_are_bad_together_count_once() -> None:
    together = judge_clustered(summed([(50, 50)] * 4 + [(0, 50)] * 196), 0.05, 0.95)
    assert together.verdict is judge_share(4, 200, 0.05, 0.95).verdict is P
    assert together.upper == pytest.approx(judge_share(4, 200, 0.05, 0.95).upper, rel=0.02)
    assert judge_share(200, 10_000, 0.05, 0.95).upper < 0.6 * together.upper


def test_hand_computed_effective_size() -> None:
    # p = 0.25, variance = 8/7 * (4 * 5**2 + 4 * 5**2) / 160**2 = 1/112, so 21 items of 160;
    # times (t(0.95, 159) / t(0.95, 7))**2 by scipy.stats.t.ppf = 16.0159...
    judged = judge_clustered(summed([(0, 20)] * 4 + [(10, 20)] * 4), 0.05, 0.95)
    size = 21 * (1.654493503165 / 1.894578605061) ** 2
    assert judged.lower == pytest.approx(lower_bound(size / 4, size, 0.95), rel=1e-9)
    assert judged.upper == pytest.approx(upper_bound(size / 4, size, 0.95), rel=1e-9)


@pytest.mark.parametrize(
    ("clusters", "limit", "verdict", "needed"),
    [
        ([], 0.01, I, 299),
        ([(0, 1000)], 0.01, I, 299),
        ([(0, 1000)] * 298, 0.01, I, 299),
        ([(0, 1000)] * 299, 0.01, P, None),
        # One bad item among many must not make up for clusters that were never seen.
        ([(1, 1000)] + [(0, 1000)] * 99, 0.01, I, 299),
        ([(1, 1000)] + [(0, 1000)] * 298, 0.01, P, None),
        ([(5, 10)] * 20, 0.05, F, None),
        ([(9, 10)] + [(0, 10)] * 19, 0.04, I, None),
        ([(1, 10)] + [(0, 10)] * 999, 0.0, F, None),
        ([(1, 10_000_000)], 0.0, F, None),
        ([(0, 10)] * 1000, 0.0, I, None),
    ],
)
def test_clustered_verdicts(
    clusters: list[tuple[int, int]], limit: float, verdict: Verdict, needed: int | None
) -> None:
    judged = judge_clustered(summed(clusters), limit, 0.95)
    assert (judged.verdict, judged.needed) == (verdict, needed)


def test_needed_clusters_would_pass() -> None:
    clusters = [(8, 10)] + [(0, 10)] * 24
    needed = judge_clustered(summed(clusters), 0.1, 0.95).needed
    assert needed is not None
    times = math.ceil(needed / len(clusters))
    assert judge_clustered(summed(clusters * (times - 2)), 0.1, 0.95).verdict is I
    assert judge_clustered(summed(clusters * times), 0.1, 0.95).verdict is P


def sample_clusters(seed: int, share: float, correlation: float) -> ClusterSums:
    """Return 100 clusters of 5 to 35 items, whose own shares vary around `share`."""
    chance = random.Random(seed)
    spread = 1 / correlation - 1
    sums = ClusterSums()
    for _ in range(100):
        own = chance.betavariate(share * spread, (1 - share) * spread)
        size = chance.randint(5, 35)
        sums.add(sum(chance.random() < own for _ in range(size)), size)
    return sums


def test_clustered_bounds_hold() -> None:
    """Either bound missed in less than 5 % of 4000 samples, so in less than 6 % of all.

    More than 40 of 300 have a probability below 1e-6, and so have 40 or fewer of the bound for
    independent items, which missed in 33 %.
    """
    sampled = [sample_clusters(seed, 0.2, 0.5) for seed in range(300)]
    judged = [judge_clustered(sums, 0.2, 0.95) for sums in sampled]
    assert sum(each.lower > 0.2 for each in judged) <= 40
    assert sum(each.upper < 0.2 for each in judged) <= 40
    independent = [upper_bound(sums.x, sums.m, 0.95) for sums in sampled]
    assert sum(upper < 0.2 for upper in independent) > 40
