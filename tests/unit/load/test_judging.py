"""Verdicts on finished runs, and the sentences that give the reason."""

from __future__ import annotations

import json
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_llmdeploy.config.objectives import parse_objective
from pytest_llmdeploy.load.counts import Count
from pytest_llmdeploy.load.judging import Judged, judge_count, judge_rate, plain, seconds
from pytest_llmdeploy.verdicts import Verdict
from pytest_llmdeploy.verdicts.shares import ClusterSums


def judge(text: str, n: int, bad: int, value: float | None = None, unknown: int = 0) -> Judged:
    return judge_count(parse_objective(text), Count(n, bad, unknown), 0.95, value)


def test_a_percentile_that_holds() -> None:
    judged = judge("ttft_p95 <= 800 ms", 200, 2, 0.4123)
    assert judged.verdict is Verdict.PASS
    assert judged.reason == (
        "ttft_p95 is 412 ms; 2 of 200 requests above 800 ms, at most 3.11 % where 5 % may be: "
        "ttft_p95 <= 0.8 holds"
    )
    assert (judged.value, judged.limit, judged.n) == (0.4123, 0.8, 200)


@pytest.mark.parametrize(
    ("bounds", "shown"),
    [
        ((0.3, 0.5), " (300 ms to 500 ms)"),
        ((0.3, None), " (300 ms at least)"),
        ((None, 0.5), " (500 ms at most)"),
        ((None, None), ""),
    ],
)
def test_a_percentile_with_its_own_bounds(
    bounds: tuple[float | None, float | None], shown: str
) -> None:
    objective = parse_objective("ttft_p95 <= 800 ms")
    judged = judge_count(objective, Count(200, 2), 0.95, 0.4, bounds)
    assert judged.reason.startswith(f"ttft_p95 is 400 ms{shown}; 2 of 200 requests above")
    assert (judged.lower, judged.upper) == bounds


def test_a_percentile_that_is_missed() -> None:
    judged = judge("e2e_p95 <= 5", 100, 20, 7.5)
    assert judged.verdict is Verdict.FAIL
    assert judged.reason == (
        "e2e_p95 is 7.5 s; 20 of 100 requests above 5 s, at least 13.7 % where 5 % may be: "
        "e2e_p95 <= 5 is missed"
    )


def test_a_percentile_that_too_few_requests_show() -> None:
    judged = judge("ttft_p95 <= 1", 58, 0, 0.1)
    assert judged.verdict is Verdict.INCONCLUSIVE
    assert judged.reason == (
        "ttft_p95 is 100 ms; 0 of 58 requests above 1 s, at most 5.03 % where 5 % may be: "
        "not enough to tell whether ttft_p95 <= 1; about 59 would be needed"
    )


@pytest.mark.parametrize(
    ("text", "n"),
    [
        ("ttft_p50 <= 1", 5),
        ("ttft_p90 <= 1", 29),
        ("ttft_p95 <= 1", 59),
        ("ttft_p99 <= 1", 299),
        ("ttft_p99.9 <= 1", 2995),
        ("error_rate <= 1%", 299),
        ("goodput >= 95%", 59),
    ],
)
def test_the_fewest_requests_that_can_pass(text: str, n: int) -> None:
    """At 95 % confidence ``ceil(ln 0.05 / ln(1 - allowed))`` requests, none of them bad."""
    assert judge(text, n, 0, 0.1).verdict is Verdict.PASS
    assert judge(text, n - 1, 0, 0.1).verdict is Verdict.INCONCLUSIVE


def test_more_failures_than_the_percentile_leaves_room_for() -> None:
    judged = judge("ttft_p95 <= 1", 100, 40, None)
    assert judged.verdict is Verdict.FAIL
    assert judged.value is None
    assert judged.reason.startswith("ttft_p95 is beyond all that ended well; 40 of 100 requests")


@pytest.mark.parametrize(
    ("text", "n", "bad", "verdict", "reason"),
    [
        (
            "error_rate <= 5%",
            1000,
            10,
            Verdict.PASS,
            "error_rate 1 % (10 of 1000, at most 1.69 %): error_rate <= 0.05 holds",
        ),
        (
            "error_rate <= 5%",
            100,
            20,
            Verdict.FAIL,
            "error_rate 20 % (20 of 100, at least 13.7 %): error_rate <= 0.05 is missed",
        ),
        (
            "error_rate <= 5%",
            100,
            5,
            Verdict.INCONCLUSIVE,
            "error_rate 5 % (5 of 100, at most 10.2 %): "
            "not enough to tell whether error_rate <= 0.05",
        ),
        (
            "goodput >= 90%",
            1000,
            10,
            Verdict.PASS,
            "goodput 99 % (990 of 1000, at least 98.3 %): goodput >= 0.9 holds",
        ),
        (
            "goodput >= 90%",
            100,
            40,
            Verdict.FAIL,
            "goodput 60 % (60 of 100, at most 68.2 %): goodput >= 0.9 is missed",
        ),
        (
            "error_rate <= 0",
            100_000,
            0,
            Verdict.INCONCLUSIVE,
            "error_rate 0 % (0 of 100000, at most 0.003 %): "
            "not enough to tell whether error_rate <= 0",
        ),
        (
            "error_rate <= 0",
            100,
            1,
            Verdict.FAIL,
            "error_rate 1 % (1 of 100, at least 0.0513 %): error_rate <= 0 is missed",
        ),
    ],
)
def test_shares(text: str, n: int, bad: int, verdict: Verdict, reason: str) -> None:
    judged = judge(text, n, bad)
    assert (judged.verdict, judged.reason) == (verdict, reason)
    assert judged.value is not None
    assert judged.lower is not None
    assert judged.upper is not None
    assert judged.lower <= judged.value <= judged.upper


