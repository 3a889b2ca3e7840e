from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from pytest_llmdeploy.config.canary import CanaryConfig, PhaseConfig
from pytest_llmdeploy.release.canary.calibration.cases import Effect
from pytest_llmdeploy.release.canary.calibration.figures import Figures
from pytest_llmdeploy.release.canary.calibration.simulation import (
    CAUGHT,
    INCONCLUSIVE,
    MOST_LOOKS,
    PROMOTED,
    Simulated,
    SimulatedRun,
    judged_by,
    moments,
)
from pytest_llmdeploy.release.canary.calibration.suspicion import Suspicion
from tests.unit.release.calibration.samples import FIGURES, policy, simulated


def outcomes(found: Simulated) -> dict[str, int]:
    return dict(Counter(run.outcome for run in found.runs))


def test_a_version_that_is_no_worse_passes() -> None:
    """Alpha is 0.05; more than 15 of 60 alarms has a probability below 1e-7, whatever the seed."""
    found = simulated("a-a")
    assert outcomes(found).get(CAUGHT, 0) <= 15
    assert outcomes(found)[PROMOTED] >= 45
    run = next(run for run in found.runs if run.outcome == PROMOTED)
    assert (run.weight, run.by) == (100, "")
    assert run.seconds >= 70
    assert run.exposed >= 100 * 30 * 0.2


@pytest.mark.parametrize("case", ["errors-5", "slower-50", "slow-tail"])
def test_what_is_far_beyond_a_margin_is_not_promoted(case: str) -> None:
    """Alpha bounds that one is promoted by 0.05; that more than 15 of 60 are, by 1e-7."""
    found = simulated(case)
    assert outcomes(found).get(PROMOTED, 0) <= 15
    assert outcomes(found)[CAUGHT] >= (45 if case == "errors-5" else 1)
    caught = [run for run in found.runs if run.outcome == CAUGHT]
    assert all(run.seconds > 0 and run.exposed > 0 and run.by for run in caught)


def test_same_seed_same_canaries() -> None:
    assert simulated("errors-2", number=15).runs == simulated("errors-2", number=15).runs
    assert simulated("errors-2", number=15).runs != simulated("errors-2", number=15, seed=2).runs


def test_too_little_traffic_never_promotes() -> None:
    found = simulated("a-a", figures=replace(FIGURES, rate=3.0), number=20)
    assert outcomes(found) == {INCONCLUSIVE: 20}
    assert {run.seconds for run in found.runs} <= {60.0, 120.0}


def test_asking_the_judge_at_each_look_tells_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """No draw depends on when the judge is asked, so canaries can be compared one by one."""
    cases = ("a-a", "errors-5", "slower-50")
    one = policy(phases=[{"weight": 50, "duration": 30, "max_duration": 60}])
    spared = {(case, seed): _only(case, one, seed) for case in cases for seed in range(8)}
    monkeypatch.setattr(Suspicion, "surely", lambda _self, _sample: True)
    for (case, seed), run in spared.items():
        full = _only(case, one, seed)
        assert (run.outcome, run.by) == (full.outcome, full.by)
        assert full.seconds <= run.seconds <= 1.2 * full.seconds + 2


def _only(case: str, config: CanaryConfig, seed: int) -> SimulatedRun:
    (run,) = simulated(case, config, number=1, seed=seed).runs
    return run


def test_an_absolute_limit_of_what_is_sampled_catches() -> None:
    alone = dict.fromkeys(("error_rate", "latency_p95"))
    config = policy(
        compare=alone, sla={"cpu_usage": None, "memory_usage": None, "latency_p95": 0.5}
    )
    found = simulated("slower-50", config, number=20)
    assert outcomes(found) == {CAUGHT: 20}
    assert {run.by for run in found.runs} == {"latency_p95 (sla)"}


def test_a_leak_shows_where_memory_was_measured() -> None:
    figures = replace(FIGURES, gauges={"memory_usage": (0.10, 0.12)})
    config = policy(sla={"cpu_usage": None, "memory_usage": 0.3, "points": 2})
    assert outcomes(simulated("leak", config, figures, number=10)) == {CAUGHT: 10}
    small = Effect(leak=0.01, leak_limit=512)
    assert outcomes(simulated(small, config, figures, number=10)) == {PROMOTED: 10}


def test_wrong_answers_are_caught_by_a_quality_section() -> None:
    quality = {"gate": "basics", "max_regression": 0.05}
    figures = replace(
        FIGURES, answers={"both": 195, "only_stable": 0, "only_canary": 0, "neither": 5}
    )
    found = simulated("worse-answers", policy(quality=quality), figures, number=10)
    assert {(run.outcome, run.by) for run in found.runs} == {(CAUGHT, "answers (quality)")}


def test_limits_that_nothing_tells_are_left_out() -> None:
    config = policy(
        sla={"ttft_p95": 1.0},
        compare={"ttft_p50": 0.5},
        quality={"gate": "basics"},
    )
    silent = Figures.given(100, 0.0, 0.2, 0.4)
    judged, left_out = judged_by(config, silent)
    assert left_out == (
        "sla.ttft_p95",
        "sla.cpu_usage",
        "sla.memory_usage",
        "compare.ttft_p50",
        "quality",
    )
    assert (judged.sla.cpu_usage, judged.compare.ttft_p50, judged.quality) == (None, None, None)
    assert judged.sla.latency_p95 == config.sla.latency_p95
    known = replace(FIGURES, gauges={"cpu_usage": (0.1,), "memory_usage": (0.1,)})
    assert judged_by(policy(), known) == (policy(), ())


def test_the_moments_of_a_phase() -> None:
    config = policy(sample_interval=4, look_interval=0.1)
    phase = PhaseConfig(weight=10, duration=10, max_duration=15)
    found = moments(config, phase)
    assert [at for at, sample, _ in found if sample] == [4.0, 8.0, 12.0]
    assert [at for at, _, last in found if last] == [15.0]
    assert 10.0 in [at for at, _, _ in found]
    assert len(found) <= MOST_LOOKS + 5
    assert sorted(found) == found


def test_a_budget_ends_it_with_ten_at_least() -> None:
    from random import Random

    from pytest_llmdeploy.release.canary.calibration.simulation import simulate
    from tests.unit.release.calibration.samples import PLACE

    found = simulate(policy(), FIGURES, Effect(), PLACE, number=500, random=Random(1), budget=0.0)
    assert (len(found.runs), found.wanted) == (10, 500)
