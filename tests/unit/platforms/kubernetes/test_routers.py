"""Routers against a small API server: other writers, lost answers, dropped fields, statuses."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from pytest_llmdeploy.errors import ConflictError, LockedError, PlatformError
from pytest_llmdeploy.platforms.kubernetes.names import Names
from pytest_llmdeploy.platforms.kubernetes.routing.gateway_api import GatewayApiRouter
from pytest_llmdeploy.platforms.kubernetes.routing.istio import IstioRouter
from pytest_llmdeploy.platforms.kubernetes.routing.objects import Objects
from pytest_llmdeploy.platforms.kubernetes.routing.replicas import (
    ReplicasRouter,
    replicas_for,
    weight_of,
)
from tests.unit.platforms.kubernetes.routers import Replicas, router_of
from tests.unit.platforms.kubernetes.server import LOST, Server, status

NAMES = Names("shop", "llm")
ISTIO = "/apis/networking.istio.io"
ROUTE = NAMES.group("networking.istio.io/v1", "virtualservices", "llm")
SPEC: dict[str, Any] = {"hosts": ["a"], "http": [{"name": "chat", "weight": 100}]}


def service(selector: dict[str, str], name: str = "llm") -> dict[str, Any]:
    ports = [{"name": "http", "port": 80, "targetPort": 8000, "nodePort": 30081}]
    return {"metadata": {"name": name}, "spec": {"selector": selector, "ports": ports}}


@pytest.fixture
def server() -> Server:
    server = Server()
    server.put(ROUTE, {"metadata": {"name": "llm"}, "spec": deepcopy(SPEC)})
    server.put(NAMES.service_path(), service({"app": "llm", "color": "blue"}))
    server.put(ISTIO, {"versions": [{"version": "v1beta1"}, {"version": "v1"}]})
    return server


def objects(server: Server) -> Objects:
    return Objects(server.api(), lambda: None, server.clock)


def weighted(weight: int) -> Any:
    return lambda spec: {**spec, "http": [{**spec["http"][0], "weight": weight}]}


def change(found: Objects, weight: int, *, force: bool = False) -> bool:
    return found.change(ROUTE, weighted(weight), lambda spec: spec["http"], "http", force=force)


def present(server: Server) -> Any:
    return server.objects[ROUTE]["spec"]


def written_by(server: Server, manager: str, spec: dict[str, Any]) -> None:
    fields: dict[str, Any] = {"f:spec": {"f:http": {}}}
    entry = {"manager": manager, "time": "2026-01-01T00:00:00Z", "fieldsV1": fields}
    server.put(ROUTE, {"metadata": {"name": "llm", "managedFields": [entry]}, "spec": spec})


def test_a_change_is_one_patch_and_none_where_nothing_is_to_change(server: Server) -> None:
    found = objects(server)
    assert change(found, 5)
    assert not change(found, 5)
    assert present(server) == {"hosts": ["a"], "http": [{"name": "chat", "weight": 5}]}
    assert [method for method, _ in server.requests].count("PATCH") == 1


def test_a_change_whose_answer_is_lost_is_found_done(server: Server) -> None:
    server.trouble = [None, LOST]
    assert change(objects(server), 5)
    assert present(server)["http"][0]["weight"] == 5
    assert [method for method, _ in server.requests].count("PATCH") == 1


def test_another_writer_of_our_part_is_named_whenever_it_comes(server: Server) -> None:
    found = objects(server)
    change(found, 5)
    other = {**SPEC, "http": [{"name": "chat", "weight": 77}]}
    written_by(server, "argocd-controller", other)
    said = r"virtualservices/llm in namespace shop: spec\.http is not as this release left it; "
    with pytest.raises(ConflictError, match=said + r"argocd-controller \(2026-01-01T00:00:00Z\)"):
        change(found, 25)
    assert present(server) == other
    assert change(found, 25, force=True)
    assert change(found, 50)

    def just_before(method: str) -> None:
        if method == "PATCH":
            server.before = lambda _: None
            written_by(server, "kubectl-edit", other)

    server.before = just_before
    with pytest.raises(ConflictError, match=r"; kubectl-edit \(.*\) wrote it last"):
        change(found, 75)


def test_what_is_not_ours_may_be_written_at_the_same_time(server: Server) -> None:
    def just_before(method: str) -> None:
        if method == "PATCH":
            server.before = lambda _: None
            server.put(ROUTE, {"metadata": {"name": "llm"}, "spec": {**SPEC, "hosts": ["b"]}})

    server.before = just_before
    assert change(objects(server), 5)
    assert present(server) == {"hosts": ["b"], "http": [{"name": "chat", "weight": 5}]}


def test_a_refusal_that_is_no_conflict_is_told_as_it_is(server: Server) -> None:
    server.trouble = [None, status(422, "Invalid", "a webhook says no")]
    with pytest.raises(PlatformError, match="a webhook says no"):
        change(objects(server), 5)
    server.trouble = [None, status(403, "Forbidden", "no rights")]
    with pytest.raises(PlatformError, match="no rights"):
        change(objects(server), 5)


def test_a_weight_that_the_server_drops_is_an_error(server: Server) -> None:
    def drop(method: str) -> None:
        spec = present(server)
        if method == "GET" and spec["http"][0].get("weight") == 5:
            server.put(ROUTE, {"metadata": {"name": "llm"}, "spec": {**SPEC, "http": [{}]}})

    server.before = drop
    with pytest.raises(PlatformError, match=r"kept something else at spec\.http\[0\]\.name"):
        change(objects(server), 5)


def test_an_object_that_is_gone_is_a_conflict(server: Server) -> None:
    del server.objects[ROUTE]
    with pytest.raises(ConflictError, match="virtualservices/llm in namespace shop is gone"):
        change(objects(server), 5)


def test_only_what_we_made_is_removed(server: Server) -> None:
    found, path = objects(server), NAMES.core("services", "extra")
    assert not found.remove(NAMES.service_path())
    assert NAMES.service_path() in server.objects
    assert found.make(path, service({}, "extra"))
    assert not found.make(path, service({}, "extra"))
    assert found.remove(path)
    assert not found.remove(path)
    assert path not in server.objects


def test_nothing_is_written_without_the_lock(server: Server) -> None:
    def lost() -> None:
        raise LockedError("somebody else releases", "ann", alive=True)

    with pytest.raises(LockedError):
        change(Objects(server.api(), lost, server.clock), 5)
    assert present(server) == SPEC


def selector(server: Server) -> Any:
    return server.objects[NAMES.service_path()]["spec"]["selector"]


def test_which_router(server: Server) -> None:
    assert isinstance(router_of(server, NAMES), ReplicasRouter)
    assert isinstance(router_of(server, NAMES, kind="istio"), IstioRouter)
    assert isinstance(router_of(server, NAMES, kind="gateway-api"), GatewayApiRouter)
    with pytest.raises(PlatformError, match=r"canary\.router\.kind: envoy splits on this machine"):
        router_of(server, NAMES, kind="envoy")


def test_without_istio_its_router_says_so(server: Server) -> None:
    del server.objects[ISTIO]
    (finding,) = router_of(server, NAMES, kind="istio").preflight("blue", "green")
    assert finding.fatal
    assert finding.text.startswith("the cluster has no VirtualService (networking.istio.io)")


@pytest.mark.parametrize(
    ("weight", "stable", "replicas", "made"),
    [(5, 3, 1, 25), (50, 3, 3, 50), (25, 3, 1, 25), (5, 19, 1, 5), (75, 2, 6, 75), (1, 1, 1, 50)],
)
def test_replicas_make_the_nearest_weight(
    weight: int, stable: int, replicas: int, made: int
) -> None:
    assert replicas_for(weight, stable) == replicas
    assert weight_of(replicas, stable) == made


def test_replicas_first_and_the_service_afterwards(server: Server) -> None:
    replicas = Replicas()
    found = router_of(server, NAMES, replicas)
    snapshot = found.snapshot()
    found.prepare("blue", "green")
    assert not found.has_header
    assert found.set_weight("blue", "green", 5) == 25
    assert (replicas.counts, selector(server)) == ({"blue": 3, "green": 1}, {"app": "llm"})
    assert found.set_weight("blue", "green", 50) == 50
    assert found.set_weight("blue", "green", 100) == 100
    assert (replicas.counts["green"], selector(server)["color"]) == (3, "green")
    found.promote("green")
    assert selector(server)["color"] == "green"
    assert found.differences(snapshot) == [
        "Service shop/llm (replicas): selector.color is green, was blue"
    ]
    found.restore_weights(snapshot)
    found.restore(snapshot)
    assert found.differences(snapshot) == []


@pytest.mark.parametrize(("stable", "canary"), [("blue", "green"), ("green", "blue")])
@pytest.mark.parametrize("beside", range(1, 13))
def test_what_replicas_make_is_what_is_read(
    server: Server, stable: str, canary: str, beside: int
) -> None:
    """Halves included: what is read differently has been changed by somebody else."""
    server.put(NAMES.service_path(), service({"app": "llm", "color": stable}))
    replicas = Replicas({stable: beside, canary: 0})
    found = router_of(server, NAMES, replicas)
    for weight in range(1, 100):
        made = found.set_weight(stable, canary, weight)
        assert found.read().weights == {stable: 100 - made, canary: made}
    replicas.counts[canary] = beside
    assert found.read().weights[canary] != made


def test_a_promotion_from_a_few_replicas_fills_them_up_first(server: Server) -> None:
    replicas = Replicas()
    found = router_of(server, NAMES, replicas)
    found.set_weight("blue", "green", 5)
    found.promote("green")
    assert (replicas.counts["green"], selector(server)["color"]) == (3, "green")


def test_a_service_that_somebody_else_opened_is_a_conflict(server: Server) -> None:
    server.put(NAMES.service_path(), service({"app": "llm"}))
    with pytest.raises(ConflictError, match="Service llm leads to no colour, not to blue"):
        router_of(server, NAMES).set_weight("blue", "green", 50)


def test_a_split_goes_on_in_another_process(server: Server) -> None:
    replicas = Replicas()
    first = router_of(server, NAMES, replicas)
    before = first.snapshot()
    first.set_weight("blue", "green", 5)
    annotations = server.objects[NAMES.service_path()]["metadata"]["annotations"]
    assert annotations == {"llmdeploy/stable": "blue"}
    second = router_of(server, NAMES, replicas)
    assert second.set_weight("blue", "green", 50) == 50
    assert second.set_weight("blue", "green", 100) == 100
    assert not server.objects[NAMES.service_path()]["metadata"]["annotations"]
    third = router_of(server, NAMES, replicas)
    assert third.set_weight("blue", "green", 5) == 25
    third.restore_weights(before)
    assert not server.objects[NAMES.service_path()]["metadata"]["annotations"]
    assert selector(server) == {"app": "llm", "color": "blue"}


def test_what_replicas_cannot_do_is_said_before(server: Server) -> None:
    found = router_of(server, NAMES).preflight("blue", "green")
    assert [finding.fatal for finding in found] == [False, False]
    assert "5 % is 25 % (1 beside 3), 50 % is 50 % (3 beside 3)" in found[0].text
    assert found[1].text == "without a mesh no header leads to the new version"
    (first, *_) = router_of(server, NAMES, route="scaled").preflight("blue", "green")
    assert first.fatal
    assert first.text.startswith("an autoscaler scales green")


HTTP_ROUTE = NAMES.group("gateway.networking.k8s.io/v1", "httproutes", "llm")
GOOD = [
    {"type": "Accepted", "status": "True", "observedGeneration": 2},
    {"type": "ResolvedRefs", "status": "True", "observedGeneration": 2},
]


@pytest.mark.parametrize(
    ("parents", "said"),
    [
        ([GOOD], None),
        ([], "no Gateway has taken it up"),
        ([GOOD[:1]], "Gateway entry: ResolvedRefs is not True: nothing said"),
        (
            [GOOD, [{**GOOD[0], "status": "False", "message": "no listener"}, GOOD[1]]],
            "no listener",
        ),
        (
            [[{**GOOD[0], "observedGeneration": 1}, GOOD[1]]],
            "Accepted is about generation 1, the present one is 2",
        ),
    ],
)
def test_the_status_of_an_http_route(server: Server, parents: Any, said: str | None) -> None:
    group = "/apis/gateway.networking.k8s.io"
    server.put(group, {"versions": [{"version": "v1"}]})
    status = {"parents": [{"parentRef": {"name": "entry"}, "conditions": one} for one in parents]}
    route = {"metadata": {"name": "llm", "generation": 2}, "spec": {}, "status": status}
    server.put(HTTP_ROUTE, route)
    found = router_of(server, NAMES, kind="gateway-api").lacks()
    assert (found is None) if said is None else said in str(found)


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ({}, None),
        ({"conditions": [{"type": "Reconciled", "status": "True"}], "observedGeneration": 2}, None),
        (
            {"conditions": [{"type": "Reconciled", "status": "False", "message": "1 of 2"}]},
            "not every proxy has it: 1 of 2",
        ),
        (
            {"conditions": [{"type": "Reconciled", "status": "True"}], "observedGeneration": "1"},
            "its status is about generation 1, the present one is 2",
        ),
        (
            {"validationMessages": [{"level": "ERROR", "type": {"code": "IST0101", "name": "X"}}]},
            "IST0101 X",
        ),
        ({"validationMessages": [{"level": "WARNING", "type": {"code": "IST0109"}}]}, None),
    ],
)
def test_the_status_of_a_virtual_service(
    server: Server, status: dict[str, Any], said: str | None
) -> None:
    route = {"metadata": {"name": "llm", "generation": 2}, "spec": {}, "status": status}
    server.put(ROUTE, route)
    found = router_of(server, NAMES, kind="istio").lacks()
    assert (found is None) if said is None else said in str(found)
