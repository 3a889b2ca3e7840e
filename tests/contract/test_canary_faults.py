"""Canaries whose platform, router or figures fail: promoted, taken back, held; never half."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from pytest_llmdeploy.errors import ConflictError, NoDataError, NotMeasuredError, PlatformError
from pytest_llmdeploy.platforms.local_fleet.launching import stop_fleet
from pytest_llmdeploy.ports import Route, Router
from pytest_llmdeploy.release import conductor, journal, prepare
from pytest_llmdeploy.release.canary import judge
from pytest_llmdeploy.release.routed import RoutedFleet
from pytest_llmdeploy.verdicts import Verdict
from tests.canary_faults import BAD, CANARY_CONFIG, Blind, CanarySite, kill_in_child
from tests.contract.conftest import wait_until
from tests.contract.test_local_fleet import process_of
from tests.release_faults import AFTER, BEFORE, Performed

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the local fleet needs Linux")

STEPS = [
    *("preflight", "deploy", "rollout", "health", "smoke", "warm-up", "route"),
    *("weight-40", "weight-100", "promote", "zero-loss", "cleanup", "final-state"),
]
CALLS = [
    ("preflight", "color"),
    ("preflight", "entry"),
    ("preflight", "preflight"),
    ("preflight", "router.preflight"),
    ("preflight", "lock.acquire"),
    ("preflight", "journal.read"),
    ("preflight", "image"),
    ("preflight", "rollout"),
    ("preflight", "snapshot"),
    ("preflight", "router.snapshot"),
    ("deploy", "journal.clear"),
    ("deploy", "journal.append"),
    ("deploy", "deploy"),
    ("rollout", "rollout"),
    ("rollout", "pods"),
    ("health", "direct"),
    ("smoke", "direct"),
    ("warm-up", "direct"),
    ("route", "pods"),
    ("route", "journal.append"),
    ("route", "router.prepare"),
    ("route", "router.lacks"),
    ("weight-40", "journal.append"),
    ("weight-40", "router.set_weight"),
    ("weight-40", "router.lacks"),
    ("weight-40", "rollout"),
    ("weight-40", "pods"),
    ("weight-40", "router.read"),
    ("weight-100", "journal.append"),
    ("weight-100", "router.set_weight"),
    ("weight-100", "router.lacks"),
    ("weight-100", "rollout"),
    ("weight-100", "pods"),
    ("weight-100", "router.read"),
    ("promote", "journal.append"),
    ("promote", "switch"),
    ("promote", "router.promote"),
    ("promote", "router.lacks"),
    ("promote", "rollout"),
    ("promote", "endpoints"),
    ("promote", "pods"),
    ("cleanup", "journal.append"),
    ("cleanup", "scale"),
    ("final-state", "color"),
    ("final-state", "image"),
    ("final-state", "journal.append"),
    ("final-state", "lock.release"),
]
"""Each place at which a canary calls the platform or the router."""
BACK = [
    ("rollback", "rollout"),
    ("rollback", "journal.append"),
    ("rollback", "router.restore_weights"),
    ("rollback", "restore_traffic"),
    ("rollback", "endpoints"),
    ("rollback", "pods"),
    ("rollback", "evidence"),
    ("rollback", "router.read"),
    ("rollback", "router.restore"),
    ("rollback", "restore_replicas"),
    ("rollback", "router.differences"),
    ("rollback", "differences"),
]
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


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CanarySite]:
    """A fleet on which the tests release one after the other."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepare, "BASELINE_DURATION", 0.1)
        patch.setattr(prepare, "FEWEST_BASELINE", 3)
        patch.setattr(conductor, "UNLOCK_TIMEOUT", 1.0)
        patch.setattr(journal, "END_INTERVAL", 0.05)
        # A right split is called wrong with this probability at most, in a phase: there are about
        # 300 of them here. Nothing else is left to chance: a good version has no failure, and a bad
        # one is judged until it is known.
        patch.setattr(judge, "SPLIT_ALPHA", 1e-9)
        made = CanarySite.build(tmp_path_factory.mktemp("site"), CANARY_CONFIG)
        made.fleet.entry()
        yield made
        made.fleet.close()
        assert stop_fleet(made.folder / "output" / "fleets" / "local", 20)


@pytest.fixture(autouse=True)
def _as_before(site: CanarySite) -> Iterator[None]:
    """Let no test meet what another one has left."""
    yield
    site.clear()


@pytest.fixture
def before(site: CanarySite) -> dict[str, Any]:
    """Return the state of fleet and route at rest."""
    return site.whole_state()


