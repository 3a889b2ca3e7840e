"""Tell whether a queue grows while requests arrive at a constant rate.

The number in flight at one moment resembles that a moment before, so a line through all samples
would look far more certain than it is. The line goes through the means of a few long batches
instead, which are nearly independent (the method of batch means, Law, "Simulation Modeling and
Analysis", chapter 9).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from pytest_llmdeploy.verdicts.intervals import student_quantile

CONFIDENCE = 0.99
BATCHES = 8
FEWEST_SAMPLES = 10
SHORTEST_DURATION = 5.0
"""Seconds from the first sample to the last."""
TOLERATED_SHARE = 0.02
"""Growth, as a share of the arrival rate, that counts as standing still."""
TOLERATED_GROWTH = 4.0
"""Growth over all samples, in requests, that counts as standing still."""
TOLERATED_DEVIATIONS = 4.0
"""The same where batches depend on each other, in standard deviations of what chance makes."""


@dataclass(frozen=True, slots=True)
class Drift:
    """How the number of requests in flight went on."""

    slope: float | None
    """Requests a second; None for too few samples, and too short a time."""
    lower: float | None
    """The one-sided 99 % lower bound of the slope."""
    stable: bool | None
    """Whether no growth was shown; None when nothing could be told."""


def judge_backlog(
    times: Sequence[float],
    in_flight: Sequence[float],
    rate: float,
    *,
    answer_duration: float = 0.0,
    dispersion: float = 1.0,
) -> Drift:
    """Judge whether the number in flight grows, at `rate` arrivals a second.

    Samples are taken at ascending `times` in seconds, after the warm-up and `answer_duration`:
    while the first answers are still to come, any service fills. Not stable when the lower bound
    of the slope is above 2 % of the rate and the line rises by 4 requests or more. Stable means
    that no growth was shown, so a probe of a few seconds shows little. Simulated with one server
    of 20/s and random arrivals, 60 s at 1.2 times its capacity were not stable in 99.6 % of the
    runs (10 s in 81 %), 60 s at 0.7 times were stable in all of 10000, at 0.95 times in 97 %.

    Answers that take longer than a batch make all batches one sample: they agree, whatever chance
    has made of them. Then the line must also rise by more than 4 standard deviations of the
    difference of two moments where nobody queues. That is the number of arrivals during an answer,
    whose variance is its mean times `dispersion` (1 for random arrivals). Simulated with answers of
    3 to 20 s in 10 to 30 s, up to 16 % were not stable without this, and less than 0.5 % with it.

    Raises ValueError for samples that are not finite or not in order, and a rate that is not
    above 0.
    """
    if not 0 < rate < math.inf:
        raise ValueError(f"an arrival rate must be above 0, not {rate}")
    points = list(zip(times, in_flight, strict=True))
    if not all(math.isfinite(number) for point in points for number in point):
        raise ValueError("samples of the number in flight must be finite")
    if any(later < sooner for sooner, later in pairwise(times)):
        raise ValueError("samples of the number in flight must be in the order of time")
    if len(points) < FEWEST_SAMPLES or times[-1] - times[0] < SHORTEST_DURATION:
        return Drift(None, None, None)
    batches = _batch_means(points)
    slope, lower = _slope(batches)
    span = times[-1] - times[0]
    tolerated = TOLERATED_GROWTH
    if answer_duration > span / BATCHES:
        chance = math.sqrt(2 * max(batches[0][1], 0.0) * dispersion)
        tolerated = max(tolerated, TOLERATED_DEVIATIONS * chance)
    growing = lower > TOLERATED_SHARE * rate and slope * span >= tolerated
    return Drift(slope, lower, not growing)


def _batch_means(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    edges = [len(points) * batch // BATCHES for batch in range(BATCHES + 1)]
    batches = [points[start:end] for start, end in pairwise(edges)]
    return [
        (math.fsum(t for t, _ in batch) / len(batch), math.fsum(y for _, y in batch) / len(batch))
        for batch in batches
    ]


def _slope(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return the slope of the least-squares line and its lower bound."""
    n = len(points)
    t_mean = math.fsum(t for t, _ in points) / n
    y_mean = math.fsum(y for _, y in points) / n
    spread = math.fsum((t - t_mean) ** 2 for t, _ in points)
    slope = math.fsum((t - t_mean) * (y - y_mean) for t, y in points) / spread
    residuals = math.fsum((y - y_mean - slope * (t - t_mean)) ** 2 for t, y in points)
    error = math.sqrt(residuals / (n - 2) / spread)
    return slope, slope - student_quantile(CONFIDENCE, n - 2) * error
