"""A new version beside the running one, at every look."""

from __future__ import annotations

import math
import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmdeploy.verdicts import Verdict
from pytest_llmdeploy.verdicts.regression import Comparison, compare_errors, compare_quantiles
from pytest_llmdeploy.verdicts.sequences import Buckets

P, F, I = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE  # noqa: E741


def errors(stable: tuple[int, int], canary: tuple[int, int], **changed: Any) -> Comparison:
    settings: dict[str, Any] = {
        "share": 0.05,
        "margin": 0.02,
        "alpha": 0.05,
        "min_requests": 50,
        "noninferior": True,
    }
    return compare_errors(stable, canary, **settings | changed)


def quantiles(stable: Buckets, canary: Buckets, q: float = 0.95, **changed: Any) -> Comparison:
    settings: dict[str, Any] = {
        "margin": 0.25,
        "alpha": 0.05,
        "min_requests": 50,
        "noninferior": True,
    }
    return compare_quantiles(stable, canary, q, **settings | changed)


def lognormal(seed: int, n: int, scale: float = 1.0) -> Buckets:
    """Return values in buckets of 1/64 of an octave."""
    chance = random.Random(seed)
    counts = Counter(
        math.ceil(64 * math.log2(scale * chance.lognormvariate(0, 0.5))) for _ in range(n)
    )
    keys = range(min(counts) - 1, max(counts) + 1)
    return tuple((2 ** (key / 64), counts[key]) for key in keys)


@pytest.mark.parametrize(
    ("stable", "canary", "changed", "verdict", "reason"),
    [
        (
            *((2, 800), (1, 40), {}, I),
            "1 of 40 against 2 of 800 failed: e-value 1.56 of 40 needed, difference between -1.60"
            " and +21.72 points; 40 requests of the canary are fewer than 50",
        ),
        (
            *((8, 1000), (1, 60), {}, I),
            "1 of 60 against 8 of 1000 failed: e-value 0.317 of 40 needed, difference between -2.47"
            " and +14.91 points; not enough to tell whether it is within the margin of 2 points,"
            " about 1500 requests of the canary would do",
        ),
        (
            *((0, 8000), (0, 700), {}, P),
            "0 of 700 against 0 of 8000 failed: e-value 1 of 40 needed, difference between -0.17"
            " and +1.17 points; within the margin of 2 points",
        ),
        (
            *((0, 8000), (0, 700), {"min_requests": 701}, I),
            "0 of 700 against 0 of 8000 failed: e-value 1 of 40 needed, difference between -0.17"
            " and +1.17 points; 700 requests of the canary are fewer than 701",
        ),
        (
            *((2, 800), (10, 40), {}, F),
            "10 of 40 against 2 of 800 failed: e-value 1e+10 of 40 needed, difference between"
            " +6.21 and +52.69 points; worse by more than the margin of 2 points",
        ),
        (
            *((2, 800), (3, 45), {"min_requests": 500}, F),
            "3 of 45 against 2 of 800 failed: e-value 121 of 40 needed, difference between -0.74"
            " and +27.65 points; worse, and not shown within the margin of 2 points",
        ),
        (
            *((500, 100_000), (80, 6000), {}, P),
            "80 of 6000 against 500 of 100000 failed: e-value 6e+12 of 40 needed, difference"
            " between +0.23 and +1.61 points; worse, but within the margin of 2 points",
        ),
        (
            *((8, 1000), (1, 60), {"noninferior": False}, P),
            "1 of 60 against 8 of 1000 failed: e-value 0.317 of 40 needed, difference between -2.47"
            " and +14.91 points; nothing says that it is worse, but it is not shown to be within"
            " the margin of 2 points",
        ),
        (
            *((0, 1000), (0, 49), {"noninferior": False}, I),
            "0 of 49 against 0 of 1000 failed: e-value 1 of 40 needed, difference between -1.09 and"
            " +13.11 points; 49 requests of the canary are fewer than 50",
        ),
        (
            *((0, 0), (0, 300), {"share": 1.0}, I),
            "0 of 300 against 0 of 0 failed: difference between -100.00 and +2.34 points; no"
            " request of the stable version to compare",
        ),
        (
            *((3, 100), (0, 0), {"noninferior": False}, I),
            "0 of 0 against 3 of 100 failed: difference between -13.85 and +99.88 points; no"
            " request of the canary to compare",
        ),
    ],
)
def test_errors(
    stable: tuple[int, int],
    canary: tuple[int, int],
    changed: dict[str, Any],
    verdict: Verdict,
    reason: str,
) -> None:
    compared = errors(stable, canary, **changed)
    assert (compared.verdict, compared.reason) == (verdict, reason)
    assert (compared.n_stable, compared.n_canary) == (stable[1], canary[1])


def test_a_suspicious_estimate_does_not_pass_as_no_regression() -> None:
    compared = errors((2, 2000), (2, 60), share=0.05, noninferior=False, alpha=0.001)
    assert compared.canary is not None
    assert compared.canary > 0.02
    assert compared.verdict is I