class Once:
    """Fails one call; for one of the way back the version is a bad one."""

    def __init__(self, call: tuple[str, str], error: BaseException, when: str = BEFORE) -> None:
        self.call = call
        self.error = error
        self.when = when
        self.met = False

    @property
    def image(self) -> str | None:
        return BAD if self.call[0] == "rollback" else None

    def __call__(self, phase: str, method: str, when: str) -> None:
        if (phase, method, when) == (*self.call, self.when) and not self.met:
            self.met = True
            raise self.error


def check(site: CanarySite, done: Performed, before: dict[str, Any]) -> str:
    """Check that what the canary says is what is so; return how it ended."""
    result, final, fleet = done.result, done.final, site.routed()
    assert [step.name for step in result.steps] == STEPS
    entries = site.fleet.journal.read()
    if result.success:
        assert final.verdict is Verdict.PASS
        assert (fleet.color(), fleet.image(result.new_color)) == (result.new_color, result.image)
        assert alone(fleet, result.new_color)
        assert site.is_free()
        assert entries[-1]["state"] == "released"
        return "released"
    assert any(step.verdict is not Verdict.PASS for step in result.steps)
    if final.verdict is Verdict.PASS:
        assert list(fleet.differences(before)) == []
        assert site.is_free()
        if result.rollback is None:
            return "nothing changed"
        assert entries[-1]["state"] == "rolled back"
        return "rolled back"
    assert result.rollback is not None
    assert not result.rollback.succeeded
    assert final.verdict is Verdict.FAIL
    assert final.reason.startswith("ROLLBACK FAILED: ")
    return "rollback failed"


def alone(fleet: RoutedFleet, color: str) -> bool:
    """Return whether the route leads to one colour, without a header route."""
    route = fleet.router.read()
    return route.weights.get(color) == 100 and route.header is None


def test_every_call_of_a_canary_is_tried_below(site: CanarySite) -> None:
    done = site.perform(old="scale_down")
    assert done.result.success, done.failed
    assert dict.fromkeys(done.calls) == dict.fromkeys(CALLS)
    done = site.perform(image=BAD)
    assert (done.failed.name, done.failed.verdict) == ("weight-40", Verdict.FAIL)
    assert done.failed.reason.startswith("error_rate (")
    back = [call for call in done.calls if call[0] == "rollback"]
    assert dict.fromkeys(back) == dict.fromkeys(BACK)
    assert done.result.rollback is not None
    assert done.result.rollback.succeeded
    phases = done.result.canary["phases"]
    assert [(phase["name"], phase["verdict"]) for phase in phases] == [("weight-40", "FAIL")]


@pytest.mark.parametrize("call", CALLS + BACK, ids="-".join)
def test_one_call_that_fails(
    site: CanarySite, before: dict[str, Any], call: tuple[str, str]
) -> None:
    fault = Once(call, PlatformError("HTTP 500 of the platform"))
    done = site.perform(fault, image=fault.image, old="scale_down")
    assert fault.met
    ended = check(site, done, before)
    assert ended != "rollback failed", done.final
    if not done.result.success:
        text = done.failed.reason
        assert "HTTP 500 of the platform" in text or call[0] == "rollback", done.failed
        assert (done.failed.verdict is Verdict.ERROR) is (call[0] != "rollback")


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


# Routers that do not do what they say


class Spoilt:
    """A router, of which one method is replaced."""

    def __init__(self, router: Router, **methods: Any) -> None:
        self._router = router
        self._methods = methods

    def __getattr__(self, name: str) -> Any:
        return self._methods.get(name) or getattr(self._router, name)


def ignores_weights(router: Router) -> Any:
    return Spoilt(router, set_weight=lambda _stable, _canary, weight: weight)


@pytest.mark.parametrize("weight", [5, 40])
def test_a_router_that_ignores_weights_says_nothing_about_the_version(
    site: CanarySite, before: dict[str, Any], weight: int
) -> None:
    phases = [{"weight": weight, "duration": 0.3}, {"weight": 100, "duration": 0.3}]
    settings = {"phases": phases, "converge_timeout": 1.5, "split_tolerance": 0.1}
    done = site.perform(router=ignores_weights, canary=settings)
    assert list(site.routed().differences(before)) == []
    assert (done.failed.name, done.failed.verdict) == (f"weight-{weight}", Verdict.ERROR)
    assert done.failed.reason.startswith(
        f"Envoy of local took the weight {weight}, but it is not served: {weight} % of new "
        "connections should be answered by "
    )
    assert done.failed.reason.endswith("says nothing about the new version; look at what routes")
    assert done.final.reason.startswith("rolled back: ")


