"""A control plane that fails at any moment: released, rolled back, or said aloud; never half."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from pytest_llmdeploy.errors import ConflictError, PlatformError
from pytest_llmdeploy.platforms.local_fleet.launching import stop_fleet
from pytest_llmdeploy.release import conductor, journal, prepare
from pytest_llmdeploy.release.blue_green import STEPS
from pytest_llmdeploy.release.conductor import Conductor
from pytest_llmdeploy.release.record import StepRecord
from pytest_llmdeploy.verdicts import Verdict
from tests.contract.conftest import wait_until
from tests.release_faults import AFTER, BEFORE, Performed, Site

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the local fleet needs Linux")

RELEASE_CALLS = [
    ("preflight", "entry"),
    ("preflight", "color"),
    ("preflight", "preflight"),
    ("preflight", "lock.acquire"),
    ("preflight", "journal.read"),
    ("preflight", "image"),
    ("preflight", "rollout"),
    ("preflight", "snapshot"),
    ("deploy", "journal.clear"),
    ("deploy", "journal.append"),
    ("deploy", "deploy"),
    ("rollout", "rollout"),
    ("rollout", "pods"),
    ("health", "direct"),
    ("smoke", "direct"),
    ("switch", "journal.append"),
    ("switch", "switch"),
    ("converged", "rollout"),
    ("converged", "endpoints"),
    ("converged", "pods"),
    ("watch", "pods"),
    ("watch", "endpoints"),
    ("cleanup", "journal.append"),
    ("cleanup", "scale"),
    ("final-state", "color"),
    ("final-state", "image"),
    ("final-state", "journal.append"),
    ("final-state", "lock.release"),
]
"""Each place at which a release calls the platform: the step, and what is called."""
ROLLBACK_CALLS = [
    ("rollback", "journal.append"),
    ("rollback", "restore_traffic"),
    ("rollback", "endpoints"),
    ("rollback", "pods"),
    ("rollback", "evidence"),
    ("rollback", "restore_replicas"),
    ("rollback", "differences"),
    ("rollback", "rollout"),
]
CHANGES = ["deploy", "switch", "scale", "restore_traffic", "restore_replicas"]
NEVER = ("commands", "evidence")
"""What the port promises not to fail, or needs no platform."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A fleet on which the tests release one after the other."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepare, "BASELINE_DURATION", 0.1)
        patch.setattr(prepare, "FEWEST_BASELINE", 3)
        patch.setattr(conductor, "UNLOCK_TIMEOUT", 1.0)
        patch.setattr(journal, "END_INTERVAL", 0.05)
        made = Site.build(tmp_path_factory.mktemp("site"))
        made.fleet.entry()
        yield made
        made.fleet.close()
        assert stop_fleet(made.folder / "output" / "fleets" / "local", 20)


@pytest.fixture(autouse=True)
def _as_before(site: Site) -> Iterator[None]:
    """Let no test meet what another one has left."""
    yield
    site.clear()


class Once:
    """Fails one call; the traffic loses a request first where the fault is in the way back."""

    def __init__(
        self, site: Site, call: tuple[str, str], error: Exception, when: str = BEFORE
    ) -> None:
        self.site = site
        self.call = call
        self.error = error
        self.when = when
        self.met = False

    def __call__(self, phase: str, method: str, when: str) -> None:
        if self.call[0] == "rollback" and (phase, method) == ("watch", "endpoints"):
            self.site.lose()
        if (phase, method, when) == (*self.call, self.when) and not self.met:
            self.met = True
            raise self.error


class Gone:
    """Nothing answers any more from the first call of a step on, for so many seconds."""

    def __init__(self, site: Site, step: str, seconds: float) -> None:
        self.site = site
        self.step = step
        self.seconds = seconds
        self.since: float | None = None

    def __call__(self, phase: str, method: str, when: str) -> None:
        if self.step == "rollback" and (phase, method) == ("watch", "endpoints"):
            self.site.lose()
        if method in NEVER or when == AFTER:
            return
        if self.since is None and phase == self.step:
            self.since = time.monotonic()
        if self.since is not None and time.monotonic() - self.since < self.seconds:
            raise PlatformError("the platform does not answer")


