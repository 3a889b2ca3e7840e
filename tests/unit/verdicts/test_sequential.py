"""A share judged while requests come in; what stopping at will may not do."""

from __future__ import annotations

import math
import random

import pytest

from pytest_llmdeploy.verdicts import Verdict
from pytest_llmdeploy.verdicts.sequential import judge_share_anytime
from pytest_llmdeploy.verdicts.shares import smallest_n

P, F, I = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE  # noqa: E741


@pytest.mark.parametrize(
    ("bad", "n", "limit", "verdict", "log_e"),  # scipy.special.betaln, xlogy
    [
        (0, 0, 0.05, I, 0.0),
        (0, 10, 0.05, I, -1.223219352720946),
        (3, 100, 0.05, I, -2.0550115653802106),
        (30, 100, 0.05, F, 29.844874802155058),
        (0, 500, 0.01, I, 1.3452489346562508),
    ],
)
def test_verdicts(bad: int, n: int, limit: float, verdict: Verdict, log_e: float) -> None:
    judged = judge_share_anytime(bad, n, limit, 0.05)
    assert judged.verdict is verdict
    assert math.log(judged.e_value) == pytest.approx(log_e, abs=1e-9)


def test_overwhelming_evidence_stays_a_number() -> None:
    # The true logarithm is 1539.7356 (scipy.special.betaln).
    assert judge_share_anytime(5000, 1_000_000, 0.01, 1e-9) == (P, math.exp(700))


@pytest.mark.parametrize(
    ("limit", "alpha", "n"),  # the first n in a table by scipy.special.betaln
    [(0.01, 0.05, 680), (0.05, 0.05, 116), (0.01, 0.01, 851), (0.5, 0.05, 7), (0.1, 0.01, 70)],
)
def test_the_fewest_requests_that_pass(limit: float, alpha: float, n: int) -> None:
    assert judge_share_anytime(0, n, limit, alpha).verdict is P
    assert judge_share_anytime(0, n - 1, limit, alpha).verdict is I
    assert n > (smallest_n(limit, 1 - alpha) or math.inf)


def test_nothing_shows_that_nothing_is_ever_bad() -> None:
    assert judge_share_anytime(0, 1_000_000, 0.0, 0.05).verdict is I
    assert judge_share_anytime(1, 1_000_000, 0.0, 0.05).verdict is F


@pytest.mark.parametrize(("bad", "n"), [(-1, 3), (4, 3), (0, -1)])
def test_impossible_counts(bad: int, n: int) -> None:
    with pytest.raises(ValueError) as raised:
        judge_share_anytime(bad, n, 0.05, 0.05)
    assert str(raised.value) == f"{bad} bad requests of {n} cannot be"


@pytest.mark.parametrize("limit", [-0.1, 1.0, math.nan])
def test_impossible_limits(limit: float) -> None:
    with pytest.raises(ValueError) as raised:
        judge_share_anytime(0, 10, limit, 0.05)
    message = f"the limit of a share must be at least 0 and below 1, not {limit}"
    assert str(raised.value) == message


@pytest.mark.parametrize("alpha", [0.0, 1.0, math.nan])
def test_impossible_alphas(alpha: float) -> None:
    with pytest.raises(ValueError) as raised:
        judge_share_anytime(0, 10, 0.05, alpha)
    assert str(raised.value) == f"alpha must lie between 0 and 1, not {alpha}"


def decide(chance: random.Random, share: float, limit: float, most: int) -> Verdict:
    """Look after every request, and stop at the first decision."""
    bad = 0
    for n in range(1, most + 1):
        bad += chance.random() < share
        verdict = judge_share_anytime(bad, n, limit, 0.05).verdict
        if verdict is not I:
            return verdict
    return I


@pytest.mark.parametrize("share", [0.1, 0.102, 0.098])
def test_looking_after_every_request_gives_no_more_false_alarms(share: float) -> None:
    """Of 400 runs at most 5 % err; more than 44 have a probability below 1e-6.

    At the limit itself either decision counts as an error.
    """
    chance = random.Random(2)
    decisions = [decide(chance, share, limit=0.1, most=1000) for _ in range(400)]
    wrong = {0.1: (P, F), 0.102: (P,), 0.098: (F,)}[share]
    assert sum(decision in wrong for decision in decisions) <= 44


def test_what_is_far_from_the_limit_is_decided() -> None:
    """All of 1000 simulated runs were decided rightly, so more than 98.6 % are.

    More than 5 of 20 that are not have a probability below 1e-6.
    """
    chance = random.Random(3)
    good = [decide(chance, 0.02, limit=0.1, most=2000) for _ in range(20)]
    poor = [decide(chance, 0.25, limit=0.1, most=2000) for _ in range(20)]
    assert good.count(P) >= 15
    assert poor.count(F) >= 15
