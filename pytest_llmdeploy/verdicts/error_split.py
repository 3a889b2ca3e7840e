"""Errors must split like the traffic: evidence that a version fails more often than its neighbour.

If the new version is no worse, each failed request is one of its own with a probability of at most
its share of the requests, whatever makes requests fail and however often. So the failures alone
are counted, and an incident that both versions share moves nothing (Lindon and Malek,
"Anytime-Valid Inference for Multinomial Count Data", NeurIPS 2022).
"""

from __future__ import annotations

import math

from pytest_llmdeploy.verdicts.intervals import incomplete_beta
from pytest_llmdeploy.verdicts.sequential import LARGEST_EXPONENT


def error_split_e_value(canary: float, failures: float, share: float) -> float:
    """Return the evidence that more than `share` of all failures are the canary's.

    `canary` of the `failures` are its own; `share` is its share of the requests as it was set
    before they were sent, or an upper bound of it. The likelihood of what came is averaged over
    the probabilities above `share` with the weight Beta(1/2, 1/2), cut off there, and divided by
    its likelihood at `share`. For a smaller probability each factor is worth at most 1 on average,
    so by Ville's inequality a version that is no worse ever reaches 1 / alpha with a probability
    of at most alpha, at whatever moments one looks. 1 before the first failure; at most 1e304. The
    counts may be fractions: those that are expected later.
    Raises ValueError for a share outside (0, 1) and for impossible counts.
    """
    if not 0 <= canary <= failures < math.inf:
        raise ValueError(f"{canary} of {failures} failures cannot be")
    if not 0 < share < 1:
        raise ValueError(f"the share of the requests must lie between 0 and 1, not {share}")
    a, b = canary + 0.5, failures - canary + 0.5
    beyond = incomplete_beta(b, a, 1 - share)
    if beyond == 0:
        return 0.0
    mixture = math.lgamma(a) + math.lgamma(b) - math.lgamma(failures + 1) - math.log(math.pi)
    weight = math.log(beyond / incomplete_beta(0.5, 0.5, 1 - share))
    at_share = canary * math.log(share) + (failures - canary) * math.log1p(-share)
    return math.exp(min(mixture + weight - at_share, LARGEST_EXPONENT))
