"""The ratio of two versions' percentiles, and how far chance could have moved it."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable

import pytest

from pytest_llmdeploy.verdicts import Verdict
from pytest_llmdeploy.verdicts.comparison import Block, Ratio, judge_ratio, quantile_ratio
from pytest_llmdeploy.verdicts.histogram import Histogram

P, F, I = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE  # noqa: E741


def block(values: Iterable[float], failed: int = 0) -> Block:
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    return Block(histogram, failed)


def blocks(
    seed: int, number: int, size: int, *, scale: float = 1.0, spread: float = 0.0
) -> list[Block]:
    """Return blocks of log-normal seconds; each block's scale varies by `spread`."""
    chance = random.Random(seed)
    made = []
    for _ in range(number):
        own = scale * math.exp(chance.gauss(0, spread))
        made.append(block(own * math.exp(chance.gauss(0, 0.3)) for _ in range(size)))
    return made


def compare(
    a: list[Block], b: list[Block], q: float = 0.5, *, paired: bool = False, resamples: int = 200
) -> Ratio:
    return quantile_ratio(a, b, q, confidence=0.95, resamples=resamples, seed=1, paired=paired)


def test_the_quantiles_are_those_of_all_requests() -> None:
    a = [block([1, 2, 3, 4, 5, 6, 7, 8, 9, 10])] * 5
    b = [block([2, 4, 6, 8, 10]), block([12, 14, 16, 18, 20])] * 5
    for q, at in ((0.5, 5), (0.9, 9)):
        ratio = compare(a, b, q)
        assert (ratio.a, ratio.b, ratio.ratio) == pytest.approx((at, 2 * at, 2), rel=0.003)


def test_the_same_seed_gives_the_same_interval() -> None:
    a, b = blocks(1, 10, 30), blocks(2, 10, 30)
    assert compare(a, b) == compare(a, b)


def test_the_interval_narrows_with_the_number_of_blocks() -> None:
    few = compare(blocks(1, 6, 20), blocks(2, 6, 20))
    many = compare(blocks(1, 60, 20), blocks(2, 60, 20))
    assert few.high is not None
    assert few.low is not None
    assert many.high is not None
    assert many.low is not None
    assert many.high - many.low < (few.high - few.low) / 2


def test_pairs_cancel_what_both_sides_share() -> None:
    chance = random.Random(1)
    scales = [math.exp(chance.gauss(0, 0.5)) for _ in range(20)]
    a = [blocks(seed, 1, 50, scale=scale)[0] for seed, scale in enumerate(scales)]
    b = [blocks(100 + seed, 1, 50, scale=scale)[0] for seed, scale in enumerate(scales)]
    alone, paired = compare(a, b), compare(a, b, paired=True)
    assert alone.high is not None
    assert alone.low is not None
    assert paired.high is not None
    assert paired.low is not None
    assert paired.low < 1 < paired.high
    assert paired.high - paired.low < (alone.high - alone.low) / 2


def test_failures_rank_last() -> None:
    a = [block([1.0] * 95, failed=5)] * 5
    assert compare(a, a, 0.95).a == pytest.approx(1, rel=0.001)
    assert compare(a, a, 0.96).a == math.inf


def test_a_side_that_fails_is_infinitely_slower() -> None:
    well, ill = [block([1.0] * 50)] * 5, [block([1.0] * 10, failed=40)] * 5
    worse, better = compare(well, ill), compare(ill, well)
    assert (worse.b, worse.ratio, worse.low, worse.high) == (math.inf, math.inf, math.inf, math.inf)
    assert judge_ratio(worse, 0.1) is F
    assert (better.a, better.ratio, better.low, better.high) == (math.inf, 0.0, 0.0, 0.0)
    assert judge_ratio(better, 0.1) is P


def test_two_sides_that_fail_are_not_comparable() -> None:
    ill = [block([], failed=50)] * 5
    ratio = compare(ill, ill)
    assert ratio == Ratio(math.inf, math.inf, None, None, None)
    assert judge_ratio(ratio, 0.1) is I


