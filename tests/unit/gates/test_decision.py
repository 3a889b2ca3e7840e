"""A gate's verdict from its cases: each kind of question, and all of them together."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_llmdeploy.gates.findings import Finding
from pytest_llmdeploy.verdicts import Verdict
from tests.unit.gates.deciding import (
    E,
    F,
    P,
    Result,
    U,
    case,
    cases,
    decision,
    judge,
    left_out,
    reasons,
    result,
)


@pytest.mark.parametrize(
    ("outcomes", "wanted", "allowed", "verdict", "reason"),
    [
        ([], 0.9, 1.0, E, "no case was selected"),
        ([E] * 3, 0.9, 1.0, E, "none of the 3 cases could be measured"),
        ([P] * 9 + [F], 0.9, 0.0, P, "pass rate 0.90 (9 of 10) >= min_pass_rate 0.90"),
        ([P] * 34 + [F] * 6, 0.9, 0.0, F, "pass rate 0.85 (34 of 40) < min_pass_rate 0.90"),
        (
            [P] * 899 + [F] * 101,
            0.9,
            0.0,
            F,
            "pass rate 0.899 (899 of 1000) < min_pass_rate 0.90",
        ),
        ([P, F, F], 0.333, 0.0, P, "pass rate 0.3333 (1 of 3) >= min_pass_rate 0.333"),
        ([P, P], 1.0, 0.0, P, "pass rate 1.00 (2 of 2) >= min_pass_rate 1.00"),
        (
            [P] * 39 + [E],
            0.9,
            0.0,
            E,
            "1 of 40 cases could not be measured: error rate 0.03 > max_error_rate 0.00",
        ),
        (
            [P] * 39 + [E],
            0.9,
            0.025,
            P,
            "pass rate 1.00 (39 of 39) >= min_pass_rate 0.90,"
            " whatever the 1 unmeasured would have been",
        ),
        (
            [P] * 8 + [F] * 11 + [E],
            0.9,
            0.1,
            F,
            "pass rate 0.42 (8 of 19) < min_pass_rate 0.90,"
            " whatever the 1 unmeasured would have been",
        ),
        (
            [P] * 35 + [F] * 3 + [E] * 2,
            0.9,
            0.1,
            U,
            "2 of 40 cases could not be measured: the pass rate lies between 0.88 and 0.93,"
            " around min_pass_rate 0.90",
        ),
    ],
)
def test_the_point_rule(
    outcomes: list[Verdict], wanted: float, allowed: float, verdict: Verdict, reason: str
) -> None:
    judged = judge(
        cases(len(outcomes)),
        outcomes,
        min_pass_rate=wanted,
        max_error_rate=allowed,
        decision={"rule": "point"},
    )
    assert (judged.verdict, judged.reason) == (verdict, reason)


def test_weights_under_the_point_rule() -> None:
    judged = judge([case("a", weight=3.0), case("b")], [P, F], min_pass_rate=0.75)
    reason = "pass rate 0.75 (1 of 2, weighted) >= min_pass_rate 0.75"
    assert (judged.verdict, judged.reason) == (P, reason)


def test_the_numbers_of_the_point_rule() -> None:
    given = [case("a", weight=2.0), *cases(3)]
    judged = judge(given, [P, F, E, U], min_pass_rate=0.5, max_error_rate=0.5)
    assert judged.verdict is U
    assert judged.detail == {
        "estimate": "pass rate",
        "pass_rate": 2 / 3,
        "min_pass_rate": 0.5,
        "rule": "point",
        "n": 4,
        "passed": 1,
        "failed": 1,
        "errors": 2,
        "lower": 0.4,
        "upper": 0.8,
        "total": 4,
        "error_rate": 0.5,
    }


@pytest.mark.parametrize(
    ("outcomes", "config", "verdict", "reason"),
    [
        (
            [P] * 190 + [F] * 10,
            {},
            P,
            "pass rate 0.95 (190 of 200), at least 0.92 with 95 % confidence (wilson),"
            " >= min_pass_rate 0.90",
        ),
        (
            [P] * 160 + [F] * 40,
            {"decision": {"rule": "exact", "confidence": 0.99}},
            F,
            "pass rate 0.80 (160 of 200), at most 0.86 with 99 % confidence (exact),"
            " < min_pass_rate 0.90",
        ),
        (
            [P] * 190 + [F] * 10,
            {"decision": {"rule": "bayes"}},
            P,
            "pass rate 0.95 (190 of 200), at least 0.92 with 95 % probability (bayes),"
            " >= min_pass_rate 0.90",
        ),
        (
            [P] * 18 + [F] * 2,
            {},
            U,
            "pass rate 0.90 (18 of 20), between 0.74 and 0.97 with 95 % confidence (wilson),"
            " around min_pass_rate 0.90; 20 cases can never show it: at least 25 are needed,"
            " all passing",
        ),
        (
            [P] * 38 + [F] * 2,
            {},
            U,
            "pass rate 0.95 (38 of 40), between 0.86 and 0.98 with 95 % confidence (wilson),"
            " around min_pass_rate 0.90; at this rate about 98 cases would show it",
        ),
        (
            [P] * 36 + [F] * 4,
            {},
            U,
            "pass rate 0.90 (36 of 40), between 0.80 and 0.95 with 95 % confidence (wilson),"
            " around min_pass_rate 0.90",
        ),
        (
            [P] * 40,
            {"min_pass_rate": 1.0, "decision": {"rule": "exact"}},
            U,
            "pass rate 1.00 (40 of 40), between 0.93 and 1.00 with 95 % confidence (exact),"
            " around min_pass_rate 1.00; no number of cases can show that all pass: take rule"
            " point",
        ),
        (
            [P] * 190 + [E] * 10,
            {"max_error_rate": 0.1},
            P,
            "pass rate 1.00 (190 of 190), at least 0.92 with 95 % confidence (wilson),"
            " >= min_pass_rate 0.90, whatever the 10 unmeasured would have been",
        ),
        (
            [P] * 185 + [E] * 15,
            {"max_error_rate": 0.1},
            U,
            "15 of 200 cases could not be measured: the pass rate lies between 0.93 and 1.00"
            " among these cases, and between 0.89 and 1.00 with 95 % confidence (wilson),"
            " around min_pass_rate 0.90",
        ),
    ],
)
def test_rules_with_bounds(
    outcomes: list[Verdict], config: dict[str, Any], verdict: Verdict, reason: str
) -> None:
    judged = judge(cases(len(outcomes)), outcomes, **{"min_pass_rate": 0.9, **config})
    assert (judged.verdict, judged.reason) == (verdict, reason)


def test_the_numbers_of_a_rule_with_bounds() -> None:
    detail = dict(judge(cases(100), [P] * 95 + [F] * 5, min_pass_rate=0.9).detail)
    assert detail.pop("lower") == pytest.approx(0.901, abs=5e-4)
    assert detail.pop("upper") == pytest.approx(0.975, abs=5e-4)
    assert detail.pop("p_value") == pytest.approx(0.952, abs=5e-4)
    assert detail == {
        "estimate": "pass rate",
        "pass_rate": 0.95,
        "min_pass_rate": 0.9,
        "rule": "wilson",
        "n": 100,
        "passed": 95,
        "failed": 5,
        "errors": 0,
        "confidence": 0.95,
        "effective_n": 100.0,
        "smallest_n": 25,
        "total": 100,
        "error_rate": 0.0,
    }


def test_unequal_weights_are_worth_fewer_cases() -> None:
    outcomes = [P] * 95 + [F] * 5
    assert judge(cases(100), outcomes, min_pass_rate=0.9).verdict is P
    given = [case(f"c{n}", weight=8.0 if n % 10 == 0 else 1.0) for n in range(100)]
    judged = judge(given, outcomes, min_pass_rate=0.9)
    assert judged.detail["effective_n"] == pytest.approx(170**2 / (10 * 64 + 90))
    assert judged.verdict is U


def test_clusters_are_worth_fewer_cases() -> None:
    given = [case(f"c{n}", vars={"document": f"d{n // 10}"}) for n in range(300)]
    outcomes = [F] * 10 + [P] * 290
    assert judge(given, outcomes, min_pass_rate=0.9).verdict is P
    judged = judge(given, outcomes, min_pass_rate=0.9, decision={"cluster_by": "document"})
    assert judged.verdict is U
    assert judged.reason == (
        "pass rate 0.97 (290 of 300 in 30 clusters), between 0.86 and 0.99 with 95 % confidence"
        " (wilson), around min_pass_rate 0.90; at this rate about 602 cases would show it"
    )
    assert judged.detail["clusters"] == 30
    assert judged.detail["effective_n"] < 30


def test_one_cluster_can_neither_pass_nor_fail_by_bounds() -> None:
    given = cases(100, vars={"document": ["the", "same"]})
    for outcome in (P, F):
        judged = judge(
            given, [outcome] * 100, min_pass_rate=0.5, decision={"cluster_by": "document"}
        )
        assert judged.verdict is U, judged.reason


@pytest.mark.parametrize(
    ("estimate", "verdict", "reason"),
    [
        ("pass_at_k", P, "pass@2 0.92 (mean of 4 cases) >= min_pass_rate 0.80"),
        ("pass_hat_k", F, "pass^2 0.42 (mean of 4 cases) < min_pass_rate 0.80"),
    ],
)
def test_estimates_from_several_answers(estimate: str, verdict: Verdict, reason: str) -> None:
    answers = [(True,) * 3, (True, True, False), (True, True, False), (False, False, True)]
    outcomes = [result(P if all(each) else F, *each) for each in answers]
    judged = judge(
        cases(4),
        outcomes,
        repeats=3,
        min_pass_rate=0.8,
        decision={"estimate": estimate, "k": 2},
    )
    by_hand = (1 + 1 + 1 + 2 / 3) / 4 if estimate == "pass_at_k" else (1 + 1 / 3 + 1 / 3 + 0) / 4
    assert judged.detail["pass_rate"] == pytest.approx(by_hand)
    assert (judged.verdict, judged.reason) == (verdict, reason)


@pytest.mark.parametrize(
    "lacking", [result(P, True, None), result(P, True), result(P), result(E, True, True)]
)
def test_an_estimate_needs_all_its_answers(lacking: Result) -> None:
    judged = judge(
        cases(2),
        [result(P, True, True), lacking],
        repeats=2,
        min_pass_rate=0.5,
        max_error_rate=0.5,
        decision={"estimate": "pass_at_k", "k": 2},
    )
    assert (judged.detail["passed"], judged.detail["errors"]) == (1, 1)


def test_no_case_with_a_must_pass_tag_may_fail() -> None:
    given = [*cases(98), *cases(2, "leak", tags=("safety",))]
    config: dict[str, Any] = {"min_pass_rate": 0.9, "must_pass": ("safety",)}
    passed = judge(given, [P] * 100, **config)
    assert passed.verdict is P
    assert passed.reason == (
        "pass rate 1.00 (100 of 100), at least 0.97 with 95 % confidence (wilson),"
        " >= min_pass_rate 0.90; 1 further finding passed too"
    )
    failed = judge(given, [P] * 99 + [F], **config)
    assert failed.verdict is F
    assert failed.reason == "must_pass safety: 1 of 2 cases failed: leak1"
    unknown = judge(given, [P] * 99 + [E], max_error_rate=0.1, **config)
    assert unknown.verdict is U
    assert unknown.reason == (
        "must_pass safety: 1 of 2 cases are not known to pass: 1 of 2 cases could not be measured"
    )


def test_tags_have_gates_of_their_own() -> None:
    given = [*cases(95), *cases(5, "math", tags=("math",))]
    config: dict[str, Any] = {"min_pass_rate": 0.9, "tags": {"math": {"min_pass_rate": 0.8}}}
    judged = judge(given, [P] * 98 + [F] * 2, **config)
    assert judged.verdict is F
    assert judged.reason == "tag math: pass rate 0.60 (3 of 5) < min_pass_rate 0.80"
    assert [each.record()["rule"] for each in judged.findings] == ["wilson", "point"]
    assert judge(given, [P] * 99 + [F], **config).verdict is P


def test_a_tag_takes_its_own_rule_else_the_gates() -> None:
    given = cases(30, tags=("a", "b"))
    tags = {"a": {"min_pass_rate": 0.5}, "b": {"min_pass_rate": 0.5, "rule": "bayes"}}
    made = decision(given, min_pass_rate=0.5, tags=tags, decision={"rule": "exact"})
    assert [each.rule.rule for each in made.rates] == ["exact", "exact", "bayes"]


def test_a_fail_by_bounds_is_corrected_for_the_others() -> None:
    given = [*cases(100, "a", tags=("a",)), *cases(100, "b", tags=("b",))]
    outcomes = [P] * 85 + [F] * 15 + [P] * 99 + [F]
    alone = judge(given, outcomes, min_pass_rate=0.5, tags={"a": {"min_pass_rate": 0.9}})
    assert reasons(alone)["tag a"][0] is U
    assert reasons(alone)["tag a"][1] == (
        "pass rate 0.85 (85 of 100), at most 0.899 with 95 % confidence (wilson),"
        " < min_pass_rate 0.90, but not once corrected for the 2 rates that are judged at once"
        " (Holm)"
    )


VACUOUS = "no assertion"


def test_vacuous_rows_are_named() -> None:
    given = [*cases(7), *cases(2, "v", vacuous=VACUOUS), case("w", vacuous="weight 0")]
    judged = judge(given, [P] * 10)
    assert judged.verdict is P
    assert judged.reason == (
        "pass rate 1.00 (10 of 10) >= min_pass_rate 1.00;"
        " 3 of 10 rows pass whatever the answer (no assertion: 2, weight 0: 1)"
    )


@pytest.mark.parametrize(
    ("real", "outcomes", "wanted"), [(0, [P, P], 1.0), (1, [P, P, F], 0.5), (0, [P, E], 0.5)]
)
def test_a_gate_of_vacuous_passes_never_passes(
    real: int, outcomes: list[Verdict], wanted: float
) -> None:
    given = [*cases(2, "v", vacuous=VACUOUS), *cases(real)]
    judged = judge(given, outcomes, min_pass_rate=wanted, max_error_rate=0.5)
    assert judged.verdict is E
    assert judged.reason.startswith(
        "nothing was asserted: what passed would have passed whatever the answer; 2 of"
    )


def test_a_must_pass_tag_of_vacuous_passes_never_passes() -> None:
    given = [*cases(3), case("v", vacuous=VACUOUS, tags=("safety",))]
    judged = judge(given, [P] * 4, must_pass=("safety",))
    assert judged.verdict is E
    assert reasons(judged)["must_pass safety"] == (
        E,
        "nothing was asserted: what passed would have passed whatever the answer",
    )


def test_a_budget_leaves_a_gate_inconclusive_with_what_is_known() -> None:
    judged = judge(cases(40), [P] * 30 + [left_out()] * 10, min_pass_rate=0.5)
    assert judged.verdict is U
    assert judged.reason == (
        "10 of 40 cases were not asked: the budget of 100 requests is used up;"
        " so far pass rate 1.00 (30 of 30), min_pass_rate 0.50"
    )
    assert (judged.detail["not_asked"], judged.detail["errors"]) == (10, 0)
    assert judged.detail["error_rate"] == 0


def test_a_fail_that_is_certain_needs_no_budget() -> None:
    judged = judge(cases(10), [F] * 5 + [left_out()] * 5, min_pass_rate=0.9)
    assert judged.verdict is F
    assert judged.reason == (
        "pass rate 0.00 (0 of 5) < min_pass_rate 0.90, whatever the 5 not asked would have been;"
        " 5 of 10 cases were not asked: the budget of 100 requests is used up"
    )


def test_a_budget_that_left_nothing_is_inconclusive() -> None:
    judged = judge(cases(2), [left_out()] * 2)
    assert judged.verdict is U
    assert judged.reason == (
        "2 of 2 cases were not asked: the budget of 100 requests is used up;"
        " none was measured, min_pass_rate 1.00"
    )


def test_errors_among_those_asked_still_count() -> None:
    judged = judge(cases(4), [P, E, left_out(), left_out()], max_error_rate=0.4)
    assert judged.verdict is E
    assert judged.reason == (
        "1 of 4 cases could not be measured: error rate 0.50 > max_error_rate 0.40;"
        " 2 of 4 cases were not asked: the budget of 100 requests is used up"
    )


def test_what_was_not_asked_early_is_told() -> None:
    judged = judge(
        cases(100), [F] * 60 + [None] * 40, min_pass_rate=0.9, decision={"rule": "point"}
    )
    assert judged.settled
    assert judged.verdict is F
    assert judged.reason == (
        "pass rate 0.00 (0 of 60) < min_pass_rate 0.90, whatever the 40 not asked would have been;"
        " stopped early: 40 of 100 cases were not asked, as they could not change the verdict"
    )
    assert judged.detail["not_asked"] == 40


def test_fail_outranks_error_and_all_that_is_wrong_is_told() -> None:
    given = [*cases(8), *cases(2, "leak", tags=("safety",))]
    judged = judge(given, [P] * 8 + [F, E], must_pass=("safety",))
    assert judged.verdict is F
    assert judged.reason == (
        "must_pass safety: 1 of 2 cases failed: leak0;"
        " 1 of 10 cases could not be measured: error rate 0.10 > max_error_rate 0.00"
    )


def test_a_further_finding_is_judged_with_the_others() -> None:
    given = [*cases(3), case("v", vacuous=VACUOUS)]
    judged = judge(given, [P] * 4).beside(Finding("baseline", F, "one case regressed"))
    assert judged.verdict is F
    assert judged.reason == (
        "baseline: one case regressed; 1 of 4 rows passes whatever the answer (no assertion: 1)"
    )
    assert [each.name for each in judged.findings] == ["pass rate", "baseline"]


def test_a_result_of_no_case_is_refused() -> None:
    with pytest.raises(KeyError, match=r"^'other'$"):
        decision(cases(2)).judge({"other": result(P, True)})


def test_a_weight_must_count() -> None:
    with pytest.raises(ValueError, match=r"^a case's weight must be above 0, not 0.0$"):
        judge([case("a", weight=0.0)], [P])
