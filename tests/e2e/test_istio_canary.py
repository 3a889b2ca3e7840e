"""Routers in a real cluster: what they write, users meet, and what they touched is given back."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from ruamel.yaml import YAML

from pytest_llmdeploy.config.canary import CanaryConfig
from pytest_llmdeploy.errors import ConflictError, PlatformError
from pytest_llmdeploy.platforms.kind.cluster import delete
from pytest_llmdeploy.platforms.kubernetes.routing.rule_router import RuleRouter
from pytest_llmdeploy.ports import Finding, Route, Router, Snapshot
from tests.e2e.kind_fleets import fleet as plain_fleet
from tests.e2e.meshes import ROOT, Mesh, bring_up, install_gateway_api, missing
from tests.e2e.test_kubernetes_fleet import kubeconfig_of

# Making the cluster counts to the first test; images may have to be pulled for it.
pytestmark = pytest.mark.timeout(900)
ONE, TWO = "1.0.0", "2.0.0"
SAMPLES = 400
RARE = 1e-6
DISTANCE = math.sqrt(math.log(2 / RARE) / (2 * SAMPLES))
"""Hoeffding: a share of SAMPLES independent requests is farther off with probability RARE."""


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    reason = missing()
    if reason is not None and os.environ.get("CI") == "true":
        pytest.fail(reason)
    if reason is not None:
        pytest.skip(reason)
    run_id = f"mesh-{os.getpid()}"
    found = None
    try:
        found = bring_up(run_id, tmp_path_factory.mktemp("mesh"))
        yield found
    finally:
        if found is not None:
            found.fleet.lock.release()
            found.fleet.close()
            found.api.close()
        if "LLMDEPLOY_TEST_CLUSTER" not in os.environ:
            delete(f"llmdeploy-{run_id}")


def fatal(router: Router) -> list[str]:
    found: list[Finding] = list(router.preflight("blue", "green"))
    return [finding.text for finding in found if finding.fatal]


def give_back(router: Router, snapshot: Snapshot) -> None:
    """Go the way back as a release does, and look whether it is complete."""
    router.restore_weights(snapshot)
    router.restore(snapshot)
    assert list(router.differences(snapshot)) == []


def share_of_two(mesh: Mesh, host: str = "localhost") -> float:
    found = mesh.ask(SAMPLES, host)
    assert set(found) <= {ONE, TWO}
    return found[TWO] / SAMPLES


def test_weights_and_the_header_are_what_users_meet(mesh: Mesh) -> None:
    router = mesh.router()
    before = mesh.spec("virtualservice", "llm-service")
    assert fatal(router) == []
    assert router.read() == Route({"blue": 100})
    snapshot = router.snapshot()
    with mesh.traffic() as answers:
        router.prepare("blue", "green")
        assert router.read() == Route({"blue": 100, "green": 0}, header="green")
        mesh.wait_for(TWO, canary="true")
        assert mesh.ask(50) == Counter({ONE: 50})
        assert mesh.ask(20, canary="false") == Counter({ONE: 20})
        assert router.lacks() is None

        assert router.set_weight("blue", "green", 25) == 25
        mesh.wait(lambda: mesh.ask()[TWO] == 1)
        assert abs(share_of_two(mesh) - 0.25) <= DISTANCE
        assert mesh.ask(20, canary="true") == Counter({TWO: 20})

        router.set_weight("blue", "green", 100)
        mesh.wait_for(TWO)
        router.restore_weights(snapshot)
        mesh.wait_for(ONE)
        assert mesh.ask(20, canary="true") == Counter({TWO: 20})
        router.restore(snapshot)
        mesh.wait_for(ONE, canary="true")
    assert set(answers) == {ONE, TWO}, answers  # nothing failed while routes came and went
    assert list(router.differences(snapshot)) == []
    assert mesh.spec("virtualservice", "llm-service") == before
    assert "llm-service-versions" not in mesh.kubectl("get", "services,destinationrules")


def test_a_promotion_and_the_way_back_from_it(mesh: Mesh) -> None:
    router = mesh.router()
    before, replicas = router.snapshot(), mesh.fleet.snapshot()
    rules = mesh.spec("virtualservice", "llm-service")
    with mesh.traffic() as answers:
        router.prepare("blue", "green")
        router.set_weight("blue", "green", 100)
        mesh.fleet.switch("blue", "green")
        router.promote("green")
        mesh.wait_for(TWO)
        assert router.read() == Route({"green": 100})
        # Between releases all requests go to the Service: a blue/green release would be met, too.
        assert mesh.spec("virtualservice", "llm-service") == rules
        subsets = json.loads(mesh.spec("destinationrule", "llm-service"))["subsets"]
        roles = {one["name"]: one["labels"]["color"] for one in subsets}
        assert roles == {"blue": "blue", "green": "green", "stable": "green", "canary": "blue"}
        router.restore_weights(before)
        mesh.wait_for(ONE)
        mesh.fleet.restore_traffic(replicas)
        router.restore(before)
        mesh.wait_for(ONE)
    assert set(answers) == {ONE, TWO}, answers
    assert list(router.differences(before)) == []
    assert list(mesh.fleet.differences(replicas)) == []


def test_another_writer_and_unknown_fields_are_refused(mesh: Mesh) -> None:
    router = mesh.router()
    snapshot = router.snapshot()
    router.prepare("blue", "green")
    patch = '[{"op": "replace", "path": "/spec/http/1/route/0/weight", "value": 90}]'
    mesh.kubectl("patch", "virtualservice", "llm-service", "--type=json", "-p", patch)
    for write in (
        lambda: router.set_weight("blue", "green", 50),
        lambda: router.prepare("blue", "green"),
        lambda: router.promote("blue"),
    ):
        with pytest.raises(ConflictError, match=r"spec\.http .*; kubectl-patch \(.*nothing was"):
            write()
    # What is not ours may be changed meanwhile, and stays changed.
    patch = '{"metadata": {"labels": {"team": "a"}}, "spec": {"exportTo": ["*"]}}'
    mesh.kubectl("patch", "virtualservice", "llm-service", "--type=merge", "-p", patch)
    give_back(router, snapshot)
    assert json.loads(mesh.spec("virtualservice", "llm-service"))["exportTo"] == ["*"]
    patch = '{"metadata": {"labels": {"team": null}}, "spec": {"exportTo": null}}'
    mesh.kubectl("patch", "virtualservice", "llm-service", "--type=merge", "-p", patch)

    assert isinstance(router, RuleRouter)
    path = "/apis/networking.istio.io/v1/namespaces/default/virtualservices/llm-service"
    with pytest.raises(PlatformError, match=r'unknown field "spec\.weigth"'):
        router.site.objects.rehearse(path, lambda spec: {**spec, "weigth": 1})


OWN = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: own}
spec:
  host: llm-service
  subsets: [{name: stable, labels: {color: blue}}, {name: canary, labels: {color: green}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: own}
spec:
  hosts: [own.test]
  gateways: [llm-service]
  http:
    - {name: other, match: [{uri: {prefix: /other}}], route: [{destination: {host: elsewhere}}]}
    - name: chat
      timeout: 9s
      route:
        - {destination: {host: both, subset: stable}, weight: 100}
        - {destination: {host: both, subset: canary}, weight: 0}
---
apiVersion: v1
kind: Service
metadata: {name: both}
spec: {selector: {app: llm-service}, ports: [{name: http, port: 80, targetPort: 8000}]}
"""