@pytest.mark.parametrize("paired", [False, True])
def test_what_chance_could_have_made_incomparable_decides_nothing(paired: bool) -> None:
    sometimes = [block([1.0] * 50)] * 3 + [block([], failed=50)] * 2
    ratio = compare(sometimes, sometimes, paired=paired)
    assert (ratio.ratio, ratio.low, ratio.high) == (1.0, 0.0, math.inf)
    assert judge_ratio(ratio, 0.1) is I


@pytest.mark.parametrize(
    ("a", "b", "q"),
    [
        ([], [], 0.5),
        ([], [block([1.0] * 100)] * 5, 0.5),
        ([block([])] * 5, [block([1.0] * 100)] * 5, 0.5),
        ([block([1.0] * 100)] * 4, [block([1.0] * 100)] * 5, 0.5),
        ([block([1.0] * 100)] * 5, [block([1.0] * 100)] * 4 + [block([])], 0.5),
        ([block([1.0] * 19)] * 5, [block([1.0] * 20)] * 5, 0.95),
        ([block([1.0] * 20)] * 5, [block([1.0] * 19)] * 5, 0.05),
    ],
    ids=["none", "one side", "empty", "four blocks", "four that count", "too few beyond", "before"],
)
def test_too_little_for_an_interval(a: list[Block], b: list[Block], q: float) -> None:
    ratio = compare(a, b, q)
    assert (ratio.low, ratio.high) == (None, None)
    assert judge_ratio(ratio, 0.5) is I


def test_the_least_for_an_interval() -> None:
    assert compare([block([1.0] * 20)] * 5, [block([1.0] * 20)] * 5, 0.95).high == 1.0


def test_a_pair_counts_only_with_both_sides() -> None:
    slow, fast, none = block([2.0] * 20), block([1.0] * 20), block([])
    ratio = compare([fast] * 5 + [slow], [fast] * 5 + [none], paired=True, q=0.95)
    assert ratio.a == pytest.approx(1, rel=0.001)
    assert ratio.high == 1.0
    assert compare([fast] * 5, [fast] * 4 + [none], paired=True).high is None
    with pytest.raises(ValueError):
        compare([fast] * 6, [fast] * 5, paired=True)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.9, 1.1, P),
        (0.9, 1.11, I),
        (1.1, 1.3, I),
        (1.11, 1.3, F),
        (0.0, math.inf, I),
        (None, None, I),
    ],
)
def test_verdicts(low: float | None, high: float | None, verdict: Verdict) -> None:
    assert judge_ratio(Ratio(1.0, 1.0, 1.0, low, high), 0.1) is verdict


@pytest.mark.parametrize("max_increase", [-1.0, math.inf, math.nan])
def test_impossible_increases(max_increase: float) -> None:
    with pytest.raises(ValueError) as raised:
        judge_ratio(Ratio(1.0, 1.0, 1.0, 0.9, 1.1), max_increase)
    message = f"max_increase must be finite and above -1, not {max_increase}"
    assert str(raised.value) == message


def test_impossible_requests() -> None:
    sides = [block([1.0] * 100)] * 5
    with pytest.raises(ValueError, match=r"^a quantile must lie between 0 and 1, not 95$"):
        compare(sides, sides, 95)
    with pytest.raises(ValueError, match=r"^99 resamples are too few, 100 the least$"):
        compare(sides, sides, resamples=99)


def test_the_bounds_hold_as_often_as_they_say() -> None:
    """Either bound may miss 5 % of 200 ratios; more than 27 have a probability below 1e-6."""
    ratios = [
        compare(
            blocks(2 * seed, 8, 15, spread=0.2), blocks(2 * seed + 1, 8, 15, scale=1.3, spread=0.2)
        )
        for seed in range(200)
    ]
    assert sum(each.low is None or each.low > 1.3 for each in ratios) <= 27
    assert sum(each.high is None or each.high < 1.3 for each in ratios) <= 27
    # 30 % more are told from no change in 61 % of 2000; below 60 of 200 is far below 1e-6.
    assert sum(each.low is not None and each.low > 1.0 for each in ratios) >= 60
