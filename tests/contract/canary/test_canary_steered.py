"""Canaries that people approve, reject, hold, abort and promote at once."""

from __future__ import annotations

import sys
import threading
from typing import Any

import pytest

from pytest_llmdeploy.verdicts import Verdict
from tests.canary_checks import (
    LONG,
    REST,
    alone,
    canary_steps_of,
    during,
    end_process,
    held,
    split_of,
)
from tests.canary_faults import BAD, LATE, CanarySite
from tests.contract.conftest import wait_until
from tests.release_faults import Performed

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the local fleet needs Linux")

FILE = [{**LONG[0], "approve": "file"}]
FILE_AT_60 = [{"weight": 60, "duration": 60, "approve": "file"}]


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("", "approved after 0 s (touched)"),
        ("anna", "approved after 0 s (anna)"),
        ("Reject: too slow", "a person rejected it: Reject: too slow"),
    ],
)
def test_approval_by_file(site: CanarySite, before: dict[str, Any], said: str, reason: str) -> None:
    def answer() -> None:
        control.mkdir(parents=True)
        (control / "approve-weight-40").write_text(said)

    fault = during(("weight-40", "router.read"), answer)
    performed, release, calls = site.release(fault, canary={"phases": FILE + REST})
    assert release.canary is not None
    control = release.canary.control
    done = Performed(release, performed.run(), calls, 0.0)
    assert canary_steps_of(done)["approve-weight-40"] == reason
    if said.startswith("Reject"):
        assert done.failed.verdict is Verdict.FAIL
        assert list(site.routed().differences(before)) == []
    else:
        assert done.result.success, done.failed


def test_an_approval_that_does_not_come(site: CanarySite, before: dict[str, Any]) -> None:
    done = site.perform(canary={"phases": FILE + REST, "approve_timeout": 0.4})
    assert (done.failed.name, done.failed.verdict) == ("approve-weight-40", Verdict.FAIL)
    assert done.failed.reason.startswith("nobody approved it: ")
    assert "within 0.4 s (canary.approve_timeout)" in done.failed.reason
    assert list(site.routed().differences(before)) == []


@pytest.mark.parametrize(
    ("what", "verdict", "reason"),
    [
        ("failures", Verdict.FAIL, "while it waited for approval: error_rate ("),
        ("restart", Verdict.FAIL, "replica local-"),
        ("split", Verdict.ERROR, "Envoy of local gives "),
    ],
)
def test_what_is_seen_while_a_person_decides(
    site: CanarySite, before: dict[str, Any], what: str, verdict: Verdict, reason: str
) -> None:
    """The version keeps its traffic meanwhile, so it is watched."""

    def spoil() -> None:
        wait_until(lambda: "waits for approval" in release.now_doing, 20)
        if what == "failures":
            spoilt.touch()
        elif what == "restart":
            end_process(site, site.fleet.pods(release.new)[0].name)
        else:
            site.routed().router.set_weight(release.old or "", release.new, 70)

    spoilt = site.folder / "spoilt"
    performed, release, calls = site.release(image=LATE, canary={"phases": FILE + REST})
    thread = threading.Thread(target=spoil)
    thread.start()
    done = Performed(release, performed.run(), calls, 0.0)
    thread.join()
    spoilt.unlink(missing_ok=True)
    assert (done.failed.name, done.failed.verdict) == ("approve-weight-40", verdict), done.failed
    assert done.failed.reason.startswith(reason), done.failed
    assert list(site.routed().differences(before)) == []


def test_approval_by_variable(site: CanarySite) -> None:
    phases = [{**LONG[0], "approve": "env"}, *REST]
    first = site.perform(canary={"phases": phases}, approved="weight-100")
    image = first.result.image
    assert (first.failed.name, first.failed.verdict) == ("approve-weight-40", Verdict.INCONCLUSIVE)
    assert first.failed.reason == (
        "weight-40 has passed and is not approved; to approve it, release the same image again "
        "with LLMDEPLOY_APPROVE=weight-40"
    )
    # A job that is repeated by a machine has approved nothing.
    again = site.perform(canary={"phases": phases}, image=image)
    assert again.failed.reason == first.failed.reason
    assert split_of(site, first.result.new_color) == 40
    last = site.perform(canary={"phases": phases}, image=image, approved="a, weight-40")
    assert last.result.success, last.failed
    assert canary_steps_of(last)["approve-weight-40"] == "LLMDEPLOY_APPROVE approves it"


