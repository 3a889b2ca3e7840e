"""The same cases asked of two versions."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats
from statsmodels.stats.contingency_tables import mcnemar

from pytest_llmdeploy.verdicts import Verdict
from pytest_llmdeploy.verdicts.paired import judge_paired, mcnemar_exact, tango_interval

P, F, I = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE  # noqa: E741


@pytest.mark.parametrize(
    ("first", "second", "n", "alpha", "low", "high"),
    [
        # Tango 1998, cross-over trial of contact lens disinfection (43, 0, 1, 0), 90 %.
        (0, 1, 44, 0.1, -0.096, 0.037),
        # Fagerland, Lydersen and Laake, Statistics in Medicine 33 (2014): airway
        # hyper-responsiveness before and after stem cell transplantation (1, 1, 7, 12), 95 %.
        (1, 7, 21, 0.05, -0.517, -0.026),
    ],
)
def test_published_intervals(
    first: int, second: int, n: int, alpha: float, low: float, high: float
) -> None:
    assert tango_interval(first, second, n, alpha) == pytest.approx((low, high), abs=5e-4)


def score_squared(first: int, second: int, n: int, difference: float) -> float:
    """Return the square of the score at a difference, its nuisance parameter found by search."""
    least, most = max(0.0, -difference), (1 - difference) / 2

    def unlikely(rare: float) -> float:
        rest = 1 - 2 * rare - difference
        parts = ((first, rare + difference), (second, rare), (n - first - second, rest))
        return -sum(k * math.log(max(p, 1e-300)) for k, p in parts if k)

    found = optimize.minimize_scalar(
        unlikely, bounds=(least, most), method="bounded", options={"xatol": 1e-12}
    )
    rare = min((least, most, float(found.x)), key=unlikely)
    variance = n * (2 * rare + difference - difference**2)
    return float((first - second - n * difference) ** 2 / variance) if variance > 0 else math.inf


@given(st.integers(0, 60), st.integers(0, 60), st.integers(1, 200), st.sampled_from([0.05, 0.2]))
def test_the_interval_ends_where_the_score_test_rejects(
    first: int, second: int, rest: int, alpha: float
) -> None:
    n = first + second + rest
    low, high = tango_interval(first, second, n, alpha)
    assert -1 <= low <= (first - second) / n <= high <= 1
    critical = stats.chi2.ppf(1 - alpha, 1)
    for bound in (low, high):
        assert score_squared(first, second, n, bound) == pytest.approx(critical, rel=2e-3)


@given(st.integers(0, 2000), st.integers(0, 2000), st.integers(0, 50))
def test_the_test_is_that_of_statsmodels(first: int, second: int, rest: int) -> None:
    if first + second:
        expected = mcnemar([[rest, first], [second, rest]], exact=True).pvalue
        assert mcnemar_exact(first, second) == pytest.approx(min(1.0, expected), rel=1e-9)
    else:
        assert mcnemar_exact(0, 0) == 1


@pytest.mark.parametrize(
    ("counts", "verdict", "reason"),
    [
        ((0, 0, 0, 0), I, "no case was asked"),
        (
            *((55, 1, 1, 3), I),
            "of 60 cases 1 passed with the stable version only and 1 with the canary only: a"
            " difference of +0.0 points (between -7.4 and +7.4), p = 1; not enough to tell whether"
            " it is within the 5 points allowed",
        ),
        (
            *((190, 1, 1, 8), P),
            "of 200 cases 1 passed with the stable version only and 1 with the canary only: a"
            " difference of +0.0 points (between -2.3 and +2.3), p = 1; not worse by more than the"
            " 5 points allowed",
        ),
        (
            *((70, 20, 2, 8), F),
            "of 100 cases 20 passed with the stable version only and 2 with the canary only: a"
            " difference of -18.0 points (between -27.3 and -9.9), p = 0.000121; worse, and not"
            " shown to be within the 5 points allowed",
        ),
        (
            *((1900, 40, 15, 45), P),
            "of 2000 cases 40 passed with the stable version only and 15 with the canary only: a"
            " difference of -1.2 points (between -2.0 and -0.5), p = 0.00102; worse, but by no more"
            " than the 5 points allowed",
        ),
    ],
)
def test_verdicts_and_reasons(
    counts: tuple[int, int, int, int], verdict: Verdict, reason: str
) -> None:
    judged = judge_paired(*counts, max_regression=0.05, alpha=0.05)
    assert (judged.verdict, judged.reason) == (verdict, reason)


@pytest.mark.parametrize(
    ("counts", "max_regression", "alpha", "message"),
    [
        ((1, -1, 0, 0), 0.05, 0.05, "the numbers of cases must not be negative"),
        ((1, 1, 0, 0), 0.0, 0.05, "max_regression must lie between 0 and 1, not 0.0"),
        ((1, 1, 0, 0), 0.05, 1.0, "alpha must lie between 0 and 1, not 1.0"),
    ],
)
def test_what_cannot_be(
    counts: tuple[int, int, int, int], max_regression: float, alpha: float, message: str
) -> None:
    with pytest.raises(ValueError) as raised:
        judge_paired(*counts, max_regression=max_regression, alpha=alpha)
    assert str(raised.value) == message


@pytest.mark.parametrize(
    ("only_stable", "only_canary", "wrong"),
    [(0.05, 0.05, F), (0.10, 0.05, P)],  # equally good; worse by exactly what is allowed
)
def test_wrong_verdicts_are_as_rare_as_alpha(
    only_stable: float, only_canary: float, wrong: Verdict
) -> None:
    """Of 1000 samples at most 5 % err; more than 86 have a probability below 1e-6."""
    chance = random.Random(8)
    erred = 0
    for _ in range(1000):
        drawn = [chance.random() for _ in range(150)]
        first = sum(x < only_stable for x in drawn)
        second = sum(only_stable <= x < only_stable + only_canary for x in drawn)
        judged = judge_paired(
            *(150 - first - second, first, second, 0), max_regression=0.05, alpha=0.05
        )
        erred += judged.verdict is wrong
    assert erred <= 86
