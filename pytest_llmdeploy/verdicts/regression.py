"""Judge a new version beside the running one, as often as one likes.

Evidence comes from `error_split` and `distance`; both hold however often one looks. Whatever the
verdict is acted upon, alpha bounds two probabilities: that a version which is no worse ever FAILs,
and that one which is worse by more than the margin ever PASSes as non-inferior. For errors half of
alpha is the e-value's, half the bounds'.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pytest_llmdeploy.verdicts.distance import difference_bounds, ratio_bounds
from pytest_llmdeploy.verdicts.error_split import error_split_e_value
from pytest_llmdeploy.verdicts.sequences import Buckets, Distribution, quantile_of
from pytest_llmdeploy.verdicts.sequential import check_alpha
from pytest_llmdeploy.verdicts.verdict import Verdict

MOST_REQUESTS = 10_000_000
"""Where the search for the number of requests that would decide gives up."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What the requests of two versions say about one signal."""

    verdict: Verdict
    stable: float | None
    """Estimate for the running version: a share, or seconds; None without requests."""
    canary: float | None
    """Estimate for the new version."""
    low: float | None
    """The difference of shares, or the ratio of quantiles, is at least this, at all looks at once;
    None where it is not known."""
    high: float | None
    """It is at most this."""
    e_value: float | None
    """Evidence that the canary fails more often (errors only)."""
    n_stable: int
    n_canary: int
    needed: int | None
    """Requests of the canary, roughly and those made among them, at which it would be decided if
    all stays as it is. None when decided, and where no number would do."""
    reason: str


def compare_errors(
    stable: tuple[int, int],
    canary: tuple[int, int],
    *,
    share: float,
    margin: float,
    alpha: float,
    min_requests: int,
    noninferior: bool,
) -> Comparison:
    """Compare shares of failed requests, each version's as (failed, requests).

    `share` is the part of the requests that the canary was to get, 0 to 1, at most: 0.05 at a
    weight of 5. `margin` is the largest increase of the share of failures. PASS when the increase
    is shown to be within the margin, even where the canary is shown to be worse; with `noninferior`
    false, also when nothing says otherwise: no evidence of a regression, and the estimate is within
    the margin. FAIL when the canary is shown to be worse, and not shown to be within the margin, or
    shown to be worse by more than it. Fewer than `min_requests` of either never PASS.
    Raises ValueError for what cannot be.
    """
    for failed, requests in (stable, canary):
        if not 0 <= failed <= requests:
            raise ValueError(f"{failed} failed requests of {requests} cannot be")
    _check(margin, alpha, min_requests)
    if not 0 <= share <= 1:
        raise ValueError(f"the share of the requests must lie between 0 and 1, not {share}")
    threshold = 2 / alpha
    counted = f"{canary[0]} of {canary[1]} against {stable[0]} of {stable[1]} failed"
    known = bool(canary[1] and stable[1])
    # A version without requests has no failure to split.
    e_value = (
        error_split_e_value(canary[0], canary[0] + stable[0], share)
        if 0 < share < 1 and known
        else None
    )
    low, high = difference_bounds(stable, canary, alpha / 2)
    rates = [failed / requests if requests else None for failed, requests in (stable, canary)]
    worse = e_value is not None and e_value >= threshold
    within = known and high <= margin
    estimate = canary[0] / canary[1] - stable[0] / stable[1] if known else None
    verdict = _decide(
        within=within,
        failed=(known and low > margin) or worse,
        enough=min(stable[1], canary[1]) >= min_requests,
        unsuspicious=not noninferior and estimate is not None and estimate <= margin,
    )
    needed = None
    if verdict is Verdict.INCONCLUSIVE and known:
        needed = _needed(
            canary[1],
            max(1, min_requests / min(stable[1], canary[1])),
            lambda factor: _errors_decided(
                [(factor * failed, factor * requests) for failed, requests in (stable, canary)],
                share=share,
                margin=margin,
                alpha=alpha,
            ),
        )
    if e_value is None:
        evidence = ""
    else:
        evidence = f"e-value {_figure(e_value)} of {_figure(threshold)} needed, "
    span = f"{evidence}difference between {100 * low:+.2f} and {100 * high:+.2f} points"
    limit = f"the margin of {100 * margin:g} points"
    said = _said(
        verdict,
        limit,
        within=within,
        worse=worse,
        beyond=low > margin,
        few=_few(stable[1], canary[1], min_requests),
        needed=needed,
    )
    return Comparison(
        verdict=verdict,
        stable=rates[0],
        canary=rates[1],
        low=low if known else None,
        high=high if known else None,
        e_value=e_value,
        n_stable=stable[1],
        n_canary=canary[1],
        needed=needed,
        reason=f"{counted}: {span}; {said}",
    )


