"""What each latency is, key by key of the ledger."""

from __future__ import annotations

import math
from typing import Any

import pytest

from pytest_llmdeploy.load.definitions import NoUsageError, is_good, is_judged, value_of
from pytest_llmdeploy.load.ledger import EndClass
from tests.unit.load.records import answered, failed

LATE: dict[str, Any] = {"sent": 10.5, "first": 11.0, "last": 12.0, "end": 12.25}
"""A request intended at 10 that was sent half a second later; 5 tokens."""


@pytest.mark.parametrize(
    ("metric", "since", "changes", "expected"),
    [
        ("ttft", "at", {}, 1.0),
        ("ttft", "sent", {}, 0.5),
        ("ttft", "at", {"reason": 10.8}, 1.0),
        ("ttft", "at", {"first": None, "reason": 10.8}, math.inf),
        ("ttft", "at", {"first": None, "last": None}, math.inf),
        ("ttft", "at", {"stream": False, "first": None}, None),
        ("ttfr", "at", {"reason": 10.8}, 0.8),
        ("ttfr", "at", {}, None),
        ("e2e", "at", {}, 2.25),
        ("e2e", "sent", {}, 1.75),
        ("e2e", "at", {"stream": False}, 2.25),
        ("queueing", "at", {}, 0.5),
        ("queueing", "at", {"class": "reset"}, 0.5),
        ("tpot", "at", {}, 0.25),
        ("tpot", "at", {"reason": 10.8}, 0.3),
        ("tpot", "at", {"tokens": 1}, None),
        ("tpot", "at", {"tokens": 0}, None),
        ("tpot", "at", {"first": None, "last": None, "chunks": None}, None),
        ("tpot", "at", {"stream": False}, None),
    ],
)
def test_a_request_that_ended_well(
    metric: str, since: str, changes: dict[str, Any], expected: float | None
) -> None:
    record = answered(0, 10.0, **{**LATE, **changes})
    assert value_of(metric, record, since=since) == pytest.approx(expected)


@pytest.mark.parametrize("end", [each for each in EndClass if each is not EndClass.OK])
@pytest.mark.parametrize("metric", ["ttft", "ttfr", "tpot", "e2e"])
def test_a_request_that_did_not_is_infinitely_late(metric: str, end: EndClass) -> None:
    record = answered(0, 10.0, **{**LATE, "class": str(end)})
    assert value_of(metric, record) == math.inf


def test_what_was_never_sent_queued_for_ever() -> None:
    record = failed(0, 10.0, "dropped")
    del record["sent"]
    assert value_of("queueing", record) == math.inf


def test_clocks_that_tick_in_microseconds_make_no_negative_times() -> None:
    record = answered(0, 10.0, sent=9.999999, first=9.999999, end=9.999999)
    assert [value_of(metric, record) for metric in ("ttft", "e2e", "queueing")] == [0, 0, 0]


def test_time_per_token_needs_usage() -> None:
    with pytest.raises(NoUsageError):
        value_of("tpot", answered(0, 10.0, tokens=None))


def test_the_warm_up_the_cancelled_and_the_other_version_are_not_judged() -> None:
    assert is_judged(answered(0, 5.0), 5.0)
    assert is_judged(failed(0, 5.0), 5.0)
    assert not is_judged(answered(0, 4.999), 5.0)
    assert not is_judged(failed(0, 5.0, "cancelled"), 5.0)
    assert is_judged(answered(0, 5.0, target=0), 5.0)
    assert not is_judged(answered(0, 5.0, target=1), 5.0)


@pytest.mark.parametrize(
    ("limits", "changes", "good"),
    [
        ({"ttft": 1.0}, {}, True),
        ({"ttft": 0.999}, {}, False),
        ({"ttft": 5, "e2e": 2.25, "tpot": 0.25}, {}, True),
        ({"ttft": 5, "e2e": 2.25, "tpot": 0.2}, {}, False),
        ({"e2e": 9}, {"class": "truncated"}, False),
        ({"tpot": 0.1}, {"tokens": 1}, True),
        ({"ttft": 1, "e2e": 9}, {"stream": False, "first": None}, True),
        ({"ttft": 9, "e2e": 9}, {"first": None, "last": None}, False),
        ({"ttft": 9}, {"first": None, "reason": 10.6}, False),
    ],
)
def test_a_good_request_meets_all_limits_that_apply(
    limits: dict[str, float], changes: dict[str, Any], good: bool
) -> None:
    assert is_good(answered(0, 10.0, **{**LATE, **changes}), limits) is good


def test_good_needs_usage_for_time_per_token_alone() -> None:
    record = answered(0, 10.0, tokens=None)
    assert is_good(record, {"ttft": 1})
    with pytest.raises(NoUsageError):
        is_good(record, {"tpot": 1})
