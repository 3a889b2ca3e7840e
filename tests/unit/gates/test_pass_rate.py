"""The gate's verdict from its cases."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmdeploy.verdicts import Verdict
from pytest_llmdeploy.verdicts.pass_rate import GateVerdict, judge_pass_rate

P, F, E = Verdict.PASS, Verdict.FAIL, Verdict.ERROR


def outcomes(passed: int, failed: int = 0, errors: int = 0) -> list[tuple[float, Verdict]]:
    return [(1.0, P)] * passed + [(1.0, F)] * failed + [(1.0, E)] * errors


@pytest.mark.parametrize(
    ("cases", "wanted", "allowed", "verdict", "reason"),
    [
        ([], 0.9, 1.0, E, "no case was selected"),
        (outcomes(0, 0, 3), 0.9, 1.0, E, "none of the 3 cases could be measured"),
        (outcomes(9, 1), 0.9, 0.0, P, "pass rate 0.90 (9 of 10) >= min_pass_rate 0.90"),
        (outcomes(34, 6), 0.9, 0.0, F, "pass rate 0.85 (34 of 40) < min_pass_rate 0.90"),
        (outcomes(899, 101), 0.9, 0.0, F, "pass rate 0.899 (899 of 1000) < min_pass_rate 0.90"),
        (outcomes(1, 2), 0.333, 0.0, P, "pass rate 0.3333 (1 of 3) >= min_pass_rate 0.333"),
        (outcomes(2, 0), 1.0, 0.0, P, "pass rate 1.00 (2 of 2) >= min_pass_rate 1.00"),
        (
            outcomes(39, 0, 1),
            0.9,
            0.0,
            E,
            "1 of 40 cases could not be measured: error rate 0.03 > max_error_rate 0.00",
        ),
        (
            outcomes(39, 0, 1),
            0.9,
            0.025,
            P,
            "pass rate 1.00 (39 of 39) >= min_pass_rate 0.90,"
            " whatever the 1 unmeasured would have been",
        ),
        (
            outcomes(8, 11, 1),
            0.9,
            0.1,
            F,
            "pass rate 0.42 (8 of 19) < min_pass_rate 0.90,"
            " whatever the 1 unmeasured would have been",
        ),
        (
            outcomes(35, 3, 2),
            0.9,
            0.1,
            Verdict.INCONCLUSIVE,
            "2 of 40 cases could not be measured: the pass rate lies between 0.88 and 0.93,"
            " around min_pass_rate 0.90",
        ),
        (
            [(3.0, P), (1.0, F)],
            0.75,
            0.0,
            P,
            "pass rate 0.75 (1 of 2, weighted) >= min_pass_rate 0.75",
        ),
    ],
)
def test_verdicts(
    cases: list[tuple[float, Verdict]], wanted: float, allowed: float, verdict: Verdict, reason: str
) -> None:
    judged = judge_pass_rate(cases, wanted, allowed)
    assert (judged.verdict, judged.reason) == (verdict, reason)


def test_the_numbers() -> None:
    cases = [(2.0, P), (1.0, F), (1.0, E), (1.0, Verdict.INCONCLUSIVE)]
    assert judge_pass_rate(cases, 0.5, 0.5) == GateVerdict(
        verdict=Verdict.INCONCLUSIVE,
        pass_rate=2 / 3,
        passed=1,
        failed=1,
        errors=2,
        total=4,
        error_rate=0.5,
        lowest=0.4,
        highest=0.8,
        reason="2 of 4 cases could not be measured: the pass rate lies between 0.40 and 0.80,"
        " around min_pass_rate 0.50",
    )


@pytest.mark.parametrize("weight", [0.0, -1.0])
def test_a_weight_must_count(weight: float) -> None:
    with pytest.raises(ValueError, match=rf"^a case's weight must be above 0, not {weight}$"):
        judge_pass_rate([(weight, P)], 0.9, 0.0)


@pytest.mark.parametrize("n", range(1, 60))
def test_k_of_n_reaches_its_own_rate(n: int) -> None:
    for k in range(1, n + 1):
        if n in {1, 2, 4, 5, 8, 10, 16, 20, 25, 32, 40, 50}:  # k / n has a finite decimal
            assert judge_pass_rate(outcomes(k, n - k), k / n, 0.0).verdict is P
        rate = math.nextafter(k / n, 2)
        if rate <= 1:
            assert judge_pass_rate(outcomes(k, n - k), rate, 0.0).verdict is F


RANK = {F: 0, E: 0, Verdict.INCONCLUSIVE: 1, P: 2}
CASES = st.lists(
    st.tuples(st.sampled_from([0.1, 0.5, 1.0, 3.0]), st.sampled_from([P, F, E])), min_size=1
)


@given(CASES, st.floats(0.01, 1), st.floats(0, 1), st.data())
def test_turning_a_fail_into_a_pass_never_makes_it_worse(
    cases: list[tuple[float, Verdict]], wanted: float, allowed: float, data: st.DataObject
) -> None:
    turned = data.draw(st.integers(0, len(cases) - 1))
    better = [*cases]
    if cases[turned][1] is F:
        better[turned] = (cases[turned][0], P)
    before, after = (judge_pass_rate(each, wanted, allowed) for each in (cases, better))
    assert RANK[after.verdict] >= RANK[before.verdict]
    assert (after.verdict is E) == (before.verdict is E)


@given(CASES, st.floats(0.01, 1), st.floats(0, 1))
def test_the_unmeasured_could_not_turn_a_verdict(
    cases: list[tuple[float, Verdict]], wanted: float, allowed: float
) -> None:
    verdict = judge_pass_rate(cases, wanted, allowed).verdict
    if verdict in {P, F}:
        for instead in (P, F):
            settled = [(weight, instead if v is E else v) for weight, v in cases]
            assert judge_pass_rate(settled, wanted, allowed).verdict is verdict
