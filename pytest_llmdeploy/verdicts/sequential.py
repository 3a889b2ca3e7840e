"""Judge a share of bad requests again and again while they come in, and stop at any time.

Bounds made for one look fail when looked at until they please. Here the evidence against the limit
is a martingale: the likelihood of what came, averaged over all shares with the weight Beta(1/2,
1/2), over its likelihood at the limit (Robbins, "Statistical methods related to the law of the
iterated logarithm", Annals of Mathematical Statistics 41, 1970). By Ville's inequality it ever
reaches 1 / alpha with a probability of at most alpha when the share is at the limit.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from pytest_llmdeploy.verdicts.verdict import Verdict

LARGEST_EXPONENT = 700.0
"""Of e-values, which so stay finite."""


class AnytimeVerdict(NamedTuple):
    """What the requests so far say about the limit."""

    verdict: Verdict
    e_value: float
    """Evidence that the share is not the limit: decided at 1 / alpha. At most 1e304."""


def judge_share_anytime(bad: int, n: int, limit: float, alpha: float) -> AnytimeVerdict:
    """Judge whether the share of bad requests is below `limit`, however often this is called.

    PASS when the share is below the limit and the e-value at least ``1 / alpha``, FAIL when it is
    above; else INCONCLUSIVE. `alpha` is for both sides together: whatever the true share, the
    probability that any look ever gives the wrong one of PASS and FAIL is at most alpha, also when
    the first decision ends the looking. A limit of 0 can FAIL by one bad request and never PASS.
    Raises ValueError for a limit outside [0, 1), an alpha outside (0, 1) and impossible counts.
    """
    if not 0 <= bad <= n < math.inf:
        raise ValueError(f"{bad} bad requests of {n} cannot be")
    log_e = log_e_value(bad, n, limit)
    check_alpha(alpha)
    e_value = math.exp(min(log_e, LARGEST_EXPONENT))
    if log_e < -math.log(alpha):
        return AnytimeVerdict(Verdict.INCONCLUSIVE, e_value)
    return AnytimeVerdict(Verdict.PASS if bad < limit * n else Verdict.FAIL, e_value)


def log_e_value(bad: float, n: float, limit: float) -> float:
    """Return the logarithm of the mixture's likelihood over the limit's; infinite where it is 0.

    The counts may be fractions: those that are expected later. Raises ValueError for a limit
    outside [0, 1).
    """
    if not 0 <= limit < 1:
        raise ValueError(f"the limit of a share must be at least 0 and below 1, not {limit}")
    if limit == 0 and bad:
        return math.inf
    mixture = math.lgamma(bad + 0.5) + math.lgamma(n - bad + 0.5) - math.lgamma(n + 1)
    at_limit = (bad * math.log(limit) if bad else 0.0) + (n - bad) * math.log1p(-limit)
    return mixture - math.log(math.pi) - at_limit


def check_alpha(alpha: float) -> None:
    """Raise ValueError for a probability of error that is not strictly between 0 and 1."""
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must lie between 0 and 1, not {alpha}")
