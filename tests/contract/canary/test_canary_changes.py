"""Canaries that are cut off as they change something: aborted, killed, or their answer lost."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from pytest_llmdeploy.assembly.recoveries import take_lock
from pytest_llmdeploy.errors import ConflictError, PlatformError
from pytest_llmdeploy.release.journal import Journal, read_entries, situation
from pytest_llmdeploy.release.recovery import Recovery
from pytest_llmdeploy.verdicts import Verdict
from tests.canary_checks import CALLS, Once, alone, check
from tests.canary_faults import CanarySite, kill_in_child
from tests.release_faults import AFTER, BEFORE, Performed

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the local fleet needs Linux")

CHANGES = [
    ("deploy", "deploy"),
    ("route", "router.prepare"),
    ("weight-40", "router.set_weight"),
    ("weight-100", "router.set_weight"),
    ("promote", "switch"),
    ("promote", "router.promote"),
    ("rollback", "router.restore_weights"),
    ("rollback", "restore_traffic"),
    ("rollback", "router.restore"),
    ("rollback", "restore_replicas"),
]
"""Calls that change something; a cleanup that fails takes nothing back."""


@pytest.mark.parametrize("call", CHANGES, ids="-".join)
def test_a_change_that_was_made_though_its_answer_was_lost(
    site: CanarySite, before: dict[str, Any], call: tuple[str, str]
) -> None:
    fault = Once(call, PlatformError("timed out"), AFTER)
    done = site.perform(fault, image=fault.image)
    assert fault.met
    assert check(site, done, before) in ("rolled back", "nothing changed"), done.final


@pytest.mark.parametrize("call", CHANGES, ids="-".join)
def test_somebody_else_who_changes_the_same(
    site: CanarySite, before: dict[str, Any], call: tuple[str, str]
) -> None:
    fault = Once(call, ConflictError("somebody else has changed it"))
    done = site.perform(fault, image=fault.image)
    assert fault.met
    if check(site, done, before) == "rollback failed":
        assert call[0] == "rollback"
        assert "somebody else has changed it" in done.final.reason
        report = site.undo(done.release.journal.path)
        assert report.succeeded, report.reason
        assert list(site.routed().differences(before)) == []


ABORTED = [call for call in CALLS if call[0] not in ("preflight", "cleanup", "final-state")]


@pytest.mark.parametrize("call", dict(ABORTED).items(), ids="-".join)
def test_a_run_that_is_ended_at_each_step(
    site: CanarySite, before: dict[str, Any], call: tuple[str, str]
) -> None:
    def end(phase: str, method: str, when: str) -> None:
        if (phase, method) == call:
            performed.abort("pytest ended before the release did")

    performed, release, calls = site.release(end)
    done = Performed(release, performed.run(), calls, 0.0)
    assert check(site, done, before) == "rolled back", done.final
    assert done.failed.verdict is Verdict.ERROR
    assert done.failed.reason == "pytest ended before the release did"


@pytest.mark.parametrize("call", [("route", "router.lacks"), ("weight-40", "router.read")])
def test_ctrl_c(site: CanarySite, before: dict[str, Any], call: tuple[str, str]) -> None:
    performed, release, _ = site.release(Once(call, KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        performed.run()
    assert list(site.routed().differences(before)) == []
    assert site.is_free()
    assert site.fleet.journal.read()[-1]["state"] == "rolled back"
    assert release.canary is not None
    assert [phase.verdict for phase in release.canary.phases] != ["PASS"]


@pytest.mark.parametrize("when", [BEFORE, AFTER])
@pytest.mark.parametrize("call", [each for each in CHANGES if each[0] != "rollback"], ids="-".join)
def test_a_process_that_is_killed(
    site: CanarySite, before: dict[str, Any], call: tuple[str, str], when: str
) -> None:
    path = kill_in_child(site, *call, when)
    second = site.perform()
    assert second.failed.name == "preflight"
    assert "first run `llmdeploy rollback --env local`" in second.failed.reason
    assert second.final.reason.startswith("nothing was changed")
    report = site.undo(path)
    assert report.succeeded, report.reason
    assert list(site.routed().differences(before)) == []
    assert site.is_free()
    third = site.perform()
    assert third.result.success, third.failed


def test_what_is_kept_has_the_route_too(site: CanarySite) -> None:
    """Killed between the two halves of a promotion, before all traffic was the new version's."""
    image = site.next_image()
    path = kill_in_child(site, "promote", "switch", AFTER)
    fleet = site.routed()
    take_lock(fleet, take_over=True)
    new = site.fleet.color() or ""
    old = "green" if new == "blue" else "blue"
    fleet.router.set_weight(old, new, 40)  # as after a person's promotion at once
    found = situation(read_entries(path))
    assert found is not None
    again = Journal(path, fleet.journal)
    said = Recovery(found, fleet, site.config({}), site.checks, again).keep()
    assert said == f"the service leads to {new}, {image}, as the interrupted release wanted it"
    assert alone(fleet, new)
    fleet.lock.release()