def test_rules_subsets_and_roles_of_the_users_own(mesh: Mesh) -> None:
    mesh.kubectl("apply", "-f", "-", given=OWN)
    try:
        settings = {"route": "own", "destination_rule": "own"}
        assert (
            "which selects color=blue alone: its subsets cannot reach the other"
            in (fatal(mesh.router(**settings, rules=("chat",)))[0])
        )
        patch = '{"spec": {"host": "both.default.svc.cluster.local"}}'
        mesh.kubectl("patch", "destinationrule", "own", "--type=merge", "-p", patch)
        assert fatal(mesh.router(**settings)) == [
            "VirtualService default/own: it has 2 rules (other, chat): name those to split in "
            "canary.router.rules"
        ]
        (said,) = fatal(mesh.router(**settings, rules=("other",)))
        assert "its rule other leads to elsewhere as well, which is neither version" in said
        router = mesh.router(**settings, rules=("chat",))
        assert fatal(router) == []
        before = [mesh.spec(kind, "own") for kind in ("virtualservice", "destinationrule")]
        snapshot = router.snapshot()
        router.prepare("blue", "green")
        router.set_weight("blue", "green", 40)
        other, header, chat = json.loads(mesh.spec("virtualservice", "own"))["http"]
        assert other == json.loads(before[0])["http"][0]
        assert (header["name"], header["timeout"], chat["timeout"]) == (
            "llmdeploy-header-chat",
            "9s",
            "9s",
        )
        subsets = [one["destination"]["subset"] for one in chat["route"]]
        assert (subsets, [one["weight"] for one in chat["route"]]) == (["blue", "green"], [60, 40])
        mesh.wait(lambda: mesh.ask(1, "own.test")[TWO] == 1)
        router.promote("green")
        mesh.wait_for(TWO, "own.test")
        rule = json.loads(mesh.spec("destinationrule", "own"))
        assert [one["labels"]["color"] for one in rule["subsets"]][:2] == ["green", "blue"]
        give_back(router, snapshot)
        assert before == [mesh.spec(kind, "own") for kind in ("virtualservice", "destinationrule")]
    finally:
        mesh.kubectl("delete", "virtualservice,destinationrule", "own")
        mesh.kubectl("delete", "service", "both")


