"""When requests are intended: seeded, lazy, and the same for any number of processes."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator

from pytest_llmdeploy.load.spec import Step, TrafficSpec


def arrivals(spec: TrafficSpec) -> Iterator[float]:
    """Yield the intended starts in seconds since the run's start, ascending.

    A renewal process of rate 1 (gaps constant, exponential, or gamma of mean 1) is mapped through
    the inverse of the steps' cumulative rate, so ramps and steps keep the gaps' distribution. It is
    scaled to have exactly the expected number of arrivals: what a rate is judged by was sent.
    """
    if spec.trace:
        yield from spec.trace
        return
    number = expected_arrivals(spec)
    whole = sum(itertools.islice(_gaps(spec), number + 1))
    scale = sum(_expected(step) for step in spec.steps) / whole
    gaps = _gaps(spec)
    due, before, begun, left = next(gaps) * scale, 0.0, 0.0, number
    for place, step in enumerate(spec.steps, 1):
        expected = _expected(step)
        while left and (due - before < expected or place == len(spec.steps)):
            yield begun + _inverse(step, due - before)
            due += next(gaps) * scale
            left -= 1
        before += expected
        begun += step.duration


def expected_arrivals(spec: TrafficSpec) -> int:
    """Return how many arrivals an open-loop schedule has; at least one."""
    if spec.trace:
        return len(spec.trace)
    return max(1, round(sum(_expected(step) for step in spec.steps)))


def dispersion(spec: TrafficSpec) -> float:
    """Return the variance of the number of arrivals over its mean, in a long time; 1 at least."""
    return max(1 / spec.burstiness, 1.0) if spec.arrivals == "gamma" else 1.0


def _expected(step: Step) -> float:
    return (step.rate + step.to) / 2 * step.duration


def _gaps(spec: TrafficSpec) -> Iterator[float]:
    generator = random.Random(spec.seed)  # noqa: S311 - a schedule, no secret
    if spec.arrivals == "constant":
        yield 0.0
        while True:
            yield 1.0
    shape = 1.0 if spec.arrivals == "poisson" else spec.burstiness
    while True:
        if shape == 1.0:
            yield generator.expovariate(1.0)
        else:
            yield generator.gammavariate(shape, 1.0 / shape)


def _inverse(step: Step, count: float) -> float:
    """Return when `count` arrivals are expected: the root of rate·t + (to - rate)·t²/2d."""
    acceleration = (step.to - step.rate) / step.duration
    root = math.sqrt(max(step.rate**2 + 2 * acceleration * count, 0.0))
    return 2 * count / (step.rate + root) if count else 0.0
