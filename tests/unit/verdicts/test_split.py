"""Whether requests were split as the weight says."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmdeploy.verdicts import Verdict
from pytest_llmdeploy.verdicts.sequences import share_bounds
from pytest_llmdeploy.verdicts.split import judge_split

P, F, I = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE  # noqa: E741


@pytest.mark.parametrize(
    ("canary", "n", "weight", "verdict", "reason"),
    [
        (0, 0, 25, I, "no answer to count"),
        (
            *(5, 20, 25, I),
            "5 of 20 answers came from the canary (25.0 %): the share served lies between 4.7 % and"
            " 58.9 %, not yet within 10 points of the weight of 25 %",
        ),
        (
            *(125, 500, 25, P),
            "125 of 500 answers came from the canary (25.0 %): the share served lies between 18.6 %"
            " and 32.3 %, within 10 points of the weight of 25 %",
        ),
        (
            *(60, 60, 25, F),
            "60 of 60 answers came from the canary (100.0 %): the share served lies between 91.1 %"
            " and 100.0 %, which excludes the weight of 25 %",
        ),
        (0, 0, 0, I, "no answer to count"),
        (
            *(0, 19, 0, I),
            "0 of 19 answers came from the canary (0.0 %): as weight 0 says, but 20 are needed",
        ),
        (0, 20, 0, P, "0 of 20 answers came from the canary (0.0 %): as weight 0 says"),
        (
            *(1, 1000, 0, F),
            "1 of 1000 answers came from the canary (0.1 %): none may come from the other version"
            " at weight 0",
        ),
        (20, 20, 100, P, "20 of 20 answers came from the canary (100.0 %): as weight 100 says"),
        (
            *(2, 3, 100, F),
            "2 of 3 answers came from the canary (66.7 %): none may come from the other version at"
            " weight 100",
        ),
    ],
)
def test_verdicts_and_reasons(
    canary: int, n: int, weight: int, verdict: Verdict, reason: str
) -> None:
    judged = judge_split(canary, n, weight, 0.1, 0.05)
    assert (judged.verdict, judged.reason) == (verdict, reason)
    assert judged.share == (canary / n if n else None)
    assert (judged.low, judged.high) == share_bounds(canary, n, 0.05)


@given(
    st.integers(0, 3000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))),
    st.integers(1, 99),
    st.floats(0.01, 0.5),
)
def test_a_pass_contains_the_weight_and_goes_no_further_than_the_tolerance(
    counted: tuple[int, int], weight: int, tolerance: float
) -> None:
    judged = judge_split(*counted, weight, tolerance, 0.01)
    contains = judged.low <= weight / 100 <= judged.high
    near = judged.low >= weight / 100 - tolerance and judged.high <= weight / 100 + tolerance
    assert (judged.verdict is P) == (contains and near and counted[1] > 0)
    assert (judged.verdict is F) == (not contains)


@pytest.mark.parametrize("weight", [5, 50])
def test_a_right_split_is_hardly_ever_a_mismatch(weight: int) -> None:
    """Of 400 at most 5 % ever are; more than 44 have a probability below 1e-6."""
    chance = random.Random(7)
    wrong = 0
    for _ in range(400):
        canary = 0
        for n in range(1, 301):
            canary += chance.random() < weight / 100
            if n % 10 == 0 and judge_split(canary, n, weight, 0.1, 0.05).verdict is F:
                wrong += 1
                break
    assert wrong <= 44


@pytest.mark.parametrize(("weight", "tolerance"), [(-1, 0.1), (101, 0.1), (5, 0.0), (5, 1.0)])
def test_what_cannot_be(weight: int, tolerance: float) -> None:
    with pytest.raises(ValueError) as raised:
        judge_split(1, 2, weight, tolerance, 0.05)
    assert str(raised.value) in {
        f"a weight must lie between 0 and 100, not {weight}",
        f"a tolerance must lie between 0 and 1, not {tolerance}",
    }
