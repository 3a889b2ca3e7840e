"""Quantiles of the Beta and Student distributions, and the interval of a mean.

Everything rests on the regularised incomplete beta function: its continued fraction is DLMF 8.17.22
(https://dlmf.nist.gov/8.17.v), evaluated by the modified Lentz method.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

_TINY = 1e-300
_CONVERGED = 1e-15
_STEPS = 200


class MeanInterval(NamedTuple):
    """A mean and its one-sided bounds, in the unit of the values."""

    mean: float | None
    """None when there was no value."""
    lower: float | None
    """None when there were fewer than two values."""
    upper: float | None
    """None when there were fewer than two values."""


def mean_interval(values: Sequence[float], confidence: float) -> MeanInterval:
    """Return the mean of independent values, such as batch means, with Student-t bounds.

    Each bound holds with `confidence` by itself; both together hold with ``2 * confidence - 1``.
    Raises ValueError for a value that is not finite and a confidence outside (0.5, 1).
    """
    check_confidence(confidence)
    if not all(map(math.isfinite, values)):
        raise ValueError("the mean of values that are not finite has no interval")
    n = len(values)
    if not n:
        return MeanInterval(None, None, None)
    mean = math.fsum(values) / n
    if n == 1:
        return MeanInterval(mean, None, None)
    variance = math.fsum((value - mean) ** 2 for value in values) / (n - 1)
    reach = student_quantile(confidence, n - 1) * math.sqrt(variance / n)
    return MeanInterval(mean, mean - reach, mean + reach)


def check_confidence(confidence: float) -> None:
    """Raise ValueError for what is not strictly between 0.5, a coin's, and 1."""
    if not 0.5 < confidence < 1:
        raise ValueError(f"a confidence must lie between 0.5 and 1, not {confidence}")


def student_quantile(probability: float, freedom: float) -> float:
    """Return the quantile of Student's t with `freedom` > 0 degrees of freedom.

    ``t**2 / (freedom + t**2)`` has the distribution Beta(1/2, freedom / 2).
    """
    if probability < 0.5:
        return -student_quantile(1 - probability, freedom)
    central = beta_quantile(2 * probability - 1, 0.5, freedom / 2)
    if central < 0.5:
        return math.sqrt(freedom * central / (1 - central))
    outer = beta_quantile(2 * (1 - probability), freedom / 2, 0.5)
    return math.sqrt(freedom * (1 - outer) / outer)


def beta_quantile(probability: float, a: float, b: float) -> float:
    """Return the x with ``incomplete_beta(a, b, x) == probability``.

    Right to 8 digits at a + b = 10 million, to 12 at ten thousand. Newton steps, with the middle of
    the bracket instead of those that leave it. a, b > 0; 0 < probability < 1.
    """
    low, high, x = 0.0, 1.0, a / (a + b)
    log_beta = _log_beta(a, b)
    for _ in range(_STEPS):
        excess = incomplete_beta(a, b, x) - probability
        low, high = (low, x) if excess > 0 else (x, high)
        log_density = (a - 1) * math.log(x) + (b - 1) * math.log1p(-x) - log_beta
        step = excess * math.exp(min(-log_density, 700.0))
        last, x = x, x - step
        if not low < x < high:
            x = (low + high) / 2
        if abs(x - last) <= 1e-13 * last or not 0 < x < 1:
            break
    return x


def incomplete_beta(a: float, b: float, x: float) -> float:
    """Return the regularised incomplete beta function, the Beta(a, b) distribution at x.

    a, b > 0 and need not be whole. The relative error is below 1e-6 at a + b = 1e9, and far
    smaller below. The time grows with the root of the larger of a and b.
    """
    if x <= 0:
        return 0.0
    if x >= 1:
        return 1.0
    front = math.exp(a * math.log(x) + b * math.log1p(-x) - _log_beta(a, b))
    if x <= (a + 1) / (a + b + 2):
        return min(1.0, front / a * _continued_fraction(a, b, x))
    return max(0.0, 1 - front / b * _continued_fraction(b, a, 1 - x))


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def _continued_fraction(a: float, b: float, x: float) -> float:
    """Return 1/(1 + d1/(1 + d2/(1 + ...))) of DLMF 8.17.22."""
    numerator, denominator = 1.0, 1 / _nonzero(1 - (a + b) * x / (a + 1))
    value = denominator
    for m in range(1, 1000 + 20 * math.isqrt(int(max(a, b)))):
        a2 = a + 2 * m
        even = m * (b - m) * x / ((a2 - 1) * a2)
        denominator = 1 / _nonzero(1 + even * denominator)
        numerator = _nonzero(1 + even / numerator)
        value *= numerator * denominator
        odd = -(a + m) * (a + b + m) * x / (a2 * (a2 + 1))
        denominator = 1 / _nonzero(1 + odd * denominator)
        numerator = _nonzero(1 + odd / numerator)
        change = numerator * denominator
        value *= change
        if abs(change - 1) < _CONVERGED:
            return value
    raise ArithmeticError(f"the incomplete beta function of {a:g}, {b:g}, {x:g} did not converge")


def _nonzero(number: float) -> float:
    return number if abs(number) > _TINY else _TINY