def test_a_router_that_forgets_the_weight_during_a_phase(
    site: CanarySite, before: dict[str, Any]
) -> None:
    told: list[bool] = []

    def forgets(phase: str, method: str, when: str) -> None:
        if (phase, method, when) == ("weight-40", "router.read", BEFORE) and not told:
            told.append(True)
            other = site.routed().router
            route = other.read()
            stable = max(route.weights, key=lambda color: route.weights[color])
            canary = min(route.weights, key=lambda color: route.weights[color])
            other.set_weight(stable, canary, 0)

    def lies(router: Router) -> Any:
        def read() -> Route:
            color = site.fleet.color() or ""
            return Route({color: 60, "green" if color == "blue" else "blue": 40})

        return Spoilt(router, read=read)

    phases = [{"weight": 40, "duration": 5, "max_duration": 30}]
    done = site.perform(forgets, router=lies, canary={"phases": phases})
    assert told
    assert list(site.routed().differences(before)) == []
    assert (done.failed.name, done.failed.verdict) == ("weight-40", Verdict.ERROR)
    assert "the traffic is not split as it should be" in done.failed.reason


def test_a_header_route_that_leads_nowhere(site: CanarySite, before: dict[str, Any]) -> None:
    def without_header(router: Router) -> Any:
        plain = site.fleet.router(site.canary_config(router={"header": None}))
        return Spoilt(router, prepare=plain.prepare)

    done = site.perform(router=without_header, canary={"converge_timeout": 1.0})
    assert check(site, done, before) == "rolled back"
    assert (done.failed.name, done.failed.verdict) == ("route", Verdict.ERROR)
    assert done.failed.reason.startswith(
        "the header route of Envoy of local does not do what it says: 3 connections with canary "
        "in a row should be answered by "
    )


def test_a_split_that_somebody_else_changes_during_a_phase(
    site: CanarySite, before: dict[str, Any]
) -> None:
    def meddles(phase: str, method: str, when: str) -> None:
        if (phase, method, when) == ("weight-40", "router.read", BEFORE):
            stable = site.fleet.color() or ""
            new = "green" if stable == "blue" else "blue"
            site.fleet.router(site.canary_config()).set_weight(stable, new, 70)

    done = site.perform(meddles)
    assert check(site, done, before) == "rolled back", done.final
    assert (done.failed.name, done.failed.verdict) == ("weight-40", Verdict.ERROR)
    assert "70 % now, not 40 %: somebody else has changed it" in done.failed.reason


@pytest.mark.parametrize(
    "call", [("weight-40", "router.read"), ("weight-100", "router.set_weight")]
)
def test_a_replica_that_is_restarted(
    site: CanarySite, before: dict[str, Any], call: tuple[str, str]
) -> None:
    """During a phase, and between two of them."""
    killed: list[str] = []

    def kills(phase: str, method: str, when: str) -> None:
        if (phase, method, when) == (*call, BEFORE) and not killed:
            pods = site.fleet.pods(release.new)
            killed.append(pods[0].name)
            end_process(site, pods[0].name)

    phases = [{"weight": 40, "duration": 3}, {"weight": 100, "duration": 3}]
    performed, release, calls = site.release(kills, canary={"phases": phases})
    done = Performed(release, performed.run(), calls, 0.0)
    assert killed
    assert check(site, done, before) == "rolled back", done.final
    assert (done.failed.name, done.failed.verdict) == (call[0], Verdict.FAIL), done.failed
    assert done.failed.reason.startswith(f"replica {killed[0]} was restarted"), done.failed


def end_process(site: CanarySite, pod: str) -> None:
    """Kill a replica, and wait until its supervisor has noticed."""
    before = {each.name: each.restarts for each in site.fleet.pods(color_of(pod))}
    os.kill(process_of(site.fleet, pod), signal.SIGKILL)
    wait_until(
        lambda: any(
            each.restarts > before.get(each.name, 0) for each in site.fleet.pods(color_of(pod))
        ),
        20,
    )


def color_of(pod: str) -> str:
    return pod.split("-")[1]


# Figures that are not there


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (NotMeasuredError("http://prometheus: connection refused"), Verdict.ERROR),
        (NoDataError("no series for rate(errors[30s])"), Verdict.INCONCLUSIVE),
    ],
    ids=["down", "empty"],
)
def test_figures_that_cannot_be_had_never_pass_and_are_not_needed_for_the_way_back(
    site: CanarySite, before: dict[str, Any], error: Exception, verdict: Verdict
) -> None:
    phases = [{"weight": 40, "duration": 0.4, "max_duration": 0.8}]
    done = site.perform(source=Blind(error), canary={"phases": phases})
    assert list(site.routed().differences(before)) == []
    assert (done.failed.name, done.failed.verdict) == ("weight-40", verdict), done.failed
    assert str(error) in done.failed.reason
    assert done.final.verdict is Verdict.PASS
    assert done.final.reason.startswith("rolled back: ")
    assert site.is_free()
