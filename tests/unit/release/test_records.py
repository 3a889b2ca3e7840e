"""What became of a release, as builtins; and what a drill makes of it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from pytest_llmdeploy.release.drills import DRILLS, judge_drill
from pytest_llmdeploy.release.record import ReleaseResult, RollbackReport, StepRecord
from pytest_llmdeploy.verdicts import Verdict

WATCH = StepRecord(
    "watch", Verdict.FAIL, "3 requests were lost", 1.0, 2.0, detail={"n": 3}, evidence="/e"
)
SKIPPED = StepRecord("zero-loss", Verdict.ERROR, "not done", 3.0, 0.0, skipped=True)
DEPLOY = StepRecord("deploy", Verdict.PASS, "wanted", 0.5, 0.1)
BACK = RollbackReport(True, "as before", 1.25, 2.5, 7)
RESULT = ReleaseResult(
    success=False,
    previous_color="blue",
    new_color="green",
    previous_image="llm:1",
    image="llm:2",
    duration=9.0,
    timestamp="2026-01-01T00:00:00+00:00",
    steps=(DEPLOY, WATCH, SKIPPED),
    health_checks=({"pod": "g1", "check": "health", "verdict": "PASS", "reason": "200"},),
    error="watch: 3 requests were lost",
    rollback=BACK,
    traffic={"n": 100, "lost": 3, "lost_unmoved": 0},
)


@pytest.mark.parametrize("record", [DEPLOY, WATCH, SKIPPED])
def test_a_step_survives_the_way_through_a_file(record: StepRecord) -> None:
    assert StepRecord.from_json(json.loads(json.dumps(record.to_json()))) == record


def test_a_result_is_builtins() -> None:
    data = RESULT.to_json()
    again = json.loads(json.dumps(data))
    assert again["steps"] == [step.to_json() for step in RESULT.steps]
    assert again["rollback"]["requests_exposed"] == 7
    assert set(again) == set(ReleaseResult.__dataclass_fields__)


DRILL = DRILLS["crashes"]
EARLY = replace(RESULT, steps=(replace(WATCH, name="rollout"),))


@pytest.mark.parametrize(
    ("changes", "verdict", "reason"),
    [
        (
            {},
            Verdict.PASS,
            "watch noticed a version that crashes (3 requests were lost); as before; seen 1.2 s "
            "and safe 2.5 s after the switch, 7 of 100 requests exposed",
        ),
        (
            {"rollback": RollbackReport(True, "as before")},
            Verdict.PASS,
            "watch noticed a version that crashes (3 requests were lost); as before; "
            "0 of 100 requests lost",
        ),
        (
            {"steps": (DEPLOY,), "success": True},
            Verdict.FAIL,
            "a version that crashes was released: nothing noticed it; it was taken back",
        ),
        (
            {"steps": EARLY.steps},
            Verdict.FAIL,
            "noticed by rollout and not by converged or watch or zero-loss: 3 requests were lost",
        ),
        (
            {"steps": (replace(EARLY.steps[0], verdict=Verdict.ERROR),)},
            Verdict.ERROR,
            "the drill could not be performed: rollout: 3 requests were lost",
        ),
        (
            {"rollback": None},
            Verdict.FAIL,
            "watch noticed it, but the way back failed: nothing was taken back",
        ),
        (
            {"rollback": RollbackReport(False, "no answer")},
            Verdict.FAIL,
            "watch noticed it, but the way back failed: no answer",
        ),
        (
            {"traffic": {"n": 100, "lost": 3, "lost_unmoved": 2}},
            Verdict.FAIL,
            "2 requests were lost while only the former version had traffic",
        ),
        ({"traffic": {}}, Verdict.ERROR, "no request was sent: nothing is known about losses"),
    ],
)
def test_judge_drill(changes: dict[str, Any], verdict: Verdict, reason: str) -> None:
    assert judge_drill(DRILL, replace(RESULT, **changes)) == (verdict, reason)


@pytest.mark.parametrize("verdict", [Verdict.ERROR, Verdict.INCONCLUSIVE])
def test_a_failure_that_could_not_be_told_was_not_noticed(verdict: Verdict) -> None:
    watched = replace(RESULT, steps=(DEPLOY, replace(WATCH, verdict=verdict)))
    assert judge_drill(DRILL, watched) == (
        verdict,
        "the drill could not be performed: watch: 3 requests were lost",
    )
