"""Axes, numbers and groups: what charts are drawn from."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmdeploy.reports.html.axes import linear, logarithmic, rounded, times
from pytest_llmdeploy.reports.html.bars import bar
from pytest_llmdeploy.reports.html.latency_chart import thinned
from pytest_llmdeploy.reports.html.numbers import moment, of_metric, seconds, share
from pytest_llmdeploy.reports.html.summary import Timeline
from pytest_llmdeploy.reports.html.timeline_chart import MOST_GROUPS, grouped

POSITIVE = st.floats(1e-8, 1e12)


@given(POSITIVE, POSITIVE)
def test_axes_hold_their_values_between_few_round_ticks(one: float, other: float) -> None:
    low, high = sorted((one, other))
    for axis in (
        times("x", [low, high]),
        rounded("x", high),
        logarithmic("x", max(low, high / 1e9), high),
    ):
        assert 2 <= len(axis.ticks) <= 8, axis
        assert all(axis.low * 0.999999 <= tick <= axis.high * 1.000001 for tick, _ in axis.ticks)
        assert len({words for _, words in axis.ticks}) == len(axis.ticks)
        assert axis.low <= axis.high
        assert axis.high >= high * 0.999999
        assert 0 <= axis.at(low) <= axis.at(high) <= 1


@pytest.mark.parametrize(
    ("values", "label", "words"),
    [
        ([0.05, 0.31], "TTFT (ms)", ["0", "100", "200", "300", "400"]),
        ([0.4, 2.3], "TTFT (s)", ["0", "0.5", "1", "1.5", "2", "2.5"]),
        ([0.1, 2.0], "TTFT (s)", ["0", "0.5", "1", "1.5", "2"]),
        ([0.09, 2.0], "TTFT (s, log scale)", ["0.05", "0.1", "0.2", "0.5", "1", "2"]),
        ([0.002, 40], "TTFT (s, log scale)", ["0.01", "0.1", "1", "10"]),
        ([], "TTFT (s)", ["0", "0.2", "0.4", "0.6", "0.8", "1"]),
    ],
)
def test_axes_of_times(values: list[float], label: str, words: list[str]) -> None:
    axis = times("TTFT", values)
    assert axis.label == label
    assert [word for _, word in axis.ticks] == words


def test_a_time_axis_ends_where_the_run_does() -> None:
    axis = linear("s", 62.4)
    assert (axis.low, axis.high) == (0.0, 62.4)
    assert [word for _, word in axis.ticks] == ["0", "20", "40", "60"]


@given(st.floats(0, 1))
def test_only_all_is_100_percent_and_only_nothing_is_0(value: float) -> None:
    assert (share(value) == "100 %") == (value == 1)
    assert (share(value) == "0 %") == (value == 0)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "∞"),
        (0.0, "0 s"),
        (1e-7, "< 0.001 ms"),
        (0.00042, "0.42 ms"),
        (0.2434, "243 ms"),
        (0.9996, "1 s"),
        (1.234, "1.23 s"),
        (125.4, "2 min 05 s"),
    ],
)
def test_times(value: float | None, shown: str) -> None:
    assert seconds(value) == shown


def test_numbers_have_the_unit_of_their_metric() -> None:
    assert of_metric("queueing_p99", 0.01) == "10 ms"
    assert of_metric("error_rate", 0.01) == "1 %"
    assert of_metric("token_throughput", 1234.4) == "1234/s"
    assert of_metric("something_new", 1.5) == "1.5"
    assert of_metric("e2e_p95", None, missing="∞") == "∞"
    assert of_metric("error_rate", None, missing="∞") == "\u2013"


def test_moments() -> None:
    assert moment("2025-03-01T12:00:00+02:00") == "2025-03-01 10:00:00 UTC"
    assert moment("2025-03-01T12:00:00") == "2025-03-01T12:00:00"
    assert moment("yesterday") == "yesterday"
    assert moment("") == "\u2013"


@given(st.lists(st.integers(0, 1000), max_size=1000), st.floats(0.1, 10))
def test_groups_keep_every_request(counts: list[int], size: float) -> None:
    flying = tuple(float(count) for count in counts)
    line = Timeline(bin=size, start=3.0, intended=tuple(counts), ok=(1,), in_flight=flying)
    groups = grouped(line)
    assert len(groups) <= MOST_GROUPS
    total = sum(each.intended * (each.end - each.start) for each in groups)
    assert total == pytest.approx(sum(counts), rel=1e-6)
    if counts:
        assert groups[0].start == 3.0
        assert groups[-1].end == pytest.approx(3.0 + len(counts) * size)
        assert max(each.in_flight or 0.0 for each in groups) == max(flying)


def test_a_long_run_is_drawn_in_means_and_maxima() -> None:
    line = Timeline(
        bin=2.0, intended=(10, 30) * 100, failed=(0, 2) * 100, ttft_p95=(0.1, 0.4) * 100
    )
    groups = grouped(line)
    assert len(groups) == 100
    assert {(g.end - g.start, g.intended, g.ok, g.failed, g.ttft_p95) for g in groups} == {
        (4.0, 10.0, 0.0, 0.5, 0.4)
    }


def test_one_failure_of_a_million_is_visible_and_none_is_not() -> None:
    assert 'width="1.20%"' in bar(1, 1_000_000, "bad", "one")
    assert 'width="0.00%"' in bar(0, 1_000_000, "bad", "none")
    assert 'width="50.00%"' in bar(5, 10, "ok", "half")
    assert 'width="0.00%"' in bar(0, 0, "ok", "nothing")


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0, 1)), max_size=900))
def test_thinned_curves_keep_their_ends(points: list[tuple[float, float]]) -> None:
    kept = thinned(tuple(points))
    assert len(kept) <= 161
    assert kept[:1] == points[:1]
    assert kept[-1:] == points[-1:]