def check(site: Site, done: Performed, before: dict[str, object]) -> str:
    """Check that what the release says is what is so; return how it ended."""
    result, final, fleet = done.result, done.final, site.fleet
    assert [step.name for step in result.steps] == [*STEPS, "final-state"]
    if result.success:
        assert final.verdict is Verdict.PASS
        assert (fleet.color(), fleet.image(result.new_color)) == (result.new_color, result.image)
        assert site.is_free()
        return "released"
    if final.verdict is Verdict.PASS:
        assert fleet.differences(before) == []
        assert site.is_free()
        return "rolled back" if result.rollback is not None else "nothing changed"
    assert result.rollback is not None
    assert not result.rollback.succeeded
    assert result.rollback.commands
    assert final.verdict is Verdict.FAIL
    assert final.reason.startswith("ROLLBACK FAILED: ")
    assert all(f"\n  {command}" in final.reason for command in result.rollback.commands)
    return "rollback failed"


def test_every_call_of_a_release_is_tried_below(site: Site) -> None:
    done = site.perform(old="scale_down")
    assert done.result.success, done.failed
    assert dict.fromkeys(done.calls) == dict.fromkeys(RELEASE_CALLS)
    done = site.perform(Once(site, ("rollback", "-"), PlatformError("-")))
    assert done.failed.reason == "1 requests were lost since the switch"
    back = [call for call in done.calls if call[0] == "rollback"]
    assert dict.fromkeys(back) == dict.fromkeys(ROLLBACK_CALLS)
    assert done.result.rollback is not None
    assert done.result.rollback.succeeded


@pytest.mark.parametrize("call", RELEASE_CALLS + ROLLBACK_CALLS, ids="-".join)
def test_one_call_that_fails(site: Site, call: tuple[str, str]) -> None:
    before = site.state()
    fault = Once(site, call, PlatformError("HTTP 500 of the platform"))
    done = site.perform(fault, old="scale_down")
    assert fault.met
    ended = check(site, done, before)
    assert ended != "rollback failed", done.final
    if not done.result.success:
        text = done.failed.reason
        assert "HTTP 500 of the platform" in text or call[0] == "rollback", done.failed


@pytest.mark.parametrize("method", CHANGES)
def test_a_change_that_was_made_though_its_answer_was_lost(site: Site, method: str) -> None:
    (call,) = (each for each in RELEASE_CALLS + ROLLBACK_CALLS if each[1] == method)
    before = site.state()
    fault = Once(site, call, PlatformError("timed out"), AFTER)
    done = site.perform(fault, old="scale_down")
    assert fault.met
    assert check(site, done, before) != "rollback failed", done.final


@pytest.mark.parametrize("method", CHANGES)
def test_somebody_else_who_changes_the_same(site: Site, method: str) -> None:
    (call,) = (each for each in RELEASE_CALLS + ROLLBACK_CALLS if each[1] == method)
    before = site.state()
    fault = Once(site, call, ConflictError("somebody else has changed it"))
    done = site.perform(fault, old="scale_down")
    assert fault.met
    if check(site, done, before) == "rollback failed":
        assert call[0] == "rollback"
        assert "somebody else has changed it" in done.final.reason
        site.recover(done)
        assert site.fleet.differences(before) == []


SPELLS = (
    *("preflight", "rollout", "switch", "converged", "watch", "cleanup", "rollback", "final-state"),
)
"""Steps from which on nothing answers; what is between them is as the one before it."""


@pytest.mark.parametrize("step", SPELLS)
def test_a_platform_that_is_gone_for_a_while(site: Site, step: str) -> None:
    before = site.state()
    done = site.perform(Gone(site, step, 0.6), old="scale_down")
    assert check(site, done, before) != "rollback failed", done.final
    if step in ("rollout", "converged", "watch", "final-state"):
        assert done.result.success, done.failed


@pytest.mark.parametrize("step", ["deploy", *SPELLS])
def test_a_platform_that_is_gone_for_good(site: Site, step: str) -> None:
    before = site.state()
    done = site.perform(
        Gone(site, step, 1e9),
        rollout_timeout=1.0,
        converge_timeout=1.0,
        rollback_timeout=1.0,
        old="scale_down",
    )
    assert done.seconds < 10
    if step == "final-state":
        assert done.result.success is False
        assert done.final.verdict is Verdict.ERROR
        assert done.final.reason == (
            "the state cannot be read: the platform does not answer; to look at it, run:\n"
            "  llmdeploy rollback --env local --look\nand to let the new version stay:\n"
            "  llmdeploy rollback --env local --keep-new"
        )
    elif step in ("preflight", "deploy"):  # the journal cannot be begun
        assert done.final.reason == (
            "nothing was changed: the release ended before its first change"
        )
    elif step == "cleanup":
        assert done.failed.name == "cleanup"
        assert done.result.success is False
    else:
        assert check(site, done, before) == "rollback failed"
        site.recover(done)
        assert site.fleet.differences(before) == []


