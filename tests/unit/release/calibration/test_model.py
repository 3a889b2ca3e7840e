from __future__ import annotations

import math
from collections import Counter
from random import Random

import pytest
from scipy import stats

from pytest_llmdeploy.ports import Tally
from pytest_llmdeploy.release.canary.calibration.cases import Effect
from pytest_llmdeploy.release.canary.calibration.figures import Figures, figures_of, quantile
from pytest_llmdeploy.release.canary.calibration.model import Drawn, binomial, worsened
from pytest_llmdeploy.release.canary.looks import CANARY, STABLE, Look, Missing, Value
from tests.unit.release.calibration.samples import FIGURES


@pytest.mark.parametrize(("n", "p"), [(10, 0.3), (200, 0.02), (1000, 0.5), (1000, 0.97)])
def test_a_binomial_number_is_distributed_as_it_must_be(n: int, p: float) -> None:
    """Fails by chance with a probability of 1e-7 for each of four seeds' sets."""
    random = Random(5)
    drawn = Counter(binomial(random, n, p) for _ in range(20_000))
    edges = sorted({int(stats.binom.ppf(q / 10, n, p)) for q in range(1, 10)})
    seen, expected, below = [], [], -1
    for edge in (*edges, n):
        seen.append(sum(count for k, count in drawn.items() if below < k <= edge))
        expected.append(20_000 * (stats.binom.cdf(edge, n, p) - stats.binom.cdf(below, n, p)))
        below = edge
    assert stats.chisquare(seen, expected).pvalue > 1e-7


def test_a_binomial_number_at_the_ends() -> None:
    random = Random(1)
    assert (binomial(random, 500, 0.0), binomial(random, 500, 1.0)) == (0, 500)
    assert (binomial(random, 0, 0.5), binomial(random, 5, 0.0), binomial(random, 5, 1)) == (0, 0, 5)


def test_given_figures_have_the_quantiles_that_were_given() -> None:
    assert quantile(FIGURES.latency, 0.5) == pytest.approx(0.2, rel=0.01)
    assert quantile(FIGURES.latency, 0.95) == pytest.approx(0.4, rel=0.01)
    assert quantile(FIGURES.ttft, 0.5) == pytest.approx(0.06, rel=0.01)
    assert sum(part for _, _, part in FIGURES.latency) == pytest.approx(1)
    assert Figures.from_json(FIGURES.to_json()) == FIGURES


@pytest.mark.parametrize(
    ("rate", "errors", "p50", "p95"),
    [(0, 0, 1, 2), (1, 1, 1, 2), (1, 0, 2, 1), (math.nan, 0, 1, 2)],
)
def test_figures_that_cannot_be(rate: float, errors: float, p50: float, p95: float) -> None:
    with pytest.raises(ValueError, match="figures need rate > 0"):
        Figures.given(rate, errors, p50, p95)


def test_effects() -> None:
    slow = worsened(FIGURES, Effect(slower=1.5))
    assert quantile(slow.latency, 0.95) == pytest.approx(1.5 * quantile(FIGURES.latency, 0.95))
    tail = worsened(FIGURES, Effect(tail=0.1, tail_factor=3))
    assert quantile(tail.latency, 0.5) == pytest.approx(0.2, rel=0.08)
    assert quantile(tail.latency, 0.95) > 1.4 * quantile(FIGURES.latency, 0.95)
    assert sum(part for _, _, part in tail.latency) == pytest.approx(1)
    highs = [high for _, high, _ in tail.latency]
    assert highs == sorted(set(highs))
    first = worsened(FIGURES, Effect(ttft=2))
    assert quantile(first.ttft, 0.5) == pytest.approx(2 * quantile(FIGURES.ttft, 0.5))
    assert quantile(first.latency, 0.5) == pytest.approx(0.26, rel=0.02)
    bad = worsened(FIGURES, Effect(errors=0.1, truncated=0.1))
    assert bad.error_rate == pytest.approx(1 - 0.995 * 0.9 * 0.9)


def test_drawn_values_come_back_as_buckets() -> None:
    drawn = Drawn(FIGURES.latency)
    come = drawn.draw(Random(2), 5000)
    assert come.total() == drawn.total == sum(count for _, count in drawn.buckets()) == 5000
    low, high = drawn.around(0.95)
    assert low < 0.42
    assert high > 0.38
    assert drawn.value(come, 0.5) == pytest.approx(0.2, rel=0.05)  # 1e-9: five standard errors
    drawn.clear()
    assert (drawn.buckets(), drawn.total) == ((), 0)


def _look(phase: str, elapsed: float, **more: object) -> Look:
    fast, slow = ((0.1, 80), (0.2, 20)), ((0.1, 30), (0.4, 10))
    tallies = {STABLE: Tally(101, 1, fast), CANARY: Tally(43, 3, slow, ((0.05, 40),))}
    return Look(phase, 10, 0, elapsed, tallies, "client", **more)  # type: ignore[arg-type]


def test_figures_are_those_of_both_versions_at_each_phases_end() -> None:
    found = figures_of(
        [
            _look("weight-10", 1.0),
            _look("weight-10", 4.0, sample={"memory_usage": Value(0.5, "q", "scrape")}),
            _look("weight-50", 6.0, sample={"memory_usage": Missing("no-data", "none")}),
        ]
    )
    assert (found.requests, found.rate) == (288, 28.8)
    assert found.error_rate == pytest.approx(8 / 288)
    assert [part for _, _, part in found.latency] == pytest.approx([220 / 280, 40 / 280, 20 / 280])
    assert found.gauges == {"memory_usage": (0.5,)}
    assert found.sources == {"tally": "client", "memory_usage": "scrape"}
    assert not found.coarse


def test_without_a_request_there_are_no_figures() -> None:
    empty = Look("weight-10", 10, 0, 1.0, {STABLE: Missing("no-data", "none")}, "client")
    with pytest.raises(ValueError, match="has no request to take figures from"):
        figures_of([empty])


def test_a_servers_edges_stay_where_a_version_is_slower() -> None:
    buckets = ((0.1, 50), (0.25, 50), (math.inf, 0))
    look = Look("a", 10, 0, 1.0, {STABLE: Tally(100, 0, buckets)}, "prometheus")
    found = figures_of([look])
    assert found.coarse
    slow = worsened(found, Effect(slower=2))
    assert [high for _, high, _ in slow.latency] == [0.1, 0.25, math.inf]
    # Of 0 to 0.2 one half is below 0.1; of 0.2 to 0.5 one sixth is below 0.25.
    assert [part for _, _, part in slow.latency] == pytest.approx([1 / 4, 1 / 3, 5 / 12])
