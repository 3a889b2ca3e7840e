"""Whole canaries of a version that is the same: how often they are rolled back as worse."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special

from pytest_llmdeploy.verdicts import Verdict
from pytest_llmdeploy.verdicts.regression import compare_errors, compare_quantiles

CANARIES = 2000
ALPHA = 0.05
WEIGHTS = (5, 25, 50)
LOOKS = 8
REQUESTS = 600
"""Of both versions, between two looks."""
EDGES = [2 ** (i / 8) for i in range(-16, 33)]


@pytest.mark.parametrize("incident", [False, True])
def test_a_version_that_is_the_same_is_hardly_ever_rolled_back(incident: bool) -> None:
    """Of 2000 canaries at most 5 % are, by errors or p95; more than 150 have less than 1e-6.

    Also where both fail ten times as often for a while. Where no estimate is beyond the margin,
    and the e-value below what is needed, there is no FAIL: the functions are asked about the rest.
    """
    chance = np.random.default_rng(11)
    alpha = ALPHA / (2 * len(WEIGHTS))
    cells = np.diff(special.ndtr(np.log([0.0001, *EDGES]) / 0.5))
    cells /= cells.sum()
    alarms = np.zeros(CANARIES, dtype=bool)
    asked = 0
    for weight in WEIGHTS:
        share = weight / 100
        shape = (CANARIES, LOOKS)
        rate = np.full(LOOKS, 0.01)
        rate[4:7] *= 10 if incident else 1
        n_canary = chance.binomial(REQUESTS, share, shape)
        n = [REQUESTS - n_canary, n_canary]
        errors = [chance.binomial(side, rate) for side in n]
        seconds = [
            np.cumsum(chance.multinomial(side - bad, cells), axis=1)
            for side, bad in zip(n, errors, strict=True)
        ]
        n, errors = ([np.cumsum(side, axis=1) for side in sides] for sides in (n, errors))
        suspicious = errors[1] / np.maximum(n[1], 1) > errors[0] / n[0] + 0.02
        log_e = special.betaln(errors[1] + 0.5, errors[0] + 0.5) - special.betaln(0.5, 0.5)
        log_e -= errors[1] * np.log(share) + errors[0] * np.log1p(-share)
        # Cut off at the share, the mixture grows by no more than what is cut off.
        log_e -= np.log1p(-special.betainc(0.5, 0.5, share))
        suspicious |= log_e >= np.log(2 / alpha)
        edges = [
            np.argmax(np.cumsum(side, axis=2) >= 0.95 * side.sum(axis=2)[..., None], axis=2)
            for side in seconds
        ]
        slow = np.take(EDGES, edges[1]) > 1.25 * np.take(EDGES, np.maximum(edges[0] - 1, 0))
        for row, look in np.argwhere(suspicious | slow):
            if alarms[row]:
                continue
            asked += 1
            verdicts = set()
            if suspicious[row, look]:
                counts = [
                    (int(bad[row, look]), int(all_[row, look]))
                    for bad, all_ in zip(errors, n, strict=True)
                ]
                verdicts.add(
                    compare_errors(
                        counts[0],
                        counts[1],
                        share=share,
                        margin=0.02,
                        alpha=alpha,
                        min_requests=10**9,
                        noninferior=False,
                    ).verdict
                )
            if slow[row, look]:
                sides = [
                    tuple(zip(EDGES, side[row, look].tolist(), strict=True)) for side in seconds
                ]
                verdicts.add(
                    compare_quantiles(
                        sides[0],
                        sides[1],
                        0.95,
                        margin=0.25,
                        alpha=alpha,
                        min_requests=10**9,
                        noninferior=False,
                    ).verdict
                )
            alarms[row] = Verdict.FAIL in verdicts
    assert asked > 100
    assert alarms.sum() <= 150
