from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from pytest_llmdeploy.config.canary import CanaryConfig
from pytest_llmdeploy.release.canary.calibration.advice import advice, requests_needed
from pytest_llmdeploy.release.canary.calibration.cases import CASES
from pytest_llmdeploy.release.canary.calibration.figures import Figures
from pytest_llmdeploy.release.canary.calibration.policy import (
    BLIND,
    CATCH,
    PROMOTE,
    TOLERATE,
    stance,
)
from pytest_llmdeploy.release.canary.calibration.results import (
    ALARMED,
    HELD,
    NOT_MEASURED,
    CaseResult,
    Measured,
    Rate,
    exit_code,
    measured_of,
    summary_of,
)
from pytest_llmdeploy.release.canary.calibration.simulation import judged_by, simulate
from pytest_llmdeploy.release.record import ReleaseResult, RollbackReport, StepRecord
from pytest_llmdeploy.verdicts import Verdict
from tests.unit.release.calibration.samples import FIGURES, PLACE, policy, simulated


def says(case: str, config: CanaryConfig, figures: Figures = FIGURES) -> str:
    return stance(CASES[case], config, figures, PLACE).says


def test_what_the_default_margins_say() -> None:
    said = {case: says(case, policy()) for case in CASES}
    assert said == {
        "a-a": PROMOTE,
        "errors-1": TOLERATE,
        "errors-2": TOLERATE,
        "errors-5": CATCH,
        "slower-20": TOLERATE,
        "slower-50": CATCH,
        "slow-tail": CATCH,
        "ttft-2x": TOLERATE,
        "cut-streams": CATCH,
        "leak": BLIND,
        "crash-loop": CATCH,
        "worse-answers": BLIND,
        "no-metrics": BLIND,
        "wrong-version": CATCH,
        "weights-ignored": CATCH,
    }


def test_the_reason_names_setting_and_increase() -> None:
    found = stance(CASES["errors-5"], policy(), FIGURES, PLACE)
    assert found.why == (
        "+4.98 points, more than compare.error_rate 0.02; error_rate 0.0548, more than "
        "sla.error_rate 0.05"
    )
    silent = stance(CASES["ttft-2x"], policy(), Figures.given(100, 0, 0.2, 0.4), PLACE)
    assert silent.says == BLIND
    assert "compare.ttft_p50 and ttft_p95 are null, or nothing streams" in silent.why


def test_what_depends_on_sources_and_sections() -> None:
    colored = replace(PLACE, names_colors=True)
    assert stance(CASES["wrong-version"], policy(), FIGURES, colored).says == BLIND
    scraped = replace(FIGURES, sources={"tally": "scrape", "memory_usage": "scrape"})
    assert says("no-metrics", policy(), scraped) == CATCH
    of_process = replace(FIGURES, sources={"tally": "client", "memory_usage": "scrape"})
    assert says("no-metrics", policy(), of_process) == BLIND
    memory = replace(FIGURES, gauges={"memory_usage": (0.5,)})
    sla = {"memory_usage": 0.6, "cpu_usage": None, "points": 2}
    assert says("leak", policy(sla=sla), memory) == CATCH
    assert says("leak", policy(sla={**sla, "memory_usage": 0.9}), memory) == TOLERATE
    answers = {"both": 90, "only_stable": 0, "only_canary": 0, "neither": 10}
    asked = policy(quality={"gate": "basics"})
    assert says("worse-answers", asked, replace(FIGURES, answers=answers)) == CATCH


def test_the_requests_needed_are_those_at_which_canaries_pass() -> None:
    config = policy()
    needed = requests_needed(config, FIGURES, "error_rate", 0.02, 50)
    assert needed is not None
    assert 500 < needed < 3000
    assert requests_needed(config, FIGURES, "error_rate", 0.01, 50) > needed  # type: ignore[operator]
    p95 = requests_needed(config, FIGURES, "latency_p95", 0.25, 50)
    assert p95 is not None
    assert requests_needed(config, FIGURES, "latency_p95", 1e-6, 50) is None
    assert requests_needed(config, Figures.given(9, 0, 1, 2), "ttft_p95", 0.2, 50) is None
    # Twice as many requests as that are enough for nearly all; a third for nearly none.
    for factor, passes in ((2.0, True), (0.33, False)):
        rate = factor * max(needed, p95) / (0.5 * 60)
        figures = replace(FIGURES, rate=rate)
        found = simulate(config, figures, CASES["a-a"].effect, PLACE, number=30, random=Random(3))  # type: ignore[arg-type]
        share = sum(run.outcome == "promoted" for run in found.runs) / 30
        assert (share > 0.5) is passes


def results(config: CanaryConfig, figures: Figures, *cases: str) -> list[CaseResult]:
    judged, _ = judged_by(config, figures)
    return [
        CaseResult(
            CASES[case],
            stance(CASES[case], config, figures, PLACE),
            simulated=summary_of(simulated(case, judged, figures, 40)),
        )
        for case in cases
    ]


