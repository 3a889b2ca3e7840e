"""Counts by bucket: quantiles that are right to a known error, whatever is counted."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_llmdeploy.verdicts.histogram import BUCKETS_PER_OCTAVE, SMALLEST, Histogram

ERROR = 2 ** (0.5 / BUCKETS_PER_OCTAVE) - 1
"""Half a bucket, as a share: 0.07 %."""
VALUES = st.lists(st.floats(SMALLEST, 1e9), max_size=60)


def counted(values: list[float]) -> Histogram:
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    return histogram


def test_the_error_is_what_the_documentation_says() -> None:
    assert 0.0006 < ERROR < 0.0007


@settings(derandomize=True, database=None, deadline=None)
@given(values=VALUES.filter(bool), q=st.floats(0, 1))
def test_a_quantile_is_the_value_at_its_rank(values: list[float], q: float) -> None:
    rank = max(1, math.ceil(q * len(values) - 1e-9))
    assert counted(values).quantile(q) == pytest.approx(sorted(values)[rank - 1], rel=ERROR + 1e-9)


@settings(derandomize=True, database=None, deadline=None)
@given(values=VALUES, more=st.integers(1, 50), q=st.floats(0, 1))
def test_what_has_no_finite_value_ranks_last(values: list[float], more: int, q: float) -> None:
    total = len(values) + more
    rank = max(1, math.ceil(q * total - 1e-9))
    found = counted(values).quantile(q, total)
    if rank > len(values):
        assert found is None
    else:
        assert found == pytest.approx(sorted(values)[rank - 1], rel=ERROR + 1e-9)


@settings(derandomize=True, database=None, deadline=None)
@given(first=VALUES, second=VALUES)
def test_merged_counts_are_those_of_all_values(first: list[float], second: list[float]) -> None:
    merged = counted(first)
    merged.merge(counted(second))
    whole = counted(first + second)
    assert (merged.counts, merged.total, merged.highest) == (
        whole.counts,
        whole.total,
        whole.highest,
    )
    assert merged.sum == pytest.approx(whole.sum)


@settings(derandomize=True, database=None, deadline=None)
@given(values=VALUES)
def test_it_crosses_the_process_border_whole(values: list[float]) -> None:
    histogram = counted(values)
    data = json.loads(json.dumps(histogram.to_json(), allow_nan=False))
    read = Histogram.from_json(data)
    assert (read.counts, read.total) == (histogram.counts, len(values))
    assert (read.sum, read.highest, read.mean) == (histogram.sum, histogram.highest, histogram.mean)


def test_nothing_counted() -> None:
    histogram = Histogram()
    assert histogram.quantile(0.5) is None
    assert histogram.quantile(0.5, 10) is None
    assert (histogram.mean, histogram.total, histogram.highest) == (None, 0, 0)


def test_a_number_can_be_counted_many_times() -> None:
    histogram = Histogram()
    histogram.add(2.0, 99)
    histogram.add(4.0)
    assert (histogram.total, histogram.mean, histogram.highest) == (100, 2.02, 4.0)
    assert histogram.quantile(0.99) == pytest.approx(2, rel=ERROR * 1.01)
    assert histogram.quantile(0.991) == pytest.approx(4, rel=ERROR * 1.01)


@pytest.mark.parametrize("value", [0.0, -1.0, 1e-12, SMALLEST])
def test_what_is_too_small_counts_as_the_smallest(value: float) -> None:
    histogram = Histogram()
    histogram.add(value)
    assert histogram.quantile(0.5) == pytest.approx(SMALLEST, rel=ERROR * 2.01)


def test_no_quantile_is_made_of_what_is_infinite() -> None:
    histogram = Histogram()
    with pytest.raises((ArithmeticError, ValueError)):
        histogram.add(math.inf)
    assert histogram.total == 0


def test_memory_grows_with_the_octaves_and_not_with_the_numbers() -> None:
    histogram = Histogram()
    for number in range(20_000):
        histogram.add(0.001 * 2 ** (number % 1000 / 100))
    assert len(histogram.counts) <= 10 * BUCKETS_PER_OCTAVE
    assert histogram.total == 20_000


@settings(derandomize=True, database=None, deadline=None)
@given(key=st.integers(-10_000, 20_000))
def test_a_buckets_middle_lies_in_the_bucket(key: int) -> None:
    histogram = Histogram()
    histogram.add(max(Histogram.value_of(key), SMALLEST))
    expected = max(key, math.floor(math.log2(SMALLEST) * BUCKETS_PER_OCTAVE))
    assert list(histogram.counts) == [expected]