def compare_quantiles(
    stable: Buckets,
    canary: Buckets,
    q: float,
    *,
    margin: float,
    alpha: float,
    min_requests: int,
    noninferior: bool,
) -> Comparison:
    """Compare the q-quantiles of two distributions of seconds.

    `margin` is the largest relative increase: 0.25 is a quarter slower. PASS when the ratio is
    shown to be within ``1 + margin``; with `noninferior` false, also when it is not shown to be
    above 1 and the estimate is within. FAIL when the ratio is shown to be above. Fewer than
    `min_requests` values of either never PASS. Buckets wider than the margin may never decide.
    Raises ValueError for what cannot be.
    """
    _check(margin, alpha, min_requests)
    sides = Distribution.of(stable), Distribution.of(canary)
    n_stable, n_canary = sides[0].total, sides[1].total
    low, high = ratio_bounds(*sides, q, alpha)
    estimates = quantile_of(stable, q), quantile_of(canary, q)
    ratio = estimates[1] / estimates[0] if estimates[0] and estimates[1] is not None else None
    within = high is not None and high <= 1 + margin
    beyond = low is not None and low > 1 + margin
    worse = low is not None and low > 1
    verdict = _decide(
        within=within,
        failed=beyond,
        enough=min(n_stable, n_canary) >= min_requests,
        unsuspicious=not noninferior and not worse and ratio is not None and ratio <= 1 + margin,
    )
    needed = None
    if verdict is Verdict.INCONCLUSIVE and n_stable and n_canary:
        needed = _needed(
            n_canary,
            max(1, min_requests / min(n_stable, n_canary)),
            lambda factor: _quantiles_decided(sides, factor, q, margin, alpha),
        )
    said = _said(
        verdict,
        f"the margin of {100 * margin:g} %",
        within=within,
        worse=worse,
        beyond=beyond,
        few=_few(n_stable, n_canary, min_requests),
        needed=needed,
    )
    lowest = "unknown" if low is None else f"{low:.2f}"
    highest = "unknown" if high is None else f"{high:.2f}"
    counted = (
        f"p{100 * q:g} {_seconds(estimates[1])} of {n_canary} against"
        f" {_seconds(estimates[0])} of {n_stable}"
    )
    return Comparison(
        verdict=verdict,
        stable=estimates[0],
        canary=estimates[1],
        low=low,
        high=high,
        e_value=None,
        n_stable=n_stable,
        n_canary=n_canary,
        needed=needed,
        reason=f"{counted}: ratio between {lowest} and {highest}; {said}",
    )


def _decide(*, within: bool, failed: bool, enough: bool, unsuspicious: bool) -> Verdict:
    if failed and not within:
        return Verdict.FAIL
    if enough and (within or unsuspicious):
        return Verdict.PASS
    return Verdict.INCONCLUSIVE


def _said(
    verdict: Verdict,
    limit: str,
    *,
    within: bool,
    worse: bool,
    beyond: bool,
    few: str | None,
    needed: int | None,
) -> str:
    """Return what the figures mean."""
    if verdict is Verdict.FAIL:
        return f"worse by more than {limit}" if beyond else f"worse, and not shown within {limit}"
    if verdict is Verdict.PASS:
        if within:
            return f"worse, but within {limit}" if worse else f"within {limit}"
        return f"nothing says that it is worse, but it is not shown to be within {limit}"
    if few is not None:
        return few
    about = "and no number of requests would do if all stays as it is"
    if needed is not None:
        about = f"about {needed} requests of the canary would do"
    return f"not enough to tell whether it is within {limit}, {about}"


def _few(n_stable: int, n_canary: int, wanted: int) -> str | None:
    """Return which version has too few requests."""
    fewest = min(n_stable, n_canary)
    who = "the canary" if n_canary == fewest else "the stable version"
    if fewest == 0:
        return f"no request of {who} to compare"
    return f"{fewest} requests of {who} are fewer than {wanted}" if fewest < wanted else None


def _needed(n_canary: int, least: float, decided: Callable[[float], bool]) -> int | None:
    """Return n_canary times the least factor, to a twentieth, at which it is decided."""
    low, high = 1.0, max(least, 1.05)
    while not decided(high):
        low, high = high, 2 * high
        if high * n_canary > MOST_REQUESTS:
            return None
    while high > 1.05 * max(low, least):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if decided(middle) else (middle, high)
    return _rounded(high * n_canary)


def _errors_decided(
    sides: Sequence[tuple[float, float]], *, share: float, margin: float, alpha: float
) -> bool:
    stable, canary = sides
    low, high = difference_bounds(stable, canary, alpha / 2)
    if high <= margin or low > margin:
        return True
    if not 0 < share < 1:
        return False
    return error_split_e_value(canary[0], canary[0] + stable[0], share) >= 2 / alpha


def _quantiles_decided(
    sides: tuple[Distribution, Distribution], factor: float, q: float, margin: float, alpha: float
) -> bool:
    low, high = ratio_bounds(*sides, q, alpha, factor=factor)
    return (high is not None and high <= 1 + margin) or (low is not None and low > 1 + margin)


def _rounded(number: float) -> int:
    """Return two digits of it: a rough figure should look like one."""
    unit: int = 10 ** max(0, len(str(math.ceil(number))) - 2)
    return math.ceil(number / unit) * unit


def _check(margin: float, alpha: float, min_requests: int) -> None:
    if not 0 < margin < math.inf:
        raise ValueError(f"a margin must be above 0 and finite, not {margin}")
    check_alpha(alpha)
    if min_requests < 1:
        raise ValueError(f"min_requests must be at least 1, not {min_requests}")


def _figure(number: float) -> str:
    return f"{number:.3g}" if number < 1e6 else f"{number:.0e}"


def _seconds(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3g} s"