def test_the_role_that_we_ship_is_enough_to_make_a_route(mesh: Mesh, tmp_path: Path) -> None:
    role = (ROOT / "deploy" / "kubernetes" / "rbac.yaml").read_text().replace("llm-service", "made")
    account, *rest = list(YAML(typ="safe", pure=True).load_all(role))
    mesh.kubectl("create", "namespace", "made")
    try:
        mesh.kubectl("apply", "-n", "made", "-f", "-", given=json.dumps(account))
        kubeconfig = kubeconfig_of("llmdeploy", mesh.api, mesh.cluster, "made", tmp_path)
        fleet = plain_fleet(kubeconfig, mesh.cluster.context, "made", name="made")
        settings = {"kind": "istio", "hosts": ["made.test"], "gateways": ["default/llm-service"]}
        router = fleet.router(CanaryConfig.model_validate({"router": settings}))
        (said,) = fatal(router)
        assert '{apiGroups: ["networking.istio.io"], resources: ["virtualservices"], ' in said
        for document in rest:
            mesh.kubectl("apply", "-n", "made", "-f", "-", given=json.dumps(document))
        deadline = time.monotonic() + 20
        while "rights" in fatal(router)[0]:
            assert time.monotonic() < deadline
        assert "there is no Service made in namespace made: a canary needs" in fatal(router)[0]
        fleet.deploy("blue", "llm-service:1.0.0", {})
        mesh.wait(lambda: fleet.rollout("blue").complete, 60.0)
        fleet.switch(None, "blue")
        assert fatal(router) == []
        snapshot = router.snapshot()
        router.prepare("blue", "green")
        mesh.wait_for(ONE, "made.test")
        assert router.read() == Route({"blue": 100, "green": 0}, header="green")
        give_back(router, snapshot)
        assert "made" not in mesh.kubectl("get", "-n", "made", "virtualservices,destinationrules")
        fleet.close()
    finally:
        mesh.kubectl("delete", "namespace", "made", "--wait=false")