counts = st.integers(0, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(counts, counts, st.floats(0, 1), st.booleans())
def test_what_the_verdicts_mean(
    stable: tuple[int, int], canary: tuple[int, int], share: float, noninferior: bool
) -> None:
    compared = errors(stable, canary, share=share, noninferior=noninferior)
    within = compared.high is not None and compared.high <= 0.02
    if compared.verdict is P:
        assert min(stable[1], canary[1]) >= 50
        assert within or not noninferior
    if compared.verdict is F:
        assert not within
        evidence = compared.e_value is not None and compared.e_value >= 40
        assert evidence or (compared.low is not None and compared.low > 0.02)
    assert (compared.needed is None) or compared.verdict is I


@pytest.mark.parametrize("failed", [0, 2, 80])
def test_so_many_requests_as_are_needed_decide(failed: int) -> None:
    """If all stays as it is: give or take a tenth, as counts are whole."""
    compared = errors((10, 4000), (failed, 1000), min_requests=1, alpha=1e-6, margin=0.005)
    assert compared.needed is not None or compared.verdict is not I
    if compared.needed is not None:
        factor = 1.1 * compared.needed / 1000
        later = errors(
            (round(10 * factor), round(4000 * factor)),
            (round(failed * factor), round(1000 * factor)),
            min_requests=1,
            alpha=1e-6,
            margin=0.005,
        )
        assert later.verdict is not I


def test_what_is_at_the_margin_is_never_decided() -> None:
    assert errors((10, 1000), (30, 1000), share=0.9).needed is None


def test_quantiles_that_agree() -> None:
    compared = quantiles(lognormal(1, 5000), lognormal(2, 5000))
    assert compared.verdict is P
    assert compared.reason == (
        "p95 2.24 s of 5000 against 2.24 s of 5000: ratio between 0.89 and 1.14; within the margin"
        " of 25 %"
    )


def test_quantiles_that_are_worse_but_within_the_margin() -> None:
    compared = quantiles(lognormal(1, 30_000), lognormal(2, 30_000, 1.12))
    assert compared.verdict is P
    assert compared.reason.endswith("worse, but within the margin of 25 %")


def test_quantiles_that_are_worse() -> None:
    compared = quantiles(lognormal(1, 2000), lognormal(2, 1000, 2.0))
    assert compared.verdict is F
    assert compared.reason.endswith("worse by more than the margin of 25 %")
    assert compared.low is not None
    assert compared.low > 1.25


def test_quantiles_of_few_values() -> None:
    compared = quantiles(lognormal(1, 400), lognormal(2, 40))
    assert compared.verdict is I
    assert compared.high is None
    assert compared.reason.endswith("; 40 requests of the canary are fewer than 50")
    compared = quantiles(lognormal(1, 800), lognormal(2, 800))
    assert compared.verdict is I
    assert compared.needed is not None
    assert 800 < compared.needed < 10_000
    assert compared.reason.endswith(
        f"not enough to tell whether it is within the margin of 25 %, about {compared.needed}"
        " requests of the canary would do"
    )


def test_no_regression_of_quantiles() -> None:
    assert quantiles(lognormal(1, 400), lognormal(2, 100), noninferior=False).verdict is P
    assert quantiles(lognormal(1, 400), lognormal(2, 40), noninferior=False).verdict is I
    slower = quantiles(lognormal(1, 400), lognormal(2, 100, 1.5), noninferior=False)
    assert slower.verdict is I


def test_quantiles_of_nothing() -> None:
    for noninferior in (True, False):
        compared = quantiles((), lognormal(1, 100), noninferior=noninferior)
        assert compared.verdict is I
        assert (compared.low, compared.high, compared.stable) == (None, None, None)
        assert compared.reason.endswith("no request of the stable version to compare")


def test_coarse_buckets_say_that_no_number_would_do() -> None:
    coarse: Buckets = ((0.5, 0), (1.0, 100_000), (math.inf, 0))
    compared = quantiles(coarse, coarse)
    assert (compared.verdict, compared.needed) == (I, None)
    assert compared.reason == (
        "p95 0.975 s of 100000 against 0.975 s of 100000: ratio between 0.50 and 2.00; not enough"
        " to tell whether it is within the margin of 25 %, and no number of requests would do if"
        " all stays as it is"
    )


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"margin": 0.0}, "a margin must be above 0 and finite, not 0.0"),
        ({"margin": math.nan}, "a margin must be above 0 and finite, not nan"),
        ({"alpha": 1.0}, "alpha must lie between 0 and 1, not 1.0"),
        ({"min_requests": 0}, "min_requests must be at least 1, not 0"),
    ],
)
def test_impossible_settings(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as raised:
        errors((0, 100), (0, 100), **changed)
    assert str(raised.value) == message
    with pytest.raises(ValueError) as raised:
        quantiles(lognormal(1, 100), lognormal(2, 100), **changed)
    assert str(raised.value) == message


def test_impossible_counts() -> None:
    with pytest.raises(ValueError) as raised:
        errors((0, 100), (101, 100))
    assert str(raised.value) == "101 failed requests of 100 cannot be"
    with pytest.raises(ValueError) as raised:
        errors((0, 100), (1, 100), share=1.5)
    assert str(raised.value) == "the share of the requests must lie between 0 and 1, not 1.5"


def first_decisions(seed: int, increase: float, runs: int) -> list[Verdict]:
    """Return the first decision of each of many canaries at weight 25, looked at all the time."""
    chance = random.Random(seed)
    decisions = []
    for _ in range(runs):
        stable, canary = [0, 0], [0, 0]
        verdict = I
        for n in range(1, 1201):
            own = chance.random() < 0.25
            side = canary if own else stable
            side[0] += chance.random() < 0.05 + own * increase
            side[1] += 1
            if n % 50 == 0:
                verdict = errors(
                    (stable[0], stable[1]),
                    (canary[0], canary[1]),
                    share=0.25,
                    margin=0.08,
                    alpha=0.1,
                ).verdict
                if verdict is not I:
                    break
        decisions.append(verdict)
    return decisions


def test_wrong_verdicts_are_rarer_than_alpha_however_often_one_looks() -> None:
    """Of 100 canaries each at most 10 % err; more than 27 have a probability below 1e-6."""
    same = first_decisions(9, 0.0, 100)
    assert same.count(F) <= 27
    worse = first_decisions(10, 0.08, 100)
    assert worse.count(P) <= 27
    assert same.count(P) >= 50
    assert worse.count(F) >= 50
