"""Runs just below and just above the rate that a search found."""

from __future__ import annotations

import json

import pytest

from pytest_llmdeploy.load.capacity import Capacity, GeneratorLimitError, Probe
from pytest_llmdeploy.load.confirm import confirm
from pytest_llmdeploy.verdicts import Verdict
from tests.unit.load.test_capacity import Service, probe

PASS, FAIL, UNSURE = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE


def searched(rate: float | None, high: float | None, verdict: Verdict = PASS) -> Capacity:
    return Capacity(rate, rate, high, (), verdict, "found")


def test_both_sides_are_asked_and_told() -> None:
    service = Service(20)
    found, runs = confirm(searched(20, 24), service)
    assert service.asked == [18, 30]
    assert [(run.rate, run.expected, run.verdict) for run in runs] == [
        (18, PASS, PASS),
        (30, FAIL, FAIL),
    ]
    assert (found.verdict, found.reason) == (
        PASS,
        "found; runs to confirm it: 18/s hold, 30/s are missed",
    )
    assert json.loads(json.dumps([run.to_json() for run in runs]))[1]["expected"] == "FAIL"


@pytest.mark.parametrize(
    ("capacity", "blur", "verdict", "told"),
    [
        (15, 0.0, UNSURE, "18/s are missed, against the search, 30/s are missed"),
        (40, 0.0, UNSURE, "18/s hold, 30/s hold, against the search"),
        (20, 0.15, PASS, "18/s are not certain, 30/s are missed"),
    ],
)
def test_what_contradicts_the_search_takes_its_pass_away(
    capacity: float, blur: float, verdict: Verdict, told: str
) -> None:
    found, _ = confirm(searched(20, 24), Service(capacity, blur))
    assert (found.verdict, found.reason) == (verdict, f"found; runs to confirm it: {told}")


def test_a_failed_search_is_no_better_for_it() -> None:
    assert confirm(searched(20, 24, FAIL), Service(15))[0].verdict is FAIL


@pytest.mark.parametrize(
    ("rate", "high", "asked"), [(20, None, [18]), (None, 24, [30]), (None, None, [])]
)
def test_a_side_that_was_not_found_is_not_asked(
    rate: float | None, high: float | None, asked: list[float]
) -> None:
    service = Service(20)
    found, runs = confirm(searched(rate, high), service)
    assert service.asked == [run.rate for run in runs] == asked
    assert bool(runs) is ("runs to confirm" in found.reason)


def test_a_generator_at_its_end_confirms_nothing_and_says_so() -> None:
    def ask(rate: float) -> Probe:
        if rate > 20:
            raise GeneratorLimitError("generator saturated")
        return probe(rate, PASS)

    found, runs = confirm(searched(20, 24), ask)
    assert len(runs) == 1
    assert found.reason.endswith("18/s hold, 30/s were not sent: generator saturated")