GATEWAY = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: entry, namespace: istio-system}
spec:
  gatewayClassName: istio
  addresses: [{type: Hostname, value: istio-ingressgateway.istio-system.svc.cluster.local}]
  listeners:
    - {name: http, port: 80, protocol: HTTP, hostname: "*.api.test",
       allowedRoutes: {namespaces: {from: All}}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: llm-service}
spec:
  parentRefs: [{name: entry, namespace: istio-system}]
  hostnames: [one.api.test]
  rules:
    - name: chat
      matches: [{path: {value: /}}, {path: {value: /v1}, method: POST}]
      timeouts: {request: 9s}
      backendRefs: [{name: llm-service, port: 80}]
"""


def test_an_http_route_of_the_gateway_api(mesh: Mesh, tmp_path: Path) -> None:
    host = "one.api.test"
    install_gateway_api(mesh, tmp_path)
    mesh.kubectl("apply", "-f", "-", given=GATEWAY)
    router = mesh.router(kind="gateway-api")
    mesh.wait(lambda: router.lacks() is None, 60.0)
    mesh.wait_for(ONE, host)
    assert fatal(router) == []
    before, snapshot = mesh.spec("httproute", "llm-service"), router.snapshot()
    with mesh.traffic(host) as answers:
        router.prepare("blue", "green")
        mesh.wait_for(TWO, host, canary="true")
        assert mesh.ask(50, host) == Counter({ONE: 50})
        router.set_weight("blue", "green", 25)
        mesh.wait(lambda: router.lacks() is None)
        mesh.wait(lambda: mesh.ask(1, host)[TWO] == 1)
        assert abs(share_of_two(mesh, host) - 0.25) <= DISTANCE
        assert router.read() == Route({"blue": 75, "green": 25}, header="green")
        give_back(router, snapshot)
        mesh.wait_for(ONE, host, canary="true")
    assert set(answers) == {ONE, TWO}, answers
    assert mesh.spec("httproute", "llm-service") == before
    with pytest.raises(AssertionError, match="NotFound"):
        mesh.kubectl("get", "service", "llm-service-green")


def test_without_a_mesh_replicas_are_the_weights(mesh: Mesh) -> None:
    router = mesh.router(kind="replicas")
    before, snapshot = mesh.fleet.snapshot(), router.snapshot()
    router.prepare("blue", "green")
    with mesh.traffic() as answers:
        assert router.set_weight("blue", "green", 5) == 33  # one beside two
        assert not router.has_header
        mesh.wait(lambda: router.read() == Route({"blue": 67, "green": 33}))
        mesh.wait(lambda: mesh.ask()[TWO] == 1)
        with pytest.raises(ConflictError, match="leads to green: its replicas are not removed"):
            mesh.fleet.delete("green")
        assert router.set_weight("blue", "green", 100) == 100
        mesh.wait_for(TWO)
        assert mesh.fleet.rollout("green").desired == 2
        give_back(router, snapshot)
        mesh.wait_for(ONE)
    assert set(answers) == {ONE, TWO}, answers
    mesh.fleet.restore_traffic(before)
    mesh.fleet.restore_replicas(before)
    assert list(mesh.fleet.differences(before)) == []


def test_the_prometheus_of_the_scenario_knows_the_colours(mesh: Mesh) -> None:
    colors: set[str] = set()
    query = {"query": "sum by (color) (up{app='llm-service'})"}
    with mesh.fleet.reach("monitoring", "prometheus", 9090) as url:
        deadline = time.monotonic() + 90
        while colors != {"blue", "green"}:
            assert time.monotonic() < deadline
            answer = httpx.get(f"{url}/api/v1/query", params=query, trust_env=False).json()
            colors = {one["metric"]["color"] for one in answer["data"]["result"]}
    with pytest.raises(PlatformError, match="has no port 80; its ports are 9090"):
        mesh.fleet.reach("monitoring", "prometheus", 80).__enter__()


def test_without_its_control_plane_the_mesh_says_so_and_traffic_stays(mesh: Mesh) -> None:
    router = mesh.router()
    snapshot = router.snapshot()
    router.prepare("blue", "green")
    mesh.wait_for(TWO, canary="true")
    istiod = ("-n", "istio-system", "deployment/istiod")
    pods = ("get", "pods", "-n", "istio-system", "-l", "app=istiod", "-o", "name")
    mesh.kubectl("scale", *istiod, "--replicas=0")
    try:
        mesh.wait(lambda: mesh.kubectl(*pods) == "", 60.0)
        # Its webhook validates every write: without it there is none.
        with pytest.raises(PlatformError, match=r"was not changed in .* webhook"):
            router.set_weight("blue", "green", 50)
        assert router.read() == Route({"blue": 100, "green": 0}, header="green")
        router.restore_weights(snapshot)  # nothing to write: they are as before
        assert mesh.ask(20) == Counter({ONE: 20})
    finally:
        mesh.kubectl("scale", *istiod, "--replicas=1")
        mesh.kubectl("rollout", "status", *istiod, "--timeout=120s")
    give_back(router, snapshot)
    mesh.wait_for(ONE, canary="true")


RELEASED = """
service: {{name: llm-service, version_header: x-llm-version}}
environments:
  mesh: {{platform: kubernetes, context: {context}, url: "{url}"}}