def test_advice_to_a_policy_that_never_promotes() -> None:
    figures = replace(FIGURES, rate=4.0)
    found = results(policy(), figures, "a-a")
    said = advice(found, policy(), figures)
    assert said[0].startswith(
        "This policy never promotes a version that is no worse: 0 % of 40 simulated ones were "
        "promoted, 100 % stayed inconclusive until a phase's max_duration, mostly because of "
    )
    assert any(
        "Phase weight-20: the last 2 samples of 5 s have about 8 requests" in x for x in said
    )
    (short,) = [text for text in said if text.startswith("Phase weight-50: to show")]
    assert "50 % of which are its own" in short
    assert "max_duration" in short
    assert exit_code(found) == ALARMED


def test_advice_about_what_is_tolerated_tells_what_catching_it_takes() -> None:
    loose = policy(compare={"latency_p95": None})
    found = results(loose, FIGURES, "a-a", "ttft-2x", "errors-1")
    first, errors = advice(found, loose, FIGURES)[-2:]
    assert first.startswith("The first token takes twice as long (ttft-2x): latency_p95 ")
    assert "of such versions would be promoted. " in first
    assert "ttft_p50 grows by 100 %, and compare.ttft_p50 is null. " in first
    assert "To have it caught, set compare.ttft_p50: 0.25, which takes about " in first
    assert "set compare.error_rate: 0.009, which takes about" in errors
    assert "50 % of which are its own" in errors
    assert exit_code(found) == HELD


def test_advice_about_what_is_not_judged() -> None:
    alone = policy(compare={"error_rate": None, "latency_p95": None})
    result = CaseResult(
        CASES["worse-answers"], stance(CASES["worse-answers"], alone, FIGURES, PLACE)
    )
    compared, unseen = advice([result], alone, FIGURES)
    assert compared.startswith("Nothing is compared: only absolute limits judge a new version")
    assert unseen == (
        "A third of the answers is wrong (worse-answers): not judged: no limit of the policy is "
        "about it (there is no quality section); name a gate in canary.quality: its cases are "
        "asked of both versions."
    )


def test_advice_about_a_limit_that_cries_wolf() -> None:
    close = policy(sla={"latency_p95": 0.4, "cpu_usage": None, "memory_usage": None, "points": 2})
    found = results(close, FIGURES, "a-a")
    said = advice(found, close, FIGURES)
    assert any(text.startswith("False alarms: ") and "raise it" in text for text in said)
    assert exit_code(found) == ALARMED


MEASURED = Measured("promoted", "", "all passed", 100, None, 0, restored=True)


@pytest.mark.parametrize(
    ("case", "outcome", "code"),
    [
        ("a-a", "promoted", HELD),
        ("a-a", "caught", ALARMED),
        ("a-a", "inconclusive", ALARMED),
        ("a-a", "error", NOT_MEASURED),
        ("errors-5", "promoted", ALARMED),
        ("errors-5", "caught", HELD),
        ("errors-5", "inconclusive", HELD),
        ("errors-5", "error", NOT_MEASURED),
        ("weights-ignored", "error", HELD),
        ("weights-ignored", "promoted", ALARMED),
        ("errors-1", "promoted", HELD),
        ("leak", "promoted", HELD),
    ],
)
def test_exit_codes(case: str, outcome: str, code: int) -> None:
    result = CaseResult(
        CASES[case],
        stance(CASES[case], policy(), FIGURES, PLACE),
        (replace(MEASURED, outcome=outcome),),
    )
    assert exit_code([result]) == code


def test_nothing_tried_is_nothing_known() -> None:
    assert exit_code([]) == NOT_MEASURED


def test_a_rate_has_an_interval() -> None:
    rate = Rate.of(0, 500)
    assert (rate.share, rate.low) == (0, 0)
    assert rate.high == pytest.approx(0.00735, abs=1e-4)
    assert Rate.of(500, 500).high == 1


def release(*steps: StepRecord, **more: object) -> ReleaseResult:
    return ReleaseResult(
        success=False,
        previous_color="blue",
        new_color="green",
        previous_image="i:1",
        image="i:1",
        duration=1.0,
        timestamp="2026-01-01T00:00:00+00:00",
        steps=steps,
        **more,  # type: ignore[arg-type]
    )


def test_a_real_canary_is_told_by_the_finding_that_decided() -> None:
    finding = {"signal": "error_rate", "rule": "compare", "verdict": "FAIL"}
    other = {"signal": "latency_p95", "rule": "sla", "verdict": "PASS"}
    found = measured_of(
        release(
            StepRecord("route", Verdict.PASS, "", 0, 0),
            StepRecord("weight-10", Verdict.FAIL, "worse", 0, 0),
            canary={
                "shifts": [{"made": 10}],
                "phases": [{"name": "weight-10", "findings": [other, finding]}],
            },
            rollback=RollbackReport(True, "done", 4.5, 4.7, 33),
        )
    )
    assert found == Measured("caught", "error_rate (compare)", "worse", 10, 4.5, 33, restored=True)


def test_a_real_canary_that_was_promoted_and_one_that_never_had_traffic() -> None:
    back = RollbackReport(False, "stuck")
    promoted = measured_of(release(StepRecord("route", Verdict.PASS, "", 0, 0), rollback=back))
    assert (promoted.outcome, promoted.restored) == ("promoted", False)
    early = measured_of(release(StepRecord("rollout", Verdict.FAIL, "never ready", 0, 0)))
    assert (early.outcome, early.by, early.weight, early.exposed) == ("caught", "rollout", 0, 0)
