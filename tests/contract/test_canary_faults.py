"""Canaries whose platform, router or figures fail: promoted, taken back, held; never half."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from pytest_llmdeploy.assembly.recoveries import take_lock
from pytest_llmdeploy.errors import ConflictError, NoDataError, NotMeasuredError, PlatformError
from pytest_llmdeploy.platforms.local_fleet.launching import stop_fleet
from pytest_llmdeploy.ports import RequestOutcome, Route, Router
from pytest_llmdeploy.release import conductor, journal, prepare
from pytest_llmdeploy.release.canary import judge
from pytest_llmdeploy.release.journal import Journal, read_entries, situation
from pytest_llmdeploy.release.recovery import Recovery
from pytest_llmdeploy.release.routed import RoutedFleet
from pytest_llmdeploy.verdicts import Verdict
from tests.canary_faults import BAD, CANARY_CONFIG, LATE, Blind, CanarySite, kill_in_child
from tests.contract.conftest import wait_until
from tests.contract.test_local_fleet import process_of
from tests.release_faults import AFTER, BEFORE, Performed, Site, ThreadTraffic

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


def test_a_router_that_changes_the_number_of_replicas(site: CanarySite) -> None:
    """Where there is no mesh, replicas are the weights: what goes for that has not died."""

    def scales(router: Router) -> Any:
        def set_weight(stable: str, canary: str, weight: int) -> int:
            site.fleet.scale(canary, 1 if weight < 100 else 2)
            wait_until(lambda: len(ready(canary)) == (1 if weight < 100 else 2), 20)
            return router.set_weight(stable, canary, weight)

        return Spoilt(router, set_weight=set_weight)

    def ready(color: str) -> list[str]:
        return [pod.name for pod in site.fleet.pods(color) if pod.ready and not pod.terminating]

    done = site.perform(router=scales)
    assert done.result.success, done.failed
    first = held(site, router=scales)
    new, image = first.result.new_color, first.result.image
    assert len(ready(new)) == 1
    assert first.release.canary is not None
    assert first.release.canary.canary is not None
    assert first.release.canary.canary.pods == tuple(ready(new))  # whose figures are asked for
    performed, release, calls = site.release(router=scales, image=image)
    seen: list[int] = []
    release.on_action = lambda _name, _more: seen.append(len(ready(new)))
    again = Performed(release, performed.run(), calls, 0.0)
    assert again.result.success, again.failed
    assert ("deploy", "deploy") not in again.calls
    assert seen[0] == 1  # before the next weight nothing has changed
    assert canary_steps_of(again)["deploy"] == (
        f"{image} is deployed as {new} already, and is left as it is"
    )


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


# Releases that wait for a person, and runs that go on with them


def canary_steps_of(done: Performed) -> dict[str, str]:
    """Return the reasons of the steps by their names."""
    return {step.name: step.reason for step in done.result.steps}


LONG = [{"weight": 40, "duration": 0.3, "max_duration": 30, "approve": "exit"}]
REST = [{"weight": 100, "duration": 0.3, "max_duration": 30}]


def held(site: CanarySite, **options: Any) -> Performed:
    """Return a canary that is held at 40 %."""
    done = site.perform(canary={"phases": LONG + REST}, **options)
    assert done.failed.name == "approve-weight-40", done.failed
    assert site.fleet.journal.read()[-1]["kind"] == "held"
    return done


def split_of(site: CanarySite, color: str) -> int:
    """Return the weight of a colour."""
    return site.routed().router.read().weights.get(color, 0)


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
        f"s: {new} ({image}) keeps 40 % of the traffic, {first.result.previous_color} the rest; to "
        "go on, release the same image again, which watches that phase once more; to take it back, "
        "run `llmdeploy rollback --env local`"
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
    fault = Once(("cleanup", "scale"), PlatformError("HTTP 500 of the platform"))
    done = site.perform(fault, weight=100, old="scale_down")
    assert fault.met
    assert (done.failed.name, done.final.verdict) == ("cleanup", Verdict.PASS)
    assert done.result.rollback is None
    assert site.fleet.color() == done.result.new_color


# Approvals, and files by which people steer


def during(call: tuple[str, str], act: Callable[[], object]) -> Callable[[str, str, str], None]:
    """Return a fault that does something once at a call."""
    left = [act]

    def fault(phase: str, method: str, when: str) -> None:
        if (phase, method) == call and left:
            left.pop()()

    return fault


FILE = [{**LONG[0], "approve": "file"}]


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


FILE_AT_60 = [{"weight": 60, "duration": 60, "approve": "file"}]


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


def test_traffic_that_ends_badly(site: CanarySite, before: dict[str, Any]) -> None:
    """The load generator has died: nothing is known any more."""

    class Dying(ThreadTraffic):
        def outcomes(self) -> Sequence[RequestOutcome]:
            if len(list(self.records())) > 100:
                raise NotMeasuredError("the load generator was killed")
            return super().outcomes()

    phases = [{"weight": 40, "duration": 2, "max_duration": 3}, *REST]
    done = site.perform(
        traffic=lambda folder, url: Dying(url, folder / "ledger"), canary={"phases": phases}
    )
    assert check(site, done, before) == "rolled back"
    assert (done.failed.name, done.failed.verdict) == ("weight-40", Verdict.ERROR), done.failed
    assert "the load generator was killed" in done.failed.reason


# What keeps its records, and what keeps a killed promotion


def test_a_disk_that_takes_no_looks(site: CanarySite, before: dict[str, Any]) -> None:
    performed, release, calls = site.release()
    assert release.canary is not None
    (release.canary.folder / "looks.jsonl").mkdir(parents=True)
    done = Performed(release, performed.run(), calls, 0.0)
    assert check(site, done, before) == "rolled back"
    assert (done.failed.name, done.failed.verdict) == ("weight-40", Verdict.ERROR)
    assert done.failed.reason.startswith("what the phase saw cannot be kept: ")


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