blue_green:
  replicas: 2
  requests: {{memory: 64Mi, cpu: 50m}}
  limits: {{memory: 256Mi, cpu: "1"}}
  liveness: {{path: /health, delay: 10, period: 5}}
  readiness: {{path: /ready, delay: 1, period: 1}}
  pre_stop: 3
  termination_grace_period: 20
  drain_duration: 2
  traffic: {{rate: 60, max_loss: 0.05, max_tokens: 4, long_stream_tokens: 20}}
canary:
  router: {{kind: istio}}
  metrics:
    sources: [client, prometheus]
    prometheus: {{service: "monitoring/prometheus:9090", scrape_interval: 2}}
  phases:
    - {{weight: 50, duration: 10, max_duration: 60}}
    - {{weight: 100, duration: 5, max_duration: 40}}
  sample_interval: 3
  look_interval: 1
  split_tolerance: 0.2
  sla: {{error_rate: 0.5, latency_p95: null, points: 2}}
  compare: {{error_rate: 0.2, latency_p95: null, min_requests: 20}}
"""


def test_a_whole_canary_through_the_mesh(mesh: Mesh, tmp_path: Path) -> None:
    """As a user runs it; CPU and memory come from the cluster's Prometheus."""
    mesh.fleet.lock.release()
    text = RELEASED.format(context=mesh.cluster.context, url=mesh.cluster.url)
    (tmp_path / "llmdeploy.yaml").write_text(text)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    argv = ["-m", "pytest", "-m", "canary", "--env=mesh", "--llmdeploy-image=llm-service:2.0.0"]
    done = subprocess.run(
        [sys.executable, *argv, "--llmdeploy-output=out"],
        cwd=tmp_path,
        env={**os.environ, "KUBECONFIG": mesh.cluster.kubeconfig, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    (folder,) = (tmp_path / "out" / "records" / "canary").iterdir()
    result = json.loads((folder / "result.json").read_text())
    assert [phase["made"] for phase in result["canary"]["phases"]] == [50, 100]
    sources = {each["signal"]: each["source"] for each in result["canary"]["phases"][0]["findings"]}
    assert sources["memory_usage"] == "prometheus"
    assert "lost" in result["traffic"]
    assert mesh.fleet.color() == "green"
    assert mesh.ask(20) == Counter({TWO: 20})
    assert mesh.router().read() == Route({"green": 100})
