"""Canaries whose router, traffic, figures or disk do not do what they say."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import pytest

from pytest_llmdeploy.errors import NoDataError, NotMeasuredError
from pytest_llmdeploy.ports import RequestOutcome, Route, Router
from pytest_llmdeploy.verdicts import Verdict
from tests.canary_checks import REST, canary_steps_of, check, end_process, held
from tests.canary_faults import Blind, CanarySite
from tests.contract.conftest import wait_until
from tests.release_faults import BEFORE, Performed, ThreadTraffic

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the local fleet needs Linux")


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


def test_a_disk_that_takes_no_looks(site: CanarySite, before: dict[str, Any]) -> None:
    performed, release, calls = site.release()
    assert release.canary is not None
    (release.canary.folder / "looks.jsonl").mkdir(parents=True)
    done = Performed(release, performed.run(), calls, 0.0)
    assert check(site, done, before) == "rolled back"
    assert (done.failed.name, done.failed.verdict) == ("weight-40", Verdict.ERROR)
    assert done.failed.reason.startswith("what the phase saw cannot be kept: ")
