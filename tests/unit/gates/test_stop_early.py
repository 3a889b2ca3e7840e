"""What more results could do to a verdict: the properties that make stopping early free."""

from __future__ import annotations

import time
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pytest_llmdeploy.gates.case import Case
from tests.unit.gates.deciding import E, F, P, Result, U, case, cases, decision, left_out, result

RULES = st.sampled_from(["point", "wilson", "exact", "bayes"])
RATES = st.sampled_from([0.02, 0.3, 0.5, 0.8, 0.9, 1.0])
TAGS = ("a", "b")


@st.composite
def suites(draw: st.DrawFn) -> tuple[list[Case], dict[str, Any], list[Result]]:
    """Return cases, a policy and a result for each case, in the order in which they come."""
    n = draw(st.integers(1, 40))
    k = draw(st.integers(1, 3))
    weights = st.sampled_from([1.0] if draw(st.booleans()) else [0.1, 1.0, 7.0])
    given = [
        case(
            f"c{place}",
            tags=tuple(draw(st.lists(st.sampled_from(TAGS), unique=True))),
            weight=draw(weights),
            repeats=3,
            vacuous=draw(st.sampled_from([None, None, None, "no assertion"])),
        )
        for place in range(n)
    ]
    decided: dict[str, Any] = {
        "rule": draw(st.none() | RULES),
        "confidence": draw(st.sampled_from([0.6, 0.8, 0.95])),
        "estimate": draw(st.sampled_from(["pass_rate", "pass_at_k", "pass_hat_k"])),
        "k": k,
        "stop_early": True,
    }
    config: dict[str, Any] = {
        "repeats": 3,
        "min_pass_rate": draw(RATES),
        "max_error_rate": draw(st.sampled_from([0.0, 0.2, 1.0])),
        "must_pass": tuple(draw(st.lists(st.sampled_from(TAGS), unique=True))),
        "tags": {
            tag: {"min_pass_rate": draw(RATES), "rule": draw(st.none() | RULES)}
            for tag in draw(st.lists(st.sampled_from(TAGS), unique=True))
        },
        "decision": decided,
    }
    quality = draw(st.sampled_from([0.1, 0.5, 0.9, 1.0]))
    answers = st.floats(0, 1).map(lambda number: number < quality)
    results = []
    for each in given:
        passed = [each.vacuous is not None or draw(answers) for _ in range(3)]
        results.append(result(P if all(passed) else F, *passed))
    return given, config, results


@settings(max_examples=100, deadline=None)
@given(suites(), st.data())
def test_the_verdict_is_that_of_all_cases(
    suite: tuple[list[Case], dict[str, Any], list[Result]], data: st.DataObject
) -> None:
    given, config, results = suite
    order = data.draw(st.permutations(range(len(given))))
    # Errors and what a budget left out come at any time; what is not asked could be asked.
    broken = data.draw(st.sets(st.sampled_from(order), max_size=3))
    for place in broken:
        results[place] = data.draw(st.sampled_from([result(E, None), left_out()]))
    made = decision(given, **config)
    standing, early = made.standing(), None
    seen: dict[str, Result] = {}
    for number, place in enumerate(order):
        if standing.settled:
            early = made.judge(seen)
            assert early.settled
            rest = order[number:]
            break
        standing.add(given[place].id, results[place])
        seen[given[place].id] = results[place]
    assume(early is not None)
    assert early is not None
    assume(not broken & set(rest))
    full = made.judge({each.id: outcome for each, outcome in zip(given, results, strict=True)})
    assert early.verdict is full.verdict
    assert early.detail["not_asked"] - full.detail.get("not_asked", 0) == len(rest)


GOODNESS = {F: 0, E: 0, U: 1, P: 2}


@settings(max_examples=60, deadline=None)
@given(suites(), st.data())
def test_turning_a_fail_into_a_pass_never_makes_it_worse(
    suite: tuple[list[Case], dict[str, Any], list[Result]], data: st.DataObject
) -> None:
    given, config, results = suite
    made = decision(given, **config)
    before = made.judge({each.id: got for each, got in zip(given, results, strict=True)})
    turned = data.draw(st.integers(0, len(given) - 1))
    results[turned] = result(P, True, True, True)
    after = made.judge({each.id: got for each, got in zip(given, results, strict=True)})
    assert GOODNESS[after.verdict] >= GOODNESS[before.verdict] or after.verdict is E
    for old, new in zip(before.findings, after.findings, strict=True):
        # ERROR is where nothing was asserted, so that it is about all cases or none.
        assert E in (old.verdict, new.verdict) or GOODNESS[new.verdict] >= GOODNESS[old.verdict]


