"""From records to the numbers of a run."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_llmdeploy.config.objectives import parse_objective
from pytest_llmdeploy.load.controller import TrafficResult
from pytest_llmdeploy.load.ledger import EndClass, Record
from pytest_llmdeploy.load.summary import (
    BATCHES,
    MOST_BINS,
    MOST_DETAILS,
    MOST_KINDS,
    Spread,
    Tally,
    tally,
)
from pytest_llmdeploy.verdicts import Verdict
from pytest_llmdeploy.verdicts.histogram import Histogram
from tests.unit.load.records import answered, failed, write_ledger

TEXTS = ("ttft_p95 <= 0.8", "error_rate <= 5%", "throughput >= 5", "token_throughput >= 30")


def counted(records: Iterable[Record], warmup: float = 0.0, duration: float = 20.0) -> Tally:
    whole = Tally([parse_objective(text) for text in TEXTS], {}, warmup, duration)
    for record in records:
        whole.add(record)
    return whole


def shown(records: Iterable[Record], warmup: float = 0.0, duration: float = 20.0) -> dict[str, Any]:
    """Return the summary as it is read back from its file."""
    data = counted(records, warmup, duration).to_json(Histogram())
    read: dict[str, Any] = json.loads(json.dumps(data, allow_nan=False))
    return read


STEADY = [answered(number, number / 10) for number in range(200)]
"""Ten requests a second for 20 s, each answered within 0.15 s."""


def test_a_steady_run() -> None:
    found = shown(STEADY)
    assert (found["intended"], found["judged"], found["sent"]) == (200, 200, 200)
    assert found["classes"] == {"ok": 200}
    assert found["clients"] == {"keep_alive": {"intended": 200, "ok": 200}}
    assert found["tokens"] == {"prompt": None, "completion": 1000, "cached": None}
    assert found["rates"]["intended"] == pytest.approx(10)
    assert found["rates"]["ok"] == pytest.approx(10, rel=0.02)
    assert found["rates"]["tokens"] == pytest.approx(50, rel=0.02)
    ttft = found["latencies"]["ttft"]
    assert (ttft["n"], ttft["finite"]) == (200, 200)
    assert [ttft[key] for key in ("mean", "p50", "p99", "max")] == pytest.approx(
        [0.1] * 4, rel=1e-3
    )
    assert found["latencies"]["e2e"]["from_sent"]["p50"] == pytest.approx(0.15, rel=1e-3)
    assert set(found["latencies"]) == {"ttft", "tpot", "e2e", "queueing"}
    assert found["failures"] == []
    assert found["cdf"]["e2e"]["sent"][-1] == pytest.approx([0.15, 1.0], rel=1e-3)


def test_what_ran_late_is_late_from_the_intended_start_alone() -> None:
    late = [
        answered(n, n / 10, sent=n / 10 + 1, first=n / 10 + 1.1, end=n / 10 + 2) for n in range(50)
    ]
    found = shown(late)["latencies"]
    assert found["ttft"]["p50"] == pytest.approx(1.1, rel=1e-3)
    assert found["ttft"]["from_sent"]["p50"] == pytest.approx(0.1, rel=1e-3)
    assert found["queueing"]["p50"] == pytest.approx(1, rel=1e-3)


def test_failures_rank_last_and_are_told() -> None:
    records = [*STEADY[:90], *(failed(n, n / 10) for n in range(90, 100))]
    found = shown(records)
    assert found["classes"] == {"ok": 90, "reset": 10}
    e2e = found["latencies"]["e2e"]
    assert (e2e["n"], e2e["finite"]) == (100, 90)
    assert e2e["p90"] == pytest.approx(0.15, rel=1e-3)
    assert e2e["p95"] is None
    assert (e2e["max"], e2e["mean"]) == (None, None), "infinite, as a p99 is"
    assert found["cdf"]["e2e"]["intended"][-1][1] == pytest.approx(0.9)
    assert found["failures"] == [
        {"class": "reset", "count": 10, "detail": "connection reset by peer"}
    ]


def test_the_warm_up_is_counted_and_not_judged() -> None:
    records = [failed(n, n / 10) for n in range(50)] + STEADY[50:]
    whole = counted(records, warmup=5.0)
    assert (whole.intended, whole.judged) == (200, 150)
    assert whole.classes == {"reset": 50, "ok": 150}
    judged = whole.judge(parse_objective("error_rate <= 5%"), 0.95, Histogram())
    assert (judged.verdict, judged.n, judged.value) == (Verdict.PASS, 150, 0.0)
    found = whole.to_json(Histogram())
    assert found["window"] == [5.0, 20.0]
    assert found["rates"]["intended"] == pytest.approx(10, rel=0.01)


def test_cancelled_requests_are_counted_and_not_judged() -> None:
    whole = counted([*STEADY[:10], failed(10, 1.0, "cancelled")])
    assert (whole.intended, whole.judged, whole.judged_ok) == (11, 10, 10)


def test_verdicts_by_objective() -> None:
    whole = counted(STEADY)
    verdicts = {text: whole.judge(parse_objective(text), 0.95, Histogram()) for text in TEXTS}
    assert {judged.verdict for judged in verdicts.values()} == {Verdict.PASS}
    assert verdicts["throughput >= 5"].n == BATCHES
    assert verdicts["throughput >= 5"].value == pytest.approx(10, rel=0.02)
    assert verdicts["token_throughput >= 30"].value == pytest.approx(50, rel=0.02)
    few = whole.judge(parse_objective("throughput >= 11"), 0.95, Histogram())
    assert few.verdict is Verdict.FAIL


def test_tokens_per_second_need_usage() -> None:
    whole = counted([*STEADY[:199], answered(199, 3.0, tokens=None)])
    judged = whole.judge(parse_objective("token_throughput >= 1"), 0.95, Histogram())
    assert judged.verdict is Verdict.ERROR
    assert judged.reason == "1 of 200 answers have no usage: no token counts"
    without = counted(answered(n, n / 10, tokens=None) for n in range(100))
    assert without.to_json(Histogram())["rates"]["tokens"] is None


def test_no_answer_at_all_is_a_rate_of_nothing() -> None:
    whole = counted(failed(n, n / 10) for n in range(100))
    for text in ("throughput >= 5", "token_throughput >= 30"):
        judged = whole.judge(parse_objective(text), 0.95, Histogram())
        assert (judged.verdict, judged.value) == (Verdict.FAIL, 0)


def test_tokens_belong_to_the_time_in_which_they_came() -> None:
    """One answer of 100 tokens through all of the run; its first half lies in the warm-up."""
    record = answered(0, 0.0, first=0.0, last=20.0, end=20.0, tokens=100)
    found = shown([record], warmup=10.0)
    assert found["rates"]["tokens"] == pytest.approx(50 / 10)
    assert found["rates"]["ok"] == 0, "it ended when the time was over"


def test_tokens_of_a_thought_come_with_the_thought() -> None:
    record = answered(0, 0.0, reason=0.0, first=20.0, last=20.0, end=20.0, tokens=100)
    assert shown([record], warmup=10.0)["rates"]["tokens"] == pytest.approx(5.0)


def test_the_timeline_by_intended_second() -> None:
    records = [
        answered(0, 0.2),
        answered(1, 0.9, end=3.5),
        failed(2, 1.0),
        answered(3, 1.5, end=9.0),
    ]
    found = shown(records, duration=4.0)["timeline"]
    width = found["bin"]
    assert width == 0.1
    assert len(found["intended"]) == 40
    assert sum(found["intended"]) == 4
    assert (found["ok"][2], found["ok"][9], found["ok"][15]) == (1, 1, 1)
    assert found["failed"][10] == 1
    assert found["in_flight"][9] == 1
    assert found["in_flight"][20] == 2
    assert found["in_flight"][-1] == 1, "the last one was open to the end"
    assert found["ttft_p50"][2] == pytest.approx(0.1, rel=1e-3)
    assert found["ttft_p50"][10] is None, "infinite"
    assert found["ttft_p50"][30] is None, "nothing"


def test_long_runs_have_no_more_bins_than_can_be_drawn() -> None:
    for duration in (0.05, 1, 15, 16, 300, 3600, 86_400, 3_000_000):
        found = shown([answered(0, 0.0)], duration=duration)["timeline"]
        assert 1 <= len(found["intended"]) <= MOST_BINS
        assert found["bin"] * len(found["intended"]) >= duration * (1 - 1e-9)


def test_a_service_that_makes_up_names_does_not_fill_the_summary() -> None:
    records = [
        failed(n, n / 1000, detail=f"trace {n}", version=f"v{n}") for n in range(5 * MOST_KINDS)
    ]
    found = shown(records)
    assert len(found["versions"]) == MOST_KINDS + 1
    assert sum(found["versions"].values()) == 5 * MOST_KINDS
    assert len(found["failures"]) == MOST_DETAILS
    assert found["failures"][0] == {
        "class": "reset",
        "count": 4 * MOST_KINDS,
        "detail": "other details",
    }


def test_token_gaps_come_from_the_generator() -> None:
    gaps = Histogram()
    gaps.add(0.01, 900)
    gaps.add(0.2, 100)
    found = counted(STEADY).to_json(gaps)["latencies"]["itl"]
    assert (found["n"], found["p50"]) == (1000, pytest.approx(0.01, rel=1e-3))
    assert found["p95"] == pytest.approx(0.2, rel=1e-3)


def test_gaps_by_token_stand_beside_gaps_by_piece() -> None:
    pieces, tokens = Histogram(), Histogram()
    pieces.add(0.04, 900)
    tokens.add(0.01, 900)
    found = counted(STEADY).to_json(pieces, tokens)["latencies"]
    assert found["itl"]["p50"] == pytest.approx(0.04, rel=1e-3)
    assert found["itl_per_token"]["p50"] == pytest.approx(0.01, rel=1e-3)


def test_a_spread_ranks_the_infinite_last() -> None:
    spread = Spread()
    assert spread.quantile(0.5) is None
    assert spread.cdf() == []
    for value in (1.0, 2.0, None, math.inf, 3.0):
        spread.add(value)
    assert spread.n == 4
    assert spread.quantile(0.75) == pytest.approx(3, rel=1e-3)
    assert spread.quantile(0.76) is None


def test_the_bounds_of_a_percentile_are_values_of_their_ranks() -> None:
    """Of 100 values the 91st bounds the p95 from below at 97.2 %, the 99th from above at 96.3 %.

    The 98th would do so at 88 %; see David and Nagaraja, "Order Statistics", 7.1.
    """
    spread = Spread()
    for place in range(1, 101):
        spread.add(float(place))
    assert spread.bounds(0.95, 0.95) == pytest.approx((91, 99), rel=1e-3)
    assert spread.bounds(0.5, 0.95) == pytest.approx((42, 59), rel=1e-3)
    assert spread.bounds(0.99, 0.95) == (spread.quantile(0.97), None)


def test_one_failure_makes_mean_and_longest_infinite() -> None:
    found = shown([*STEADY[:99], failed(99, 9.9)])["latencies"]["e2e"]
    assert (found["n"], found["finite"], found["mean"], found["max"]) == (100, 99, None, None)
    assert found["p95"] == pytest.approx(0.15, rel=1e-3)


def test_without_reasoning_there_is_no_time_to_it_whatever_failed() -> None:
    assert "ttfr" not in shown([*STEADY[:50], failed(50, 5.0)])["latencies"]
    assert "ttfr" in shown([answered(0, 0.0, reason=0.05), failed(1, 1.0)])["latencies"]


def test_the_bounds_of_a_percentile_reach_what_failed() -> None:
    spread = Spread()
    for place in range(100):
        spread.add(float(place + 1) if place < 95 else math.inf)
    assert spread.bounds(0.95, 0.95) == (spread.quantile(0.91), None)
    assert Spread().bounds(0.95, 0.95) == (None, None)


def test_a_judged_percentile_has_its_bounds_in_seconds() -> None:
    whole = counted(answered(n, n / 10, first=n / 10 + 0.1 + n / 1000) for n in range(100))
    judged = whole.judge(parse_objective("ttft_p95 <= 0.8"), 0.95, Histogram())
    assert judged.value == pytest.approx(0.194, rel=1e-3)
    assert judged.lower == pytest.approx(0.19, rel=1e-3)
    assert judged.upper == pytest.approx(0.198, rel=1e-3)


def test_the_ledger_of_a_run_is_counted(tmp_path: Path) -> None:
    ledger = write_ledger(tmp_path / "ledger.jsonl.zst", [*STEADY, failed(200, 3.0)])
    result = TrafficResult(ledger=ledger, started=0, duration=20, intended=201, processes=1)
    whole = tally(result, [parse_objective("error_rate <= 5%")], {}, 0.0, 20.0)
    assert (whole.intended, whole.classes["reset"]) == (201, 1)


RECORDS = st.lists(
    st.builds(
        lambda at, end, last, tokens, sent: {
            "i": 0,
            "at": at,
            "end": at + last,
            "class": str(end),
            **({"sent": at} if sent else {}),
            **({"first": at + last / 2, "last": at + last} if end is EndClass.OK else {}),
            **({"tokens": tokens} if tokens else {}),
        },
        st.floats(0, 40),
        st.sampled_from(EndClass),
        st.floats(0, 60),
        st.none() | st.integers(0, 1000),
        st.just(True),
    ),
    max_size=40,
)


@settings(derandomize=True, database=None, deadline=None)
@given(records=RECORDS, warmup=st.floats(0, 30), duration=st.floats(0.01, 30))
def test_any_records_make_a_summary_that_adds_up(
    records: list[Record], warmup: float, duration: float
) -> None:
    found = shown(records, warmup, duration)
    assert found["intended"] == sum(found["classes"].values()) == len(records)
    assert sum(found["timeline"]["intended"]) == len(records)
    assert sum(found["timeline"]["ok"]) == found["classes"].get("ok", 0)
    assert min(found["timeline"]["in_flight"]) >= 0
    for curves in found["cdf"].values():
        for curve in curves.values():
            shares = [share for _, share in curve]
            assert shares == sorted(shares)
            assert all(0 <= share <= 1 for share in shares)
            assert [seconds for seconds, _ in curve] == sorted(seconds for seconds, _ in curve)
