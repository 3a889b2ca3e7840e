"""Rates against their limits, by each rule, one or several at once."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pytest_llmdeploy.verdicts import Verdict, holm
from pytest_llmdeploy.verdicts.clusters import worth
from pytest_llmdeploy.verdicts.pass_rate import (
    AnyRule,
    Rate,
    RateRule,
    corrected_chances,
    default_rule,
    exact,
    judge_rates,
    rate_bounds,
)

P, F, U = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE
RULES: tuple[AnyRule, ...] = ("point", "wilson", "exact", "bayes")


def asked(
    rule: AnyRule, low: int, high: int, n: int, limit: float, confidence: float = 0.95
) -> tuple[RateRule, Rate]:
    rate = Rate(Fraction(low, n), Fraction(high, n), n, n)
    return RateRule(rule, exact(limit), confidence), rate


def judge(rule: AnyRule, passed: int, n: int, limit: float, confidence: float = 0.95) -> Verdict:
    return judge_rates([asked(rule, passed, passed, n, limit, confidence)])[0]


@pytest.mark.parametrize(
    ("rule", "passed", "n", "limit", "verdict"),
    [
        ("point", 9, 10, 0.9, P),
        ("point", 8, 10, 0.9, F),
        ("wilson", 20, 20, 0.9, U),
        ("wilson", 25, 25, 0.9, P),
        ("wilson", 18, 20, 0.9, U),
        ("wilson", 95, 100, 0.9, P),
        ("wilson", 94, 100, 0.9, U),
        ("wilson", 84, 100, 0.9, F),
        ("wilson", 85, 100, 0.9, F),
        ("wilson", 86, 100, 0.9, U),
        ("exact", 28, 28, 0.9, U),
        ("exact", 29, 29, 0.9, P),
        ("exact", 84, 100, 0.9, F),
        ("exact", 85, 100, 0.9, U),
        ("bayes", 28, 28, 0.9, P),
        ("bayes", 27, 27, 0.9, U),
        ("bayes", 84, 100, 0.9, F),
        ("wilson", 10, 10, 1.0, U),
        ("exact", 9, 10, 1.0, F),
    ],
)
def test_verdicts(rule: AnyRule, passed: int, n: int, limit: float, verdict: Verdict) -> None:
    assert judge(rule, passed, n, limit) is verdict


@given(st.integers(1, 400), st.data(), st.floats(0.05, 0.99), st.floats(0.6, 0.99))
def test_verdicts_are_those_of_the_tests(
    n: int, data: st.DataObject, limit: float, confidence: float
) -> None:
    x = data.draw(st.integers(0, n))
    alpha = 1 - confidence
    above = stats.binomtest(x, n, limit, alternative="greater").pvalue
    below = stats.binomtest(x, n, limit, alternative="less").pvalue
    if min(abs(above - alpha), abs(below - alpha)) > 1e-9:
        expected = P if above <= alpha else F if below < alpha else U
        assert judge("exact", x, n, limit, confidence) is expected


@pytest.mark.parametrize("n", range(1, 60))
def test_k_of_n_reaches_its_own_rate(n: int) -> None:
    for k in range(1, n + 1):
        if n in {1, 2, 4, 5, 8, 10, 16, 20, 25, 32, 40, 50}:  # k / n has a finite decimal
            assert judge("point", k, n, k / n) is P
        rate = math.nextafter(k / n, 2)
        if rate <= 1:
            assert judge("point", k, n, rate) is F


@pytest.mark.parametrize(
    ("cases", "limit", "rule"),
    [(19, 0.9, "point"), (20, 0.9, "wilson"), (500, 1.0, "point"), (20, 0.01, "wilson")],
)
def test_the_rule_that_is_taken_where_none_is_named(
    cases: int, limit: float, rule: AnyRule
) -> None:
    assert default_rule(cases, limit) == rule


def test_what_is_unknown_decides_nothing_it_could_change() -> None:
    assert judge_rates([asked("point", 35, 37, 40, 0.9)]) == [U]
    assert judge_rates([asked("point", 36, 37, 40, 0.9)]) == [P]
    assert judge_rates([asked("point", 30, 35, 40, 0.9)]) == [F]
    assert judge_rates([asked("wilson", 95, 100, 100, 0.9)]) == [P]
    assert judge_rates([asked("wilson", 94, 100, 100, 0.9)]) == [U]
    assert judge_rates([asked("wilson", 0, 85, 100, 0.9)]) == [F]
    assert judge_rates([asked("wilson", 0, 86, 100, 0.9)]) == [U]


RATES = st.lists(
    st.tuples(st.sampled_from(RULES), st.integers(1, 200), st.floats(0, 1), st.floats(0.05, 0.99)),
    min_size=1,
    max_size=6,
)


@given(RATES)
def test_fails_are_corrected_for_their_number(
    rates: list[tuple[AnyRule, int, float, float]],
) -> None:
    several = [
        asked(rule, int(share * n), int(share * n), n, limit) for rule, n, share, limit in rates
    ]
    verdicts = judge_rates(several)
    alone = [judge_rates([each])[0] for each in several]
    with_bounds = [place for place, (rule, _) in enumerate(several) if rule.rule != "point"]
    uncorrected = [corrected_chances([several[place]])[0] for place in with_bounds]
    corrected = holm.adjusted([chance for chance in uncorrected if chance is not None])
    for place, (verdict, single) in enumerate(zip(verdicts, alone, strict=True)):
        if place not in with_bounds or single is not F:
            assert verdict is single  # neither a PASS nor the point rule is ever corrected
        else:
            assert verdict is (F if corrected[with_bounds.index(place)] < 1 - 0.95 else U)


def test_two_fails_near_the_edge_stand_together_only_if_both_are_clear() -> None:
    edge = asked("wilson", 85, 85, 100, 0.9)
    clear = asked("wilson", 70, 70, 100, 0.9)
    fine = asked("wilson", 99, 99, 100, 0.9)
    assert judge_rates([edge]) == [F]
    assert judge_rates([edge, fine]) == [U, P]
    assert judge_rates([edge, clear]) == [F, F]  # step down: the clear one is out of the way


@given(st.sampled_from(RULES), st.integers(1, 200), st.data(), st.floats(0.05, 0.99))
def test_bounds_are_what_the_unknown_leaves_open(
    rule: AnyRule, n: int, data: st.DataObject, limit: float
) -> None:
    low = data.draw(st.integers(0, n))
    high = data.draw(st.integers(low, n))
    question, rate = asked(rule, low, high, n, limit)
    lower, upper = rate_bounds(question, rate)
    assert 0 <= lower <= upper <= 1
    (verdict,) = judge_rates([(question, rate)])
    if abs(lower - limit) > 1e-7 and abs(upper - limit) > 1e-7:
        assert verdict is (P if lower >= limit else F if upper < limit else U)


def clustered(low: int, n: int, size: float, clusters: float) -> Rate:
    return Rate(Fraction(low, n), Fraction(low, n), size, size, clusters)


@pytest.mark.parametrize("rule", ["wilson", "exact", "bayes"])
def test_one_cluster_tells_nothing(rule: AnyRule) -> None:
    question = RateRule(rule, exact(0.05), 0.95)
    for passed in (0, 500, 1000):
        rate = clustered(passed, 1000, 1.0, 1.0)
        assert judge_rates([(question, rate)]) == [U]
        assert rate_bounds(question, rate) == (0.0, 1.0)


@pytest.mark.parametrize("rule", ["wilson", "exact", "bayes"])
def test_few_clusters_show_little_however_alike_their_cases_are(rule: AnyRule) -> None:
    question = RateRule(rule, exact(0.9), 0.95)
    few, many = clustered(990, 1000, 1000.0, 10.0), clustered(990, 1000, 1000.0, 100.0)
    assert judge_rates([(question, few)]) == [U]
    assert judge_rates([(question, many)]) == [P]
    lower, _ = rate_bounds(question, few)
    assert lower < 0.9 < rate_bounds(question, many).lower


@pytest.mark.parametrize("limit", [0.8, 0.9, 0.95])
@pytest.mark.parametrize("n", [20, 33, 59, 100])
def test_at_the_limit_exact_is_wrong_at_most_as_often_as_it_says(n: int, limit: float) -> None:
    chances = stats.binom.pmf(range(n + 1), n, limit)
    verdicts = [judge("exact", x, n, limit) for x in range(n + 1)]
    for wrong in (P, F):
        assert sum(c for c, v in zip(chances, verdicts, strict=True) if v is wrong) <= 0.05


def test_cases_of_one_cluster_do_not_pass_by_luck_as_if_they_were_independent() -> None:
    # 20 clusters of 10 with a correlation of 0.4, the true rate at the limit. At most 5.5 % may
    # pass: above 40 of 300 with a probability below 1e-6. The seed is fixed besides.
    chance = np.random.default_rng(7)
    question = RateRule("wilson", exact(0.9), 0.95)
    labels = [cluster for cluster in range(20) for _ in range(10)]
    alone = clusters = 0
    for _ in range(300):
        passed = chance.binomial(10, chance.beta(1.35, 0.15, size=20))
        values = [float(place < k) for k in passed for place in range(10)]
        mean = Fraction(int(sum(values)), 200)
        got = worth(values, [1.0] * 200, labels, 0.95)
        rates = Rate(mean, mean, 200, 200), Rate(mean, mean, got.size, got.size, got.clusters)
        verdicts = [judge_rates([(question, rate)])[0] for rate in rates]
        alone += verdicts[0] is P
        clusters += verdicts[1] is P
    assert clusters <= 40 < alone
