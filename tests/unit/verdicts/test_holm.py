"""Holm's correction against statsmodels."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from pytest_llmdeploy.verdicts.holm import adjusted


@settings(max_examples=25, deadline=None)  # statsmodels takes 50 ms
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_the_corrected_values_are_those_of_statsmodels(p_values: list[float]) -> None:
    expected = multipletests(p_values, method="holm")[1]
    assert adjusted(p_values) == pytest.approx(list(expected))


def test_one_test_is_not_corrected_and_none_is_none() -> None:
    assert adjusted([0.03]) == [0.03]
    assert adjusted([]) == []


@pytest.mark.parametrize("wrong", [-0.1, 1.1, math.nan])
def test_what_is_no_p_value_is_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match=rf"^a p-value must lie between 0 and 1, not {wrong}$"):
        adjusted([0.5, wrong])
