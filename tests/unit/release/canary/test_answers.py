"""The cases of a gate, asked beside the watch."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from pytest_llmdeploy.config.canary import CanaryConfig
from pytest_llmdeploy.errors import NotMeasuredError
from pytest_llmdeploy.release.canary.answers import ASKED, Answers
from pytest_llmdeploy.release.canary.judge import PhaseJudge
from pytest_llmdeploy.release.canary.looks import NOT_MEASURED, Look
from pytest_llmdeploy.verdicts import Verdict
from pytest_llmdeploy.waiting import wait_until


def later(answers: Answers) -> Mapping[str, Any]:
    """Return what comes instead of `ASKED`."""
    return wait_until(
        lambda: answers.told if answers.told != ASKED else None,
        what="answers should come",
        timeout=10,
        setting="fixed",
    )


def test_nobody_waits_for_them() -> None:
    go = threading.Event()
    counts = {"both": 9, "only_stable": 0, "only_canary": 0, "neither": 0}

    def ask() -> Mapping[str, Any]:
        go.wait(10)
        return counts

    answers = Answers(ask)
    assert answers.told == ASKED
    go.set()
    assert later(answers) == counts


def test_what_goes_wrong_is_not_measured() -> None:
    for error, why in [(NotMeasuredError("no answer"), "no answer"), (KeyError(), "KeyError")]:

        def ask(error: Exception = error) -> Mapping[str, Any]:
            raise error

        assert later(Answers(ask)) == {"missing": NOT_MEASURED, "why": why}


def test_a_phase_does_not_pass_while_they_are_asked() -> None:
    config = CanaryConfig.model_validate({"quality": {"gate": "g"}})
    look = Look("weight-5", 5, 0.0, 1.0, {}, answers=ASKED)
    (finding,) = [f for f in PhaseJudge(config).add(look).findings if f.rule == "quality"]
    assert (finding.verdict, finding.reason) == (Verdict.INCONCLUSIVE, ASKED["why"])
