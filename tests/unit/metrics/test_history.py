"""Increases of counters between two samples."""

from __future__ import annotations

import math

import pytest

from pytest_llmdeploy.metrics import history
from pytest_llmdeploy.metrics.buckets import from_cumulative, from_histogram, quantile
from pytest_llmdeploy.metrics.history import History, Key
from pytest_llmdeploy.metrics.prometheus_series import counted_twice, history_of
from pytest_llmdeploy.verdicts.histogram import Histogram

A: Key = ("requests", (("code", "200"),))
B: Key = ("requests", (("code", "500"),))


def increase(one: History, since: float, until: float) -> dict[Key, float] | None:
    span = one.between(since, until)
    return None if span is None else dict(one.increases(span))


def test_an_increase_is_the_difference_of_two_samples() -> None:
    one = History()
    for at in range(0, 100, 10):
        one.add(at, {A: at * 3})
    assert increase(one, 20, 50) == {A: 90}
    # Never from before the span, but for the slack; nothing is extrapolated to its ends.
    assert increase(one, 11.5, 58) == {A: 90}
    assert increase(one, 10.5, 58) == {A: 120}
    span = one.between(10.5, 58)
    assert span is not None
    assert (span.begin, span.end, span.seconds) == (10, 50, 40)
    assert one.between(91.5, 200) is None
    assert one.between(-20, -10) is None


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([5, 9, 12], 7),
        ([5, 9, 2], 6),  # restarted: 4, then 2 since
        ([5, 0, 0], 0),
        ([5, 2, 7, 1, 4], 11),
    ],
)
def test_a_counter_that_falls_was_restarted(values: list[int], expected: int) -> None:
    one = History()
    for at, value in enumerate(values):
        one.add(at, {A: value})
    assert increase(one, 0, 10) == {A: expected}


def test_a_series_that_comes_later_began_at_0() -> None:
    one = History()
    one.add(0, {A: 100})
    one.add(5, {A: 110, B: 4})
    one.add(9, {A: 110})
    one.add(12, {A: 110, B: 6})
    assert increase(one, 0, 12) == {A: 10, B: 6}
    assert increase(one, 5, 12) == {A: 0, B: 2}
    assert increase(one, 5, 9) == {A: 0, B: 0}


def test_nan_holds_for_the_spans_that_it_is_in() -> None:
    one = History()
    for at, value in enumerate([1, 2, math.nan, 4, 9]):
        one.add(at * 10, {A: value})
    found = increase(one, 0, 40)
    assert found is not None
    assert math.isnan(found[A])
    assert increase(one, 30, 40) == {A: 5}
    assert increase(one, 0, 10) == {A: 1}


def test_gauges_are_what_they_were_last() -> None:
    one = History(["memory"])
    key: Key = ("memory", ())
    for at, value in enumerate([5, 3, 4]):
        one.add(at, {key: value, A: at})
    span = one.between(0, 1)
    assert span is not None
    assert dict(one.gauges(span)) == {key: 3}
    assert dict(one.increases(span)) == {A: 1}


def test_forgetting_keeps_what_was_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "MOST_SCRAPES", 16)
    one = History()
    for at in range(1000):
        one.add(at, {A: at % 7})  # six up, then a restart
    assert len(one._times) <= 16
    expected = sum(1 for at in range(1, 1000) if at % 7)
    assert increase(one, 0, 1000) == {A: expected}


def series(key: Key, *points: tuple[float, float]) -> dict[str, object]:
    metric = {"__name__": key[0], "job": "j", "instance": "i", **dict(key[1])}
    return {"metric": metric, "values": [[at, str(value)] for at, value in points]}


@pytest.mark.parametrize(
    ("ups", "others", "expected"),
    [
        ([0, 15, 30, 45], [], 9),  # it was scraped, and was not there: it began at 0
        ([], [(0, 70), (15, 70), (30, 70), (45, 70)], 9),
        ([], [], 2),  # nobody knows
        ([15.5, 45], [], 2),  # samples at times of their own: neither
        ([], [(0, 70), (14, 70), (44, 70)], 2),
    ],
)
def test_where_a_series_of_prometheus_began(
    ups: list[float], others: list[tuple[float, float]], expected: float
) -> None:
    found = [series(B, (30, 7), (45, 9))]
    if others:
        found.append(series(A, *others))
    one = history_of(found, ups)
    span = one.between(0, 50)
    assert span is not None
    grown = {dict(key[1])["code"]: value for key, value in one.increases(span)}
    assert grown["500"] == expected


def test_quantiles_interpolate_within_a_bucket() -> None:
    buckets = from_cumulative({100: 10, 500: 60, 1000: 99, math.inf: 100}, 0.001)
    assert buckets == ((0.1, 10), (0.5, 50), (1.0, 39), (math.inf, 1))
    assert quantile(buckets, 0.05) == pytest.approx(0.05)
    assert quantile(buckets, 0.5) == pytest.approx(0.1 + 0.4 * 40 / 50)
    assert quantile(buckets, 0.99) == pytest.approx(1.0)
    assert quantile(buckets, 0.995) is None
    assert quantile((), 0.5) is None
    assert quantile(((1.0, 0), (2.0, 0)), 0.5) is None


def test_sums_that_fall_from_edge_to_edge_add_nothing() -> None:
    assert from_cumulative({1: 5, 2: 4, math.inf: 6}) == ((1, 5), (2, 0), (math.inf, 1))


def test_a_histogram_as_buckets() -> None:
    histogram = Histogram()
    for number in range(1, 1001):
        histogram.add(number / 1000)
    buckets = from_histogram(histogram)
    assert sum(count for _, count in buckets) == 1000
    assert list(buckets) == sorted(buckets)
    assert quantile(buckets, 0.95) == pytest.approx(0.95, rel=0.002)


def labelled(*times: float, **labels: str) -> dict[str, object]:
    return {"metric": labels, "values": [[at, "1"] for at in times]}


def test_what_would_be_counted_twice() -> None:
    one = labelled(0, 15, 30, job="a", instance="1.2.3.4:80", pod="g-1", code="200")
    same = labelled(0, 15, 30, job="a", instance="1.2.3.4:80", pod="g-1", code="500")
    assert counted_twice([one, same], {}) is None
    # A pod of the same name that came after: its address is another.
    later = labelled(45, 60, job="a", instance="1.2.3.5:80", pod="g-1", code="200")
    assert counted_twice([one, same, later], {}) is None
    beside = labelled(10, 25, job="b", instance="1.2.3.4:8080", pod="g-1", code="200")
    assert str(counted_twice([one, beside], {})).startswith(
        "g-1 is scraped by two jobs, 'a 1.2.3.4:80' and 'b 1.2.3.4:8080', so that its requests "
    )


def test_two_prometheis_behind_one_address() -> None:
    target = {"job": "a", "instance": "i"}
    found = [labelled(0, 15, **target, replica=name) for name in ("p-0", "p-1")]
    ups = {"a i": [labelled(0, 15, **target, replica=name) for name in ("p-0", "p-1")]}
    assert counted_twice(found, ups) == (
        "'a i' is there several times, by replica, so that its requests would count twice: give "
        "an address that leaves duplicates out"
    )
    assert counted_twice(found[:1], ups) is None
    # Labels that the metric itself has say nothing about duplicates.
    assert counted_twice(found, {"a i": [labelled(0, **target)]}) is None
