"""Scores of answers and verdicts of cases."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmdeploy.errors import NotMeasuredError
from pytest_llmdeploy.gates.assertions import AssertionResult
from pytest_llmdeploy.gates.scoring import (
    CaseVerdict,
    SampleScore,
    judge_case,
    score_sample,
)
from pytest_llmdeploy.verdicts import Verdict


def result(passed: bool, score: float | None = None, weight: float = 1.0) -> AssertionResult:
    return AssertionResult(
        "equals", passed, float(passed) if score is None else score, "so it was", weight
    )


PASSED, FAILED = result(True), result(False)


@pytest.mark.parametrize(
    ("results", "threshold", "expected"),
    [
        ([PASSED, PASSED], None, SampleScore(True, 1.0, "2 of 2 assertions passed")),
        (
            [PASSED, FAILED, FAILED],
            None,
            SampleScore(False, 1 / 3, "equals: so it was (and 1 more failed)"),
        ),
        (
            [result(True, weight=3), FAILED],
            0.75,
            SampleScore(True, 0.75, "score 0.750 >= threshold 0.75; equals: so it was"),
        ),
        (
            [PASSED, FAILED],
            0.6,
            SampleScore(False, 0.5, "score 0.500 < threshold 0.6; equals: so it was"),
        ),
        (
            # A threshold decides over the score alone, even when no assertion failed.
            [result(True, 0.5)],
            0.6,
            SampleScore(False, 0.5, "score 0.500 < threshold 0.6; 1 of 1 assertions passed"),
        ),
    ],
)
def test_samples(
    results: list[AssertionResult], threshold: float | None, expected: SampleScore
) -> None:
    assert score_sample(results, threshold) == expected


def test_no_assertion_is_no_pass() -> None:
    for threshold in (None, 0.5):
        with pytest.raises(NotMeasuredError, match=r"^the answer was judged by no assertion$"):
            score_sample([], threshold)


def test_floating_point_does_not_lose_a_threshold() -> None:
    assert score_sample([result(True, weight=0.1)] * 3 + [result(False, weight=0.7)], 0.3).passed
    thirds = [SampleScore(False, 1 / 3, ""), SampleScore(True, 2 / 3, "")]
    assert judge_case(thirds, 0.5).verdict is Verdict.PASS


GOOD, BAD = SampleScore(True, 1.0, "all well"), SampleScore(False, 0.25, "equals: no")
TIMEOUT = NotMeasuredError("no answer within 60 s")


@pytest.mark.parametrize(
    ("samples", "threshold", "expected"),
    [
        ([GOOD], None, CaseVerdict(Verdict.PASS, 1.0, "all well")),
        ([BAD], None, CaseVerdict(Verdict.FAIL, 0.25, "equals: no")),
        (
            [GOOD, BAD],
            None,
            CaseVerdict(Verdict.FAIL, 0.625, "1 of 2 answers passed; equals: no"),
        ),
        (
            [GOOD, BAD],
            0.6,
            CaseVerdict(
                Verdict.PASS,
                0.625,
                "mean score 0.625 >= threshold 0.6; 1 of 2 answers passed; equals: no",
            ),
        ),
        (
            [GOOD, BAD],
            0.7,
            CaseVerdict(
                Verdict.FAIL,
                0.625,
                "mean score 0.625 < threshold 0.7; 1 of 2 answers passed; equals: no",
            ),
        ),
        ([GOOD, GOOD], None, CaseVerdict(Verdict.PASS, 1.0, "2 of 2 answers passed")),
        ([TIMEOUT], None, CaseVerdict(Verdict.ERROR, None, "no answer within 60 s")),
        (
            [GOOD, TIMEOUT, BAD],
            0.1,
            CaseVerdict(
                Verdict.ERROR, None, "1 of 3 answers were not measured: no answer within 60 s"
            ),
        ),
        ([], None, CaseVerdict(Verdict.ERROR, None, "the case was never asked")),
    ],
)
def test_cases(
    samples: list[SampleScore | NotMeasuredError], threshold: float | None, expected: CaseVerdict
) -> None:
    assert judge_case(samples, threshold) == expected


@pytest.mark.parametrize(
    ("samples", "threshold", "k", "expected"),
    [
        (
            [GOOD, GOOD, BAD],
            None,
            2,
            CaseVerdict(Verdict.PASS, 0.75, "2 of 3 answers passed, 2 must; equals: no"),
        ),
        (
            [GOOD, BAD, BAD],
            None,
            2,
            CaseVerdict(Verdict.FAIL, 0.5, "1 of 3 answers passed, 2 must; equals: no"),
        ),
        ([GOOD, GOOD], None, 1, CaseVerdict(Verdict.PASS, 1.0, "2 of 2 answers passed, 1 must")),
        # The threshold is each answer's own then; the mean of all scores decides nothing.
        (
            [GOOD, GOOD, BAD],
            0.9,
            2,
            CaseVerdict(Verdict.PASS, 0.75, "2 of 3 answers passed, 2 must; equals: no"),
        ),
        (
            [GOOD, TIMEOUT, GOOD],
            None,
            2,
            CaseVerdict(
                Verdict.PASS,
                1.0,
                "2 of 2 answers passed, 2 must, whatever the 1 unmeasured would have been",
            ),
        ),
        (
            [BAD, TIMEOUT, BAD],
            None,
            2,
            CaseVerdict(
                Verdict.FAIL,
                0.25,
                "0 of 2 answers passed, 2 must, whatever the 1 unmeasured would have been;"
                " equals: no",
            ),
        ),
        (
            [GOOD, TIMEOUT, BAD],
            None,
            2,
            CaseVerdict(
                Verdict.ERROR, None, "1 of 3 answers were not measured: no answer within 60 s"
            ),
        ),
        (
            [TIMEOUT],
            None,
            1,
            CaseVerdict(Verdict.ERROR, None, "no answer within 60 s"),
        ),
        ([GOOD], None, 1, CaseVerdict(Verdict.PASS, 1.0, "all well")),
    ],
)
def test_k_of_n(
    samples: list[SampleScore | NotMeasuredError],
    threshold: float | None,
    k: int,
    expected: CaseVerdict,
) -> None:
    assert judge_case(samples, threshold, k) == expected


@given(st.lists(st.sampled_from([GOOD, BAD, TIMEOUT]), min_size=1, max_size=7), st.integers(1, 7))
def test_k_of_n_is_decided_only_where_the_unmeasured_could_not_change_it(
    samples: list[SampleScore | NotMeasuredError], k: int
) -> None:
    verdict = judge_case(samples, None, k).verdict
    settled = {
        judge_case([instead if each is TIMEOUT else each for each in samples], None, k).verdict
        for instead in (GOOD, BAD)
    }
    if all(each is TIMEOUT for each in samples):
        assert verdict is Verdict.ERROR
    else:
        assert {verdict} == (settled if len(settled) == 1 else {Verdict.ERROR})


OUTCOMES = st.lists(
    st.tuples(st.booleans(), st.floats(min_value=0.01, max_value=100)), min_size=1, max_size=8
)
THRESHOLDS = st.none() | st.floats(min_value=0.01, max_value=1)


@given(outcomes=OUTCOMES, threshold=THRESHOLDS, data=st.data())
def test_turning_a_fail_into_a_pass_never_makes_it_worse(
    outcomes: list[tuple[bool, float]], threshold: float | None, data: st.DataObject
) -> None:
    turned = data.draw(st.integers(0, len(outcomes) - 1))
    before = [result(passed, weight=weight) for passed, weight in outcomes]
    after = [*before]
    after[turned] = result(True, weight=outcomes[turned][1])
    worse, better = score_sample(before, threshold), score_sample(after, threshold)
    assert better.score >= worse.score - 1e-12
    assert better.passed >= worse.passed
    assert 0 <= worse.score <= 1


@given(outcomes=OUTCOMES, threshold=THRESHOLDS, data=st.data())
def test_a_sample_that_was_not_measured_is_always_an_error(
    outcomes: list[tuple[bool, float]], threshold: float | None, data: st.DataObject
) -> None:
    samples: list[SampleScore | NotMeasuredError] = [
        SampleScore(passed, float(passed), "") for passed, _ in outcomes
    ]
    samples.insert(data.draw(st.integers(0, len(samples))), TIMEOUT)
    assert judge_case(samples, threshold).verdict is Verdict.ERROR
