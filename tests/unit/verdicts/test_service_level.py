"""The mean of the latest points against a limit."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmdeploy.verdicts import Verdict
from pytest_llmdeploy.verdicts.service_level import judge_points

P, F, I = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE  # noqa: E741
NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("points", "at_most", "verdict", "mean", "n", "reason"),
    [
        ([], True, I, None, 0, "0 of the 3 points wanted are there"),
        ([0.1, 0.1], True, I, None, 2, "2 of the 3 points wanted are there"),
        (
            *([0.1, None, 0.1], True, I, None, 2),
            "2 of the 3 points wanted are there, 1 of the latest had no data",
        ),
        (
            *([0.1, NAN, 0.1], True, I, None, 2),
            "2 of the 3 points wanted are there, 1 of the latest not a finite number",
        ),
        (
            *([-INF, None, 0.1], True, I, None, 1),
            "1 of the 3 points wanted are there, 1 of the latest had no data,"
            " 1 of the latest not a finite number",
        ),
        (
            *([INF, 0.1, 0.1], False, I, None, 2),
            "2 of the 3 points wanted are there, 1 of the latest not a finite number",
        ),
        ([None, NAN, 0.1, 0.1, 0.1], True, P, 0.1, 3, "mean of the last 3 points 0.1 <= 0.2"),
        ([9.0, 0.1, 0.2, 0.3], True, P, 0.2, 3, "mean of the last 3 points 0.2 <= 0.2"),
        ([0.0, 0.1, 0.2, 0.3], False, P, 0.2, 3, "mean of the last 3 points 0.2 >= 0.2"),
        (
            *([0.1, 0.2, 0.300003], True, F, 0.200001, 3),
            "mean of the last 3 points 0.200001 > 0.2",
        ),
        ([0.1, 0.2, 0.0], False, F, 0.1, 3, "mean of the last 3 points 0.1 < 0.2"),
        ([0.1, 0.2, 9.0], True, F, 3.1, 3, "mean of the last 3 points 3.1 > 0.2"),
        ([9.0, 9.0, 9.0], False, P, 9.0, 3, "mean of the last 3 points 9 >= 0.2"),
    ],
)
def test_truth_table(
    points: list[float | None],
    at_most: bool,
    verdict: Verdict,
    mean: float | None,
    n: int,
    reason: str,
) -> None:
    judged = judge_points(points, 0.2, at_most=at_most, wanted=3)
    assert (judged.verdict, judged.n, judged.reason) == (verdict, n, reason)
    assert judged.mean == (None if mean is None else pytest.approx(mean))


@given(
    st.lists(st.none() | st.floats(), max_size=8),
    st.floats(-10, 10),
    st.booleans(),
    st.integers(1, 6),
)
def test_nothing_passes_by_accident(
    points: list[float | None], limit: float, at_most: bool, wanted: int
) -> None:
    judged = judge_points(points, limit, at_most=at_most, wanted=wanted)
    latest = points[-wanted:]
    whole = len(latest) == wanted and all(p is not None and math.isfinite(p) for p in latest)
    assert (judged.verdict is I) == (not whole)
    assert (judged.mean is None) == (not whole)


@pytest.mark.parametrize(
    ("limit", "wanted", "message"),
    [
        (math.nan, 5, "a limit must be a finite number, not nan"),
        (math.inf, 5, "a limit must be a finite number, not inf"),
        (0.5, 0, "at least one point must be wanted, not 0"),
    ],
)
def test_what_cannot_be(limit: float, wanted: int, message: str) -> None:
    with pytest.raises(ValueError) as raised:
        judge_points([0.1], limit, at_most=True, wanted=wanted)
    assert str(raised.value) == message
