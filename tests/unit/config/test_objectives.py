"""Objectives as they are written: what is taken, and what a refusal says."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_llmdeploy.config.objectives import (
    LATENCIES,
    RATES,
    SHARES,
    Objective,
    parse_objective,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ttft_p95 <= 0.8", Objective("ttft_p95", "ttft", 95, True, 0.8)),
        ("  ttft_p95<=800ms ", Objective("ttft_p95", "ttft", 95, True, 0.8)),
        ("e2e_p99.9 <= 30 s", Objective("e2e_p99.9", "e2e", 99.9, True, 30)),
        ("itl_p99.999 <= 0.01 ms", Objective("itl_p99.999", "itl", 99.999, True, 1e-5)),
        ("tpot_p050 <= 1", Objective("tpot_p50", "tpot", 50, True, 1)),
        ("ttfr_p5.0 <= 1", Objective("ttfr_p5", "ttfr", 5, True, 1)),
        ("error_rate <= 5%", Objective("error_rate", "error_rate", None, True, 0.05)),
        ("error_rate <= 0", Objective("error_rate", "error_rate", None, True, 0)),
        ("goodput >= 99.5 %", Objective("goodput", "goodput", None, False, 0.995)),
        ("goodput >= 1", Objective("goodput", "goodput", None, False, 1)),
        ("throughput >= 20/s", Objective("throughput", "throughput", None, False, 20)),
        (
            "token_throughput >= 2000000",
            Objective("token_throughput", "token_throughput", None, False, 2e6),
        ),
    ],
)
def test_what_is_taken(text: str, expected: Objective) -> None:
    assert parse_objective(text) == expected
    assert parse_objective(expected.text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tttf_p95 <= 1", "unknown metric 'tttf_p95', did you mean 'ttft_p95'?"),
        ("goodputt >= 0.9", "unknown metric 'goodputt', did you mean 'goodput'?"),
        (
            "latency <= 1",
            "unknown metric 'latency', expected one of: ttft_p95, ttfr_p95, tpot_p95, itl_p95, "
            "e2e_p95, queueing_p95, error_rate, goodput, throughput, token_throughput",
        ),
        ("ttft_p95 >= 1", "'ttft' takes <=, not >="),
        ("ttft_p95 < 1", "'ttft' takes <=, not <"),
        ("error_rate == 0", "'error_rate' takes <=, not =="),
        ("goodput <= 0.9", "'goodput' takes >=, not <="),
        ("throughput > 5", "'throughput' takes >=, not >"),
        ("error_rate <= 5", "'error_rate' is a share from 0 to 1: write 0.05 or 5%"),
        ("goodput >= 99", "'goodput' is a share from 0 to 1: write 0.99 or 99%"),
        ("error_rate <= 500", "'error_rate' is a share from 0 to 1"),
        ("error_rate <= 100%", "'error_rate' is never above 1: no test"),
        ("goodput >= 0", "'goodput' is never below 0: no test"),
        ("throughput >= 0", "'throughput' is always at least 0: give a limit above 0"),
        ("ttft_p95 <= 0 ms", "'ttft' is never at most 0: give a limit above 0"),
        (f"e2e_p95 <= {'9' * 400}", "the limit is larger than any number can be"),
        ("ttft <= 1", "'ttft' needs a percentile, such as ttft_p95"),
        ("error_rate_p95 <= 0.1", "'error_rate' has no percentiles: write 'error_rate'"),
        ("ttft_p0 <= 1", "a percentile lies above 0 and below 100"),
        ("ttft_p100 <= 1", "a percentile lies above 0 and below 100"),
        ("ttft_p95 <= 5%", "'ttft' has no unit '%'; it takes ms or s"),
        ("throughput >= 5 s", "'throughput' has no unit 's'; it takes /s"),
        ("goodput >= 1/s", "'goodput' has no unit '/s'; it takes %"),
        ("ttft_p95", "expected an objective such as 'ttft_p95 <= 0.8', got 'ttft_p95'"),
        ("ttft_p95 <= -1", "expected an objective such as 'ttft_p95 <= 0.8', got 'ttft_p95 <= -1'"),
        ("", "expected an objective such as 'ttft_p95 <= 0.8', got ''"),
    ],
)
def test_what_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_objective(text)
    assert str(caught.value) == message


LATENCY = st.builds(
    lambda metric, percentile, number, unit: f"{metric}_p{percentile} <= {number}{unit}",
    st.sampled_from(LATENCIES),
    st.integers(1, 99) | st.decimals("0.001", "99.999", places=3),
    st.decimals("0.001", "1000000", places=3),
    st.sampled_from(["", " s", "ms"]),
)
SHARE = st.builds(
    lambda number, unit: f"error_rate <= {number / 100 if not unit else number}{unit}",
    st.decimals("0", "99.9", places=1),
    st.sampled_from(["", "%"]),
)
RATE = st.builds(
    lambda metric, number: f"{metric} >= {number} /s",
    st.sampled_from(RATES),
    st.decimals("0.001", "10000000", places=3),
)


@settings(derandomize=True, database=None, deadline=None)
@given(text=LATENCY | SHARE | RATE)
def test_the_text_in_base_units_says_the_same(text: str) -> None:
    objective = parse_objective(text)
    assert parse_objective(objective.text) == objective
    assert objective.metric in (*LATENCIES, *SHARES, *RATES)


@settings(derandomize=True, database=None, deadline=None)
@given(text=st.text() | st.from_regex(r"[a-z_0-9p.]{0,12} ?[<>=]{1,2} ?[0-9.]{1,8}(ms|%|/s)?"))
def test_any_text_is_an_objective_or_explained(text: str) -> None:
    try:
        outcome = parse_objective(text).text
    except ValueError as error:
        outcome = str(error)
    assert outcome
