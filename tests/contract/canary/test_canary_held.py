"""Canaries that are held at a weight, and runs that go on with them; shifts, one by one."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from pytest_llmdeploy.errors import PlatformError
from pytest_llmdeploy.verdicts import Verdict
from tests.canary_checks import LONG, REST, Once, alone, canary_steps_of, held, split_of
from tests.canary_faults import CanarySite, kill_in_child
from tests.release_faults import AFTER, BEFORE, Site

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the local fleet needs Linux")


def test_a_canary_that_is_inconclusive_is_held_and_gone_on_with(
    site: CanarySite, before: dict[str, Any]
) -> None:
    few = {"error_rate": 0.4, "latency_p95": None, "min_requests": 100_000}
    phases = [{"weight": 40, "duration": 0.3, "max_duration": 0.6}, *REST]
    first = site.perform(canary={"phases": phases, "compare": few, "inconclusive": "hold"})
    new, image = first.result.new_color, first.result.image
    assert (first.failed.name, first.failed.verdict) == ("weight-40", Verdict.INCONCLUSIVE)
    assert first.final.verdict is Verdict.INCONCLUSIVE
    assert first.final.reason == (
        f"weight-40 stayed inconclusive for {first.final.reason.split(' for ')[1].split(' s')[0]} "
        f"s: {new} ({image}) keeps 40 % of the traffic, {first.result.previous_color} the rest, "
        "and nobody watches it; to go on, release the same image again, which watches that phase "
        "once more; to take it back, run `llmdeploy rollback --env local`"
    )
    assert not first.result.success
    assert split_of(site, new) == 40
    assert site.is_free()
    assert site.fleet.journal.read()[-1]["kind"] == "held"

    other = site.perform(image="app:1" if image != "app:1" else "app:2")
    assert other.failed.reason == (
        f"the release of {image} as {new} is held at 40 %, and is not finished; first run "
        f"`llmdeploy rollback --env local`, or release {image} again by canary to go on with it"
    )
    blue_green = Site.release(site, image=image)[0].run()
    assert blue_green.error == f"preflight: {other.failed.reason}"
    assert split_of(site, new) == 40
    assert site.is_free()

    # To repeat the job shows nothing: what was not proven is not promoted.
    again = site.perform(
        image=image, canary={"phases": phases, "compare": few, "inconclusive": "hold"}
    )
    assert (again.failed.name, again.failed.verdict) == ("weight-40", Verdict.INCONCLUSIVE)
    assert split_of(site, new) == 40

    second = site.perform(image=image, canary={"phases": phases})
    assert second.result.success, second.failed
    said = canary_steps_of(second)
    assert said["preflight"].startswith(f"goes on with the release of {image} as {new} is held")
    judged = [phase["name"] for phase in second.result.canary["phases"]]
    assert judged == ["weight-40", "weight-100"]
    assert second.result.traffic["lost"] == 0
    assert alone(site.routed(), new)
    assert site.fleet.journal.read()[-1]["state"] == "released"
    assert before["route"]["weights"] != site.whole_state()["route"]["weights"]


def test_a_held_canary_is_taken_back(site: CanarySite, before: dict[str, Any]) -> None:
    done = held(site)
    report = site.undo(done.release.journal.path)
    assert report.succeeded, report.reason
    assert list(site.routed().differences(before)) == []
    assert site.is_free()
    assert site.perform().result.success


HELD_CALLS = [
    ("preflight", "router.read"),
    ("preflight", "color"),
    ("preflight", "journal.read"),
    ("deploy", "journal.append"),
    ("rollout", "pods"),
    ("route", "pods"),
    ("weight-100", "router.set_weight"),
    ("promote", "router.promote"),
]


@pytest.mark.parametrize("when", [BEFORE, AFTER])
@pytest.mark.parametrize("call", HELD_CALLS, ids="-".join)
def test_a_call_that_fails_as_a_held_canary_is_gone_on_with(
    site: CanarySite, before: dict[str, Any], call: tuple[str, str], when: str
) -> None:
    first = held(site)
    new, image = first.result.new_color, first.result.image
    fault = Once(call, PlatformError("HTTP 500 of the platform"), when)
    second = site.perform(fault, image=image, canary={"phases": LONG + REST})
    assert fault.met
    assert second.failed.verdict is Verdict.ERROR
    assert site.is_free()
    if second.result.rollback is None:
        assert split_of(site, new) == 40
        if second.release.canary is not None and second.release.canary.resumed_at is not None:
            assert second.final.reason == (
                f"nothing was changed: {new} ({image}) still has the 40 % of the traffic at which "
                "an earlier run held it; to take it back, run `llmdeploy rollback --env local`"
            )
        if (*call, when) == ("deploy", "journal.append", AFTER):
            path = second.release.journal.path  # that it begins was noted
        else:
            assert site.fleet.journal.read()[-1]["kind"] == "held"
            path = first.release.journal.path
        report = site.undo(path)
        assert report.succeeded, report.reason
        assert report.time_to_safe is not None
    else:
        assert second.result.rollback.succeeded, second.final
    assert list(site.routed().differences(before)) == []


@pytest.mark.parametrize("call", [("rollout", "rollout"), ("weight-100", "router.set_weight")])
def test_a_process_that_is_killed_as_it_goes_on_with_a_held_canary(
    site: CanarySite, before: dict[str, Any], call: tuple[str, str]
) -> None:
    first = held(site)
    path = kill_in_child(site, *call, BEFORE, image=first.result.image)
    report = site.undo(path)
    assert report.succeeded, report.reason
    assert report.time_to_safe is not None
    assert list(site.routed().differences(before)) == []


def test_a_process_that_is_killed_before_it_has_noted_that_it_goes_on(
    site: CanarySite, before: dict[str, Any]
) -> None:
    first = held(site)
    kill_in_child(site, "deploy", "journal.append", BEFORE, image=first.result.image)
    assert site.fleet.journal.read()[-1]["kind"] == "held"
    second = site.perform(image=first.result.image)
    assert second.result.success, second.failed


def test_a_held_canary_that_somebody_else_has_changed(
    site: CanarySite, before: dict[str, Any]
) -> None:
    first = held(site)
    new, image = first.result.new_color, first.result.image
    site.routed().router.set_weight(first.result.previous_color or "", new, 90)
    second = site.perform(image=image, canary={"phases": LONG + REST})
    assert (second.failed.name, second.failed.verdict) == ("preflight", Verdict.ERROR)
    assert second.failed.reason == (
        f"the release of {image} as {new} is held at 40 %, but somebody else has changed it since: "
        f"Envoy of local gives {new} 90 % now, not 40 %; to bring back what was before it, run "
        "`llmdeploy rollback --env local`"
    )
    assert split_of(site, new) == 90
    assert site.undo(first.release.journal.path).succeeded
    assert list(site.routed().differences(before)) == []


def test_that_a_release_is_held_cannot_be_noted(site: CanarySite, before: dict[str, Any]) -> None:
    def full(phase: str, method: str, when: str) -> None:
        if (phase, method) == ("final-state", "journal.append"):
            raise PlatformError("the store is full")

    done = site.perform(full, weight=40)
    assert done.final.verdict is Verdict.ERROR
    assert done.final.reason.endswith(
        "that it is held could not be noted (the store is full), so no run can go on with it; to "
        "take it back, run `llmdeploy rollback --env local`"
    )
    second = site.perform(image=done.result.image)
    assert "is not finished; first run `llmdeploy rollback --env local`" in second.failed.reason
    assert site.undo(done.release.journal.path).succeeded
    assert list(site.routed().differences(before)) == []


def test_one_shift_and_further_ones(site: CanarySite) -> None:
    few: dict[str, Any] = {
        "canary": {"compare": {"error_rate": 0.4, "latency_p95": None, "min_requests": 5}}
    }
    first = site.perform(weight=20, **few)
    new, image = first.result.new_color, first.result.image
    assert first.result.success, first.failed
    assert first.final.verdict is Verdict.PASS
    assert first.final.reason.startswith(f"shifted, as asked: {new} ({image}) keeps 20 % of the ")
    assert [step.name for step in first.result.steps][-3:] == [
        *("weight-20", "zero-loss", "final-state")
    ]
    assert site.is_free()

    for weight in (50, 50, 30):  # a job that is repeated, and one step back
        again = site.perform(weight=weight, image=image, **few)
        assert again.result.success, again.failed
        assert split_of(site, new) == weight
        assert [phase["made"] for phase in again.result.canary["phases"]] == [weight]
        assert site.fleet.journal.read()[-1]["weight"] == weight

    last = site.perform(weight=100, image=image, old="scale_down")
    assert last.result.success, last.failed
    assert alone(site.routed(), new)
    assert site.fleet.color() == new
    assert site.fleet.journal.read()[-1]["state"] == "released"


def test_the_last_shift_is_not_taken_back_for_its_cleanup(site: CanarySite) -> None:
    first = site.perform(weight=40)
    assert first.result.success, first.failed
    fault = Once(("cleanup", "scale"), PlatformError("HTTP 500 of the platform"))
    done = site.perform(fault, weight=100, image=first.result.image, old="scale_down")
    assert fault.met
    assert (done.failed.name, done.final.verdict) == ("cleanup", Verdict.PASS)
    assert done.result.rollback is None
    assert site.fleet.color() == done.result.new_color