def test_approval_by_going_on(site: CanarySite) -> None:
    first = held(site)
    assert first.failed.reason == (
        "weight-40 has passed and is not approved; to approve it, release the same image again"
    )
    last = site.perform(canary={"phases": LONG + REST}, image=first.result.image)
    assert last.result.success, last.failed
    assert canary_steps_of(last)["approve-weight-40"] == (
        "approved by going on with the release that was held at 40 %"
    )


@pytest.mark.parametrize("step", ["weight-40", "approve-weight-40"])
def test_a_person_who_aborts(site: CanarySite, before: dict[str, Any], step: str) -> None:
    def abort() -> None:
        wait_until(lambda: waits in release.now_doing, 20)
        control.mkdir(parents=True, exist_ok=True)
        (control / "abort").touch()

    phases = [{**FILE[0], "duration": 5 if step == "weight-40" else 0.3}, *REST]
    performed, release, calls = site.release(canary={"phases": phases})
    assert release.canary is not None
    control = release.canary.control
    waits = "waits for approval" if step.startswith("approve") else "weight-40: "
    thread = threading.Thread(target=abort)
    thread.start()
    done = Performed(release, performed.run(), calls, 0.0)
    thread.join()
    assert (done.failed.name, done.failed.verdict) == (step, Verdict.FAIL), done.failed
    assert done.failed.reason == f"a person asked to abort ({control})"
    assert list(site.routed().differences(before)) == []


def test_a_person_who_promotes_at_once(site: CanarySite) -> None:
    def promote() -> None:
        control.mkdir(parents=True)
        (control / "promote").touch()

    fault = during(("weight-40", "router.read"), promote)
    phases = [{"weight": 40, "duration": 60}, *FILE_AT_60, *REST]
    performed, release, calls = site.release(fault, canary={"phases": phases})
    assert release.canary is not None
    control = release.canary.control
    done = Performed(release, performed.run(), calls, 0.0)
    assert done.result.success, done.failed
    said = canary_steps_of(done)
    assert "as a person asked; NOT JUDGED further" in said["weight-40"]
    assert said["weight-60"] == "left out: promoted at once, as a person asked; NOT JUDGED"
    assert said["approve-weight-60"] == "promoted at once, as a person asked"
    assert alone(site.routed(), done.result.new_color)


def test_a_person_who_promotes_a_bad_version_does_not_hide_that_it_is_bad(
    site: CanarySite, before: dict[str, Any]
) -> None:
    def promote() -> None:
        control.mkdir(parents=True)
        (control / "hold").touch()

    fault = during(("weight-40", "router.set_weight"), promote)
    performed, release, calls = site.release(fault, image=BAD)
    assert release.canary is not None
    control = release.canary.control
    done = Performed(release, performed.run(), calls, 0.0)
    assert (done.failed.name, done.failed.verdict) == ("weight-40", Verdict.FAIL)
    assert list(site.routed().differences(before)) == []


def test_a_phase_that_a_person_holds(site: CanarySite) -> None:
    seen: list[float] = []

    def hold() -> None:
        control.mkdir(parents=True)
        (control / "hold").touch()

    def let_go() -> None:
        wait_until(lambda: "is held, as a person asked (2 s)" in release.now_doing, 20)
        seen.append(1.0)
        (control / "hold").unlink()

    fault = during(("weight-40", "router.set_weight"), hold)
    phases = [{"weight": 40, "duration": 0.3, "max_duration": 30}, *REST]
    performed, release, calls = site.release(fault, canary={"phases": phases})
    assert release.canary is not None
    control = release.canary.control
    thread = threading.Thread(target=let_go)
    thread.start()
    done = Performed(release, performed.run(), calls, 0.0)
    thread.join()
    assert seen
    assert done.result.success, done.failed
    assert done.result.canary["phases"][0]["duration"] > 1.5