@settings(max_examples=60, deadline=None)
@given(suites(), st.data())
def test_the_unmeasured_could_not_turn_a_verdict(
    suite: tuple[list[Case], dict[str, Any], list[Result]], data: st.DataObject
) -> None:
    given, config, results = suite
    made = decision(given, **{**config, "max_error_rate": 1.0})
    broken = data.draw(st.sets(st.sampled_from(range(len(given))), min_size=1, max_size=4))
    verdicts = []
    for instead in (result(E, None), result(P, *[True] * 3), result(F, *[False] * 3)):
        for place in broken:
            results[place] = instead
        outcomes = {each.id: got for each, got in zip(given, results, strict=True)}
        verdicts.append(made.judge(outcomes).verdict)
    if verdicts[0] in (P, F):
        assert verdicts[1] is verdicts[0]
        assert verdicts[2] is verdicts[0]


@given(st.integers(1, 60), st.integers(0, 60), RATES)
def test_the_point_rule_stops_where_arithmetic_says(n: int, fails: int, wanted: float) -> None:
    fails = min(n, fails)
    made = decision(cases(n), min_pass_rate=wanted, decision={"rule": "point", "stop_early": True})
    standing = made.standing()
    needed = next(x for x in range(n + 1) if x >= wanted * n - 1e-9)
    for number in range(n):
        failed = min(number, fails)
        assert standing.settled is (failed > n - needed or number - failed >= needed)
        standing.add(f"c{number}", result(F, False) if number < fails else result(P, True))


def test_a_must_pass_case_is_waited_for_and_settles_a_fail_at_once() -> None:
    given = [*cases(10), case("leak", tags=("safety",))]
    made = decision(given, min_pass_rate=0.5, must_pass=("safety",))
    standing = made.standing()
    for each in given[:-1]:
        standing.add(each.id, result(P, True))
    assert not standing.settled
    at_once = made.standing()
    at_once.add("leak", result(F, False))
    assert at_once.settled


def test_a_second_result_of_a_case_changes_nothing() -> None:
    standing = decision(cases(3), min_pass_rate=0.6).standing()
    for _ in range(3):
        standing.add("c0", result(P, True))
    assert not standing.settled
    standing.add("c1", result(P, True))
    assert standing.settled


def test_too_many_errors_settle_an_error() -> None:
    standing = decision(cases(10), max_error_rate=0.1).standing()
    standing.add("c0", result(E, None))
    assert not standing.settled
    standing.add("c1", result(E, None))
    assert standing.settled
    assert standing.verdict().verdict is E


def test_what_could_not_be_told_apart_by_all_the_rest_is_settled() -> None:
    standing = decision(cases(20), min_pass_rate=0.9).standing()
    for number in range(3):
        standing.add(f"c{number}", result(F, False))
    assert not standing.settled  # all the rest passing: INCONCLUSIVE; all failing: FAIL
    assert standing.verdict().verdict is U


def test_passes_that_assert_nothing_wait_for_one_that_does() -> None:
    given = [*cases(9, "v", vacuous="no assertion"), case("real")]
    standing = decision(given, min_pass_rate=0.5).standing()
    for each in given[:-1]:
        standing.add(each.id, result(P, True))
    assert not standing.settled  # should it fail, nothing was asserted: ERROR
    standing.add("real", result(F, False))
    assert standing.verdict().verdict is E


def test_rows_that_cannot_fail_are_not_imagined_to() -> None:
    # As if all rest failed, the tag shows nothing, and as if all passed, it passes; but if the one
    # that can fail does, what passes has asserted nothing: an ERROR in between.
    tagged = [*cases(5, "v", tags=("a",), vacuous="no assertion"), case("real", tags=("a",))]
    measured = cases(20)
    tags = {"a": {"min_pass_rate": 0.02, "rule": "exact"}}
    made = decision([*measured, *tagged], min_pass_rate=0.5, tags=tags)
    standing = made.standing()
    for number, each in enumerate(measured):
        standing.add(each.id, result(P, True) if number % 2 else result(F, False))
    assert standing.verdict().verdict is U
    assert not standing.settled
    standing.add("real", result(F, False))
    assert standing.settled
    assert standing.verdict().verdict is E


def test_ten_thousand_cases_are_followed_in_seconds() -> None:
    given = [
        case(f"c{n}", tags=("a",) if n % 2 else ("b",), weight=1.0 + n % 3) for n in range(10_000)
    ]
    tags = {"a": {"min_pass_rate": 0.95}, "b": {"min_pass_rate": 0.97}}
    made = decision(given, min_pass_rate=0.96, tags=tags, decision={"rule": "exact"})
    standing = made.standing()
    outcomes = {True: result(P, True), False: result(F, False)}
    began, settled = time.process_time(), False
    for number, each in enumerate(given):
        standing.add(each.id, outcomes[number % 25 != 0])
        settled = standing.settled
    assert settled
    assert time.process_time() - began < 10