@pytest.mark.parametrize("old", ["scale_down", "delete"])
def test_a_release_that_ended_in_its_cleanup_is_undone_without_a_loss(site: Site, old: str) -> None:
    before = site.state()
    done = site.perform(Gone(site, "final-state", 1e9), old=old, converge_timeout=1.0)
    assert done.final.verdict is Verdict.ERROR
    traffic = site.traffics[0].__class__(site.fleet.entry().url, site.folder / "ledger").start()
    try:
        site.recover(done)
    finally:
        traffic.finish()
    assert site.fleet.differences(before) == []
    assert traffic.progress().failed == 0
    versions = [record["version"] for record in traffic.records()]
    assert versions[-1] == before_version(done)


def before_version(done: Performed) -> str:
    """Return the version that ran before the release."""
    assert done.result.previous_image is not None
    return done.result.previous_image.partition(":")[2]


def test_a_second_release_is_refused_by_the_name_of_the_one_at_work(site: Site) -> None:
    first, _, calls = site.release(watch_duration=30.0, holder="anna@there:7")
    thread = threading.Thread(target=first.run)
    thread.start()
    other = site.client()
    try:
        wait_until(lambda: ("watch", "pods") in calls, 20)
        second = site.perform(fleet=other, holder="ben@here:8")
        assert second.failed.name == "preflight"
        assert second.failed.reason == ("anna@there:7 holds the lock of this fleet, and is at work")
        assert second.final.reason.startswith("nothing was changed")
        assert [call for call in second.calls if call[1] in CHANGES] == []
        assert site.fleet.color() == first._release.new
    finally:
        other.close()
        first.abort("the test is over")
        thread.join()


def test_what_a_dead_release_left_unfinished_has_to_be_finished_first(site: Site) -> None:
    before = site.state()
    done = site.perform(Gone(site, "watch", 1e9), rollback_timeout=1.0, converge_timeout=1.0)
    assert check(site, done, before) == "rollback failed"
    site.fleet.lock.close()  # as the end of its process does
    other = site.client()
    try:
        second = site.perform(fleet=other, holder="ben@here:8")
        assert second.failed.reason == (
            f"the release of {done.result.image} as {done.result.new_color} was interrupted after "
            "'switch', and is not finished; first run `llmdeploy rollback --env local`"
        )
    finally:
        other.close()
        site.recover(done)
    assert site.fleet.differences(before) == []


def test_the_lock_of_a_dead_release_that_changed_nothing_is_taken(site: Site) -> None:
    dead = site.client()
    dead.lock.acquire("anna@there:7")
    dead.close()
    done = site.perform(holder="ben@here:8")
    assert done.result.success, done.failed
    assert site.is_free()


def test_a_disk_that_takes_no_more_does_not_stand_in_the_way_back(site: Site) -> None:
    before = site.state()
    told: list[bool] = []

    def full(phase: str, method: str, when: str) -> None:
        if (phase, method, when) == ("watch", "endpoints", BEFORE) and not told:
            path = release.journal.path
            path.rename(path.with_name("moved"))
            path.mkdir()  # nothing can be appended to that
            told.append(True)
            site.lose()

    def no_space(*_: object) -> None:
        if told:
            raise OSError(28, "No space left on device")

    def hears(action: str, arguments: Mapping[str, Any]) -> None:
        note(action, arguments)
        if told:
            raise PlatformError("the audit trail cannot be written")

    def on_step(record: StepRecord) -> None:
        tell(record)
        no_space()

    first, release, _ = site.release(full)
    note, release.on_action, tell = release.on_action, hears, first._on_step
    result = Conductor(release, STEPS, on_step, no_space).run()
    assert told
    assert result.rollback is not None
    assert result.rollback.succeeded, result.rollback.reason
    assert [step.name for step in result.steps] == [*STEPS, "final-state"]
    assert site.fleet.differences(before) == []
    assert site.is_free()


def test_clients_that_release_in_turns(site: Site) -> None:
    one, other = site.client(), site.client()
    try:
        done = site.perform(Gone(site, "smoke", 0.1), fleet=one)
        assert done.failed.name == "smoke"
        for fleet, image in ((other, "app:1"), (other, "app:2"), (one, "app:3")):
            done = site.perform(fleet=fleet, image=image)
            assert done.result.success, done.failed
    finally:
        one.close()
        other.close()