@pytest.mark.parametrize("text", ["ttft_p50 <= 9", "error_rate <= 99%", "goodput >= 1%"])
def test_nothing_measured_is_no_verdict(text: str) -> None:
    judged = judge(text, 0, 0)
    assert judged.verdict is Verdict.ERROR
    assert judged.reason == "no request that it applies to was sent"


def test_answers_without_token_counts_are_no_verdict() -> None:
    judged = judge("tpot_p95 <= 1", 500, 0, 0.01, unknown=1)
    assert judged.verdict is Verdict.ERROR
    assert judged.reason == "1 of 501 answers have no usage: no token counts"


def gaps(clusters: int, size: int, bad_clusters: int) -> Count:
    sums = ClusterSums()
    for number in range(clusters):
        sums.add(size if number < bad_clusters else 0, size)
    return Count(gaps=sums)


def test_token_gaps_count_by_request() -> None:
    """10000 gaps in 40 requests show no p95: a bad request is bad throughout."""
    objective = parse_objective("itl_p95 <= 50 ms")
    few = judge_count(objective, gaps(40, 250, 0), 0.95, 0.01)
    assert few.verdict is Verdict.INCONCLUSIVE
    assert few.n == 10_000
    assert few.reason == (
        "itl_p95 is 10 ms; 0 of 10000 token gaps above 50 ms, at most 7.22 % where 5 % may be: "
        "not enough to tell whether itl_p95 <= 0.05; about 59 requests would be needed"
    )
    enough = judge_count(objective, gaps(59, 250, 0), 0.95, 0.01)
    assert enough.verdict is Verdict.PASS
    assert judge_count(objective, gaps(59, 250, 20), 0.95, 0.2).verdict is Verdict.FAIL
    assert judge_count(objective, Count(), 0.95, None).verdict is Verdict.ERROR


def test_rates_by_stretches_of_time() -> None:
    objective = parse_objective("throughput >= 20/s")
    passed = judge_rate(objective, [21.0, 22.0, 21.5, 22.5], 0.95)
    assert passed.verdict is Verdict.PASS
    assert passed.reason == "throughput 21.75/s (at least 20.99/s where 20/s is wanted)"
    missed = judge_rate(objective, [11.0, 12.0, 11.5, 12.5], 0.95)
    assert missed.verdict is Verdict.FAIL
    assert missed.reason == "throughput 11.75/s (at most 12.51/s where 20/s is wanted)"
    unclear = judge_rate(objective, [11.0, 32.0, 15.5, 22.5], 0.95)
    assert unclear.verdict is Verdict.INCONCLUSIVE
    assert unclear.reason == (
        "throughput 20.25/s (between 9.482 and 31.02/s, around 20/s: a longer run would tell)"
    )
    assert judge_rate(objective, [50.0], 0.95).verdict is Verdict.INCONCLUSIVE
    assert judge_rate(objective, [], 0.95).verdict is Verdict.ERROR
    assert judge_rate(objective, [0.0] * 20, 0.95).verdict is Verdict.FAIL


def test_large_rates_are_written_out() -> None:
    objective = parse_objective("token_throughput >= 100000/s")
    assert judge_rate(objective, [123_456.0, 123_456.0], 0.95).reason == (
        "token_throughput 123456/s (at least 123456/s where 100000/s is wanted)"
    )


@settings(derandomize=True, database=None, deadline=None)
@given(
    text=st.sampled_from(
        [
            "ttft_p50 <= 1",
            "ttft_p99.9 <= 1",
            "error_rate <= 3%",
            "error_rate <= 0",
            "goodput >= 0.9",
        ]
    ),
    n=st.integers(0, 3000),
    share=st.floats(0, 1),
    confidence=st.floats(0.51, 0.999999),
)
def test_any_counts_have_a_verdict_that_can_be_written(
    text: str, n: int, share: float, confidence: float
) -> None:
    bad = int(share * n)
    judged = judge_count(parse_objective(text), Count(n, bad), confidence, None)
    assert json.loads(json.dumps(judged.to_json(), allow_nan=False))["verdict"] == judged.verdict
    assert judged.reason
    if judged.verdict is Verdict.PASS:
        assert n > 0
        assert bad < n


def test_a_pass_is_seldom_wrong() -> None:
    """At a true share of 6 % with 5 % allowed, at most 5 % of the runs may PASS.

    Of 400 runs 20 are expected at most, and more than 47 with a probability below 1e-6.
    """
    chance = random.Random(7)
    passes = 0
    for _ in range(400):
        bad = sum(chance.random() < 0.06 for _ in range(300))
        passes += judge("ttft_p95 <= 1", 300, bad, 0.5).verdict is Verdict.PASS
    assert passes <= 47


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0 ms"),
        (0.00001234, "0.0123 ms"),
        (0.05, "50 ms"),
        (0.8125, "812 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1 s"),
        (1.0, "1 s"),
        (12.345, "12.3 s"),
        (300.0, "300 s"),
        (1234.5, "1234 s"),
    ],
)
def test_times_as_people_read_them(value: float, text: str) -> None:
    assert seconds(value) == text


@settings(derandomize=True, database=None, deadline=None)
@given(
    number=st.floats(1e-9, 1e12) | st.floats(-1e12, -1e-9) | st.just(0.0), digits=st.integers(1, 6)
)
def test_plain_numbers_have_no_exponent_and_their_digits(number: float, digits: int) -> None:
    text = plain(number, digits)
    assert "e" not in text
    assert math.isclose(float(text), number, rel_tol=0.5 * 10.0 ** (1 - digits) + 1e-12)
