"""What clustered cases are worth, against the sums that Miller's formula says."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pytest_llmdeploy.verdicts.clusters import worth
from pytest_llmdeploy.verdicts.proportions import effective_number

CASES = st.lists(
    st.tuples(
        st.sampled_from([0.0, 1.0, 1.0, 0.25]), st.sampled_from([0.5, 1.0, 3.0]), st.integers(0, 6)
    ),
    min_size=1,
    max_size=60,
)


def miller(values: list[float], clusters: list[int]) -> float:
    """Return the clustered variance of an unweighted mean, term by term."""
    n, mean = len(values), sum(values) / len(values)
    names = sorted(set(clusters))
    squares = 0.0
    for name in names:
        inside = [i for i in range(n) if clusters[i] == name]
        squares += sum((values[i] - mean) * (values[j] - mean) for i in inside for j in inside)
    return len(names) / (len(names) - 1) * squares / n**2


@given(CASES)
def test_the_size_follows_from_the_clustered_variance(
    cases: list[tuple[float, float, int]],
) -> None:
    values, clusters = [value for value, _, _ in cases], [cluster for _, _, cluster in cases]
    n, c = len(values), len(set(clusters))
    got = worth(values, [2.0] * n, clusters, 0.95)
    mean = sum(values) / n
    own = sum((value - mean) ** 2 for value in values)
    if c < 2 or own < 1e-12 or miller(values, clusters) < 1e-12:
        return
    independent = own / (n * (n - 1)) if n > 1 else 0
    size = min(n, n * independent / miller(values, clusters))
    if c < n:
        size *= (stats.t.ppf(0.95, n - 1) / stats.t.ppf(0.95, c - 1)) ** 2
    assert got.size == pytest.approx(size, rel=1e-6)


@given(CASES, st.floats(0.6, 0.999))
def test_clusters_are_never_worth_more_than_their_cases(
    cases: list[tuple[float, float, int]], confidence: float
) -> None:
    values, weights, clusters = map(list, zip(*cases, strict=True))
    got = worth(values, weights, clusters, confidence)
    assert 0 < got.size <= effective_number(weights) + 1e-9
    assert 0 < got.clusters <= len(set(clusters)) + 1e-9
    assert math.isfinite(got.size)


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_where_all_agree_the_clusters_count(value: float) -> None:
    got = worth([value] * 40, [1.0] * 40, [i // 4 for i in range(40)], 0.95)
    assert got == (10, 10)


def test_clusters_that_differ_by_nothing_count_as_so_many() -> None:
    values = [1.0, 1.0, 1.0, 0.0] * 10
    assert worth(values, [1.0] * 40, [i // 4 for i in range(40)], 0.95) == (10, 10)


def test_copies_of_one_case_are_worth_less_than_the_clusters() -> None:
    values = [float(i % 5 != 0) for i in range(20) for _ in range(5)]
    got = worth(values, [1.0] * 100, [i // 5 for i in range(100)], 0.95)
    assert got.clusters == 20
    assert 17 < got.size < 18


def test_a_case_a_cluster_is_no_clustering() -> None:
    values = [1.0, 0.0, 1.0, 1.0, 1.0]
    assert worth(values, [1.0] * 5, list(range(5)), 0.95) == pytest.approx((5, 5))


def test_one_cluster_is_worth_one_case() -> None:
    assert worth([1.0, 0.0, 1.0], [1.0] * 3, ["a"] * 3, 0.95) == (1, 1)
    assert worth([1.0], [1.0], ["a"], 0.95) == (1, 1)


def test_a_cluster_that_outweighs_all_others_is_hardly_more_than_one() -> None:
    got = worth([1.0] * 100, [1.0] * 100, ["big"] * 98 + ["a", "b"], 0.95)
    assert 1 < got.clusters == got.size < 1.1
