"""How many requests miss each objective."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_llmdeploy.config.objectives import parse_objective
from pytest_llmdeploy.load.counts import Count, Counts, allowed_share
from pytest_llmdeploy.load.ledger import Record
from pytest_llmdeploy.verdicts.shares import ClusterSums
from tests.unit.load.records import answered, failed

OBJECTIVES = [
    parse_objective(text)
    for text in (
        "ttft_p95 <= 0.2",
        "ttfr_p95 <= 0.2",
        "tpot_p95 <= 0.02",
        "itl_p95 <= 0.05",
        "e2e_p95 <= 1",
        "queueing_p95 <= 0.1",
        "error_rate <= 5%",
        "goodput >= 90%",
        "throughput >= 1",
    )
]


def counted(records: Sequence[Record], warmup: float = 0.0) -> Counts:
    counts = Counts(OBJECTIVES, {"ttft": 0.2, "e2e": 1.0}, warmup)
    for record in records:
        counts.add(record)
    return counts


def numbers(counts: Counts) -> dict[str, tuple[int, int]]:
    """Return requests (for itl gaps) and the bad ones among them by metric."""
    return {
        name.partition("_p")[0]: (count.gaps.m, count.gaps.x)
        if "itl" in name
        else (count.n, count.bad)
        for name, count in counts.of.items()
    }


NOTHING = dict.fromkeys(
    ("ttft", "ttfr", "tpot", "itl", "e2e", "queueing", "error_rate", "goodput"), (0, 0)
)
FINE = {**dict.fromkeys(NOTHING, (1, 0)), "ttfr": (0, 0), "itl": (4, 0)}
BAD = {**dict.fromkeys(NOTHING, (1, 1)), "queueing": (1, 0)}


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (answered(0, 5.0, over={"0.05": 0}), FINE),
        (answered(0, 5.0, over={"0.05": 3}), FINE | {"itl": (4, 3)}),
        (answered(0, 5.0, over={"0.05": 0}, reason=5.09), FINE | {"ttfr": (1, 0)}),
        (
            answered(0, 5.0, over={"0.05": 0}, first=5.3, last=5.4, end=5.5),
            FINE | {"ttft": (1, 1), "tpot": (1, 1), "goodput": (1, 1)},
        ),
        (answered(0, 5.0, gaps=None, tokens=1), FINE | {"itl": (0, 0), "tpot": (0, 0)}),
        (
            answered(0, 5.0, stream=False, first=None, last=None, gaps=None, chunks=None),
            FINE | {"ttft": (0, 0), "tpot": (0, 0), "itl": (0, 0)},
        ),
        (failed(0, 5.0), BAD),
        (failed(0, 5.0, "truncated", gaps=7), BAD | {"itl": (7, 7)}),
        (
            failed(0, 5.0, stream=False),
            BAD | dict.fromkeys(("ttft", "ttfr", "tpot", "itl"), (0, 0)),
        ),
        ({"i": 0, "at": 5.0, "end": 5.0, "class": "dropped"}, BAD | {"queueing": (1, 1)}),
        (failed(0, 5.0, "cancelled"), NOTHING),
        (failed(0, 3.9), NOTHING),
        (answered(0, 5.0, over={"0.05": 0}, target=1), NOTHING),
    ],
)
def test_what_one_request_counts_as(record: Record, expected: dict[str, tuple[int, int]]) -> None:
    assert numbers(counted([record], warmup=4.0)) == expected


def test_a_limit_that_is_just_met_is_met() -> None:
    record = answered(0, 0.0, first=0.2, last=0.27, end=1.0, sent=0.1, over={"0.05": 0})
    assert numbers(counted([record])) == FINE


def test_without_usage_time_per_token_is_unknown() -> None:
    counts = counted([answered(0, 0.0, tokens=None, over={"0.05": 0})])
    assert (counts.of["tpot_p95"].n, counts.of["tpot_p95"].unknown) == (0, 1)
    assert counts.of["ttft_p95"].unknown == 0
    good = Counts([parse_objective("goodput >= 0.9")], {"tpot": 0.1}, 0.0)
    good.add(answered(0, 0.0, tokens=None))
    good.add(failed(1, 0.0))
    assert (good.of["goodput"].n, good.of["goodput"].bad, good.of["goodput"].unknown) == (1, 1, 1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ttft_p95 <= 1", 0.05),
        ("ttft_p99.9 <= 1", 0.001),
        ("e2e_p50 <= 1", 0.5),
        ("error_rate <= 3%", 0.03),
        ("error_rate <= 0", 0.0),
        ("goodput >= 90%", 0.1),
        ("goodput >= 1", 0.0),
    ],
)
def test_the_share_that_may_be_bad(text: str, expected: float) -> None:
    assert allowed_share(parse_objective(text)) == expected


RECORDS = st.lists(
    st.builds(
        lambda at, fine, late, over: (
            answered(0, at, first=at + late, over={"0.05": over})
            if fine
            else failed(0, at, gaps=over)
        ),
        st.floats(0, 10),
        st.booleans(),
        st.floats(0, 0.14),
        st.integers(0, 4),
    ),
    max_size=30,
)


@settings(derandomize=True, database=None, deadline=None)
@given(records=RECORDS, cut=st.integers(0, 30))
def test_the_counts_of_processes_add_up_to_those_of_one(records: list[Record], cut: int) -> None:
    merged = Counts((), {}, 0.0)
    merged.take(json.loads(json.dumps(counted(records[:cut], 2.0).to_json())))
    merged.merge(counted(records[cut:], 2.0))
    assert merged.of == counted(records, 2.0).of


def test_counts_cross_the_process_border_whole() -> None:
    counts = counted([answered(0, 0.0, over={"0.05": 2}), failed(1, 0.0)])
    taken = Counts((), {}, 0.0)
    taken.take(json.loads(json.dumps(counts.to_json())))
    assert taken.of == counts.of
    assert taken.of["itl_p95"] == Count(0, 0, 0, ClusterSums(2, 3, 5, 5, 9, 17))
    assert "throughput" not in taken.of
