"""Errors must split like the traffic."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from pytest_llmdeploy.verdicts.error_split import error_split_e_value


@st.composite
def counts(draw: st.DrawFn, most: int = 60) -> tuple[int, int]:
    failures = draw(st.integers(0, most))
    return draw(st.integers(0, failures)), failures


@given(counts(), st.floats(0.01, 0.99))
def test_it_is_the_mixture_that_it_says(counted: tuple[int, int], share: float) -> None:
    canary, failures = counted
    prior = stats.beta(0.5, 0.5)
    # With p = sin(t)^2 the weight Beta(1/2, 1/2) is even in t.
    integral, _ = integrate.quad(
        lambda t: (
            stats.binom.pmf(canary, failures, math.sin(t) ** 2)
            / stats.binom.pmf(canary, failures, share)
        ),
        math.asin(math.sqrt(share)),
        math.pi / 2,
        limit=500,
    )
    expected = integral * 2 / math.pi / prior.sf(share)
    assert error_split_e_value(canary, failures, share) == pytest.approx(expected, rel=1e-6)


@given(counts(), st.floats(0.01, 0.99), st.floats(0.01, 1))
def test_the_next_failure_is_worth_at_most_1_on_average(
    counted: tuple[int, int], share: float, smaller: float
) -> None:
    """For every probability up to the share: all that Ville's inequality needs."""
    canary, failures = counted
    own = share * smaller
    now = error_split_e_value(canary, failures, share)
    later = own * error_split_e_value(canary + 1, failures + 1, share)
    later += (1 - own) * error_split_e_value(canary, failures + 1, share)
    assert later <= now * (1 + 1e-9)


@given(counts(), st.floats(0.01, 0.98))
def test_more_of_the_canarys_failures_are_more_evidence(
    counted: tuple[int, int], share: float
) -> None:
    canary, failures = counted
    now = error_split_e_value(canary, failures + 1, share)
    assert error_split_e_value(canary + 1, failures + 1, share) >= now
    assert error_split_e_value(canary, failures + 1, share + 0.01) <= now


def test_no_failure_says_nothing() -> None:
    assert error_split_e_value(0, 0, 0.05) == pytest.approx(1)


def test_it_stays_finite() -> None:
    assert error_split_e_value(1000, 1000, 0.01) == math.exp(700)
    assert error_split_e_value(0, 10_000_000, 0.5) == 0


@pytest.mark.parametrize(("canary", "failures"), [(-1, 3), (4, 3), (0, -1)])
def test_impossible_counts(canary: int, failures: int) -> None:
    with pytest.raises(ValueError) as raised:
        error_split_e_value(canary, failures, 0.05)
    assert str(raised.value) == f"{canary} of {failures} failures cannot be"


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, math.nan])
def test_impossible_shares(share: float) -> None:
    with pytest.raises(ValueError) as raised:
        error_split_e_value(0, 3, share)
    message = f"the share of the requests must lie between 0 and 1, not {share}"
    assert str(raised.value) == message


@pytest.mark.parametrize("share", [0.05, 0.25, 0.5])
def test_looking_after_every_failure_gives_no_more_false_alarms(share: float) -> None:
    """Of 1000 canaries that are no worse at most 5 % err.

    More than 86 have a probability below 1e-6.
    """
    chance = random.Random(4)
    enough, fewest = [0], 0  # of the canary's failures, by the number of failures
    for failures in range(1, 401):
        while fewest <= failures and error_split_e_value(fewest, failures, share) < 20:
            fewest += 1
        enough.append(fewest)
    alarms = 0
    for _ in range(1000):
        canary = 0
        for failures in range(1, 401):
            canary += chance.random() < share
            if canary >= enough[failures]:
                alarms += 1
                break
    assert alarms <= 86
