"""Releases in a real cluster: what `KindFleet` and `KubernetesFleet` promise, kept."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from ruamel.yaml import YAML

from pytest_llmdeploy.config.release import HelmConfig
from pytest_llmdeploy.errors import ConflictError, LockedError, PlatformError
from pytest_llmdeploy.platforms.kind.cluster import Cluster, delete, existing
from pytest_llmdeploy.platforms.kind.extras import apply_file, install
from pytest_llmdeploy.platforms.kind.fleet import KindFleet
from pytest_llmdeploy.platforms.kind.programs import unavailable
from pytest_llmdeploy.platforms.kind.sweeping import list_clusters, sweep
from pytest_llmdeploy.platforms.kubernetes.api import Api
from pytest_llmdeploy.platforms.kubernetes.fleet import KubernetesFleet
from pytest_llmdeploy.platforms.kubernetes.transport import KubernetesTransport
from pytest_llmdeploy.ports import Rollout
from tests.e2e.kind_fleets import ONE, ROOT, SECRET, TWO, fleet, kind_fleet, policy

# Making the cluster counts to the first test; a node image may have to be pulled for it.
pytestmark = pytest.mark.timeout(600)
ROLLOUT = 60.0


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KindFleet]:
    """The fleet that made the cluster; version 1.0.0 runs in it."""
    reason = unavailable()
    if reason is not None and os.environ.get("CI") == "true":
        pytest.fail(reason)
    if reason is not None:
        pytest.skip(reason)
    run_id = f"e2e-{os.getpid()}"
    found = kind_fleet(run_id, tmp_path_factory.mktemp("kind"))
    try:
        yield found
    finally:
        found.close()
        if "LLMDEPLOY_TEST_CLUSTER" not in os.environ:
            delete(f"llmdeploy-{run_id}")


@pytest.fixture(scope="module")
def cluster(released: KindFleet) -> Cluster:
    return released.cluster()


@pytest.fixture(scope="module")
def api(cluster: Cluster) -> Iterator[Api]:
    found = Api(KubernetesTransport([Path(cluster.kubeconfig)], cluster.context))
    yield found
    found.close()


@pytest.fixture
def namespace(api: Api, request: pytest.FixtureRequest) -> Iterator[str]:
    name = f"t-{request.node.name.replace('_', '-')[5:40].strip('-')}-{os.getpid()}"
    path = f"/api/v1/namespaces/{name}"
    api.apply(path, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    yield name
    api.delete(path)


@pytest.fixture
def one(cluster: Cluster, namespace: str) -> Iterator[KubernetesFleet]:
    """A fleet in a namespace of its own; nothing runs there yet."""
    found = fleet(Path(cluster.kubeconfig), cluster.context, namespace)
    yield found
    found.close()


def wait_for(fleet: KubernetesFleet, color: str, timeout: float = ROLLOUT) -> Rollout:
    """Return the rollout when it is complete or has failed."""
    deadline = time.monotonic() + timeout
    while True:
        found = fleet.rollout(color)
        if found.complete or found.failure or time.monotonic() > deadline:
            return found
        time.sleep(0.2)


def bring_up(fleet: KubernetesFleet, color: str, image: str) -> None:
    fleet.deploy(color, image, {})
    assert wait_for(fleet, color).complete


def version_at(url: str) -> str:
    """Return the version that answers a connection of its own."""
    return str(httpx.get(f"{url}/health", timeout=5.0, trust_env=False).json()["version"])


def test_a_release_and_its_way_back(released: KindFleet) -> None:
    entry = released.entry()
    assert entry.version == "1.0.0"
    assert entry.scripted
    if released.color() == "green":  # a kept cluster that a test run left half-way
        released.switch("green", "blue")
    released.delete("green")
    assert (released.color(), released.image("blue"), released.image("green")) == (
        "blue",
        ONE,
        None,
    )
    assert [finding for finding in released.preflight("green", TWO) if finding.fatal] == []
    before = released.snapshot()

    began = time.monotonic()
    released.deploy("green", TWO, {"LLM_SEED": "7"})
    assert not released.rollout("green").complete
    assert wait_for(released, "green") == Rollout(
        3, 3, 3, complete=True, waiting_for="nothing", failure=None
    )
    rolled_out = time.monotonic() - began
    pods = released.pods("green")
    assert [(pod.color, pod.image, pod.ready, pod.problem) for pod in pods] == [
        ("green", TWO, True, None)
    ] * 3
    for pod in pods:
        with released.direct(pod.name) as url:
            health = httpx.get(f"{url}/health", trust_env=False).json()
        assert (health["version"], health["color"], health["environment"]) == (
            "2.0.0",
            "green",
            "kind",
        )
    assert version_at(entry.url) == "1.0.0"

    began = time.monotonic()
    released.switch("blue", "green")
    while {one.color for one in released.endpoints() if one.ready} != {"green"}:
        assert time.monotonic() - began < 30
    in_slices = time.monotonic() - began
    last_old = 0.0
    while (passed := time.monotonic() - began) < last_old + 1.0:
        assert passed < 30
        if version_at(entry.url) == "1.0.0":
            last_old = time.monotonic() - began
    assert {one.pod for one in released.endpoints()} == {pod.name for pod in pods}
    print(f"rollout {rolled_out:.1f} s, slices {in_slices:.3f} s, last old answer {last_old:.3f} s")

    released.switch("blue", "green")  # once more is as good as once
    with pytest.raises(ConflictError, match="leads to green: its replicas are not removed"):
        released.scale("green", 0)
    assert released.differences(before) == [
        "Service llm-service: selector.color is green, was blue",
        "Deployment llm-service-green is there, and was not before",
    ]
    for _ in range(2):
        released.restore_traffic(json.loads(json.dumps(before)))
        released.restore_replicas(before)
    assert released.differences(before) == []
    began = time.monotonic()
    while version_at(entry.url) != "1.0.0":  # the data plane follows a moment later
        assert time.monotonic() - began < 30


def test_another_process_of_the_run_joins_the_cluster(released: KindFleet) -> None:
    name = released.cluster().name
    run_id = name.removeprefix("llmdeploy-")
    other = kind_fleet(run_id, Path(released.cluster().kubeconfig).parent)
    assert other.cluster() == released.cluster()
    other.close()
    assert name in existing()
    assert sweep() == []
    assert next(item for item in list_clusters() if item.name == name).state in {"in use", "kept"}


def test_somebody_else_who_switches_stops_ours(
    cluster: Cluster, one: KubernetesFleet, namespace: str
) -> None:
    bring_up(one, "blue", ONE)
    one.switch(None, "blue")
    bring_up(one, "green", TWO)
    selector = {"app": "llm-service", "color": "purple"}
    operation = {"op": "replace", "path": "/spec/selector", "value": selector}
    as_another(cluster, f"/api/v1/namespaces/{namespace}/services/llm-service", [operation])
    with pytest.raises(ConflictError, match=r"leads to purple, as argocd-controller \(20"):
        one.switch("blue", "green")
    assert one.color() is None


def test_too_few_replicas_get_no_traffic(one: KubernetesFleet) -> None:
    bring_up(one, "blue", ONE)
    one.switch(None, "blue")
    one.deploy("green", TWO, {"LLM_FAULTS": "not-ready"})
    with pytest.raises(PlatformError, match="0 of 2 replicas of green are ready"):
        one.switch("blue", "green")
    deadline = time.monotonic() + ROLLOUT
    said = "Readiness probe failed: HTTP probe failed with statuscode: 503"
    while said not in (found := one.rollout("green")).waiting_for:
        assert time.monotonic() < deadline, found
        time.sleep(0.2)
    assert found.failure is None
    one.delete("green")
    assert one.image("green") is None


def test_failures_are_known_within_seconds(one: KubernetesFleet) -> None:
    began = time.monotonic()
    one.deploy("green", "llm-reference:absent", {})
    one.deploy("blue", ONE, {"LLM_FAULTS": "exit-at-start", "API_KEY": "hide me", "X": SECRET})
    missing = wait_for(one, "green")
    assert time.monotonic() - began < 20
    assert "ImagePullBackOff" in str(missing.failure) or "ErrImagePull" in str(missing.failure)
    assert "llm-reference:absent" in str(missing.failure)
    crashed = wait_for(one, "blue")
    assert time.monotonic() - began < 30
    assert "CrashLoopBackOff: container llm-service ended" in str(crashed.failure)
    assert "last with exit code 70 (Error)" in str(crashed.failure)
    assert {pod.restarts > 0 for pod in one.pods("blue")} == {True}

    found = one.evidence(["blue", "green"])
    pod = one.pods("blue")[0].name
    assert {
        "events.txt",
        "service.yaml",
        "endpointslices.yaml",
        "deployment-blue.yaml",
        "pods-green.yaml",
        "replicasets-blue.yaml",
        f"log-{pod}-llm-service.txt",
        f"log-{pod}-llm-service-previous.txt",
    } <= found.keys()
    assert "BackOff" in found["events.txt"]
    everything = "".join(found.values())
    assert "hide me" not in everything
    assert SECRET not in everything
    assert "managedFields" not in everything


def test_a_quota_is_known_within_seconds(one: KubernetesFleet, api: Api, namespace: str) -> None:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "small"},
        "spec": {"hard": {"pods": "1"}},
    }
    api.create(f"/api/v1/namespaces/{namespace}/resourcequotas", quota)
    began = time.monotonic()
    while not any(finding.fatal for finding in one.preflight("green", TWO)):
        assert time.monotonic() - began < 10  # until the quota's status is there
    one.deploy("green", TWO, {})
    found = wait_for(one, "green")
    assert time.monotonic() - began < 20
    assert "no pod can be made: FailedCreate" in str(found.failure)
    assert "exceeded quota: small" in str(found.failure)


def as_another(cluster: Cluster, path: str, operations: list[Any]) -> None:
    """Patch an object as the field manager argocd-controller."""
    transport = KubernetesTransport([Path(cluster.kubeconfig)], cluster.context)
    headers = {"Content-Type": "application/json-patch+json"}
    body = json.dumps(operations).encode()
    answer = transport.send("PATCH", f"{path}?fieldManager=argocd-controller", body, headers)
    assert answer.status == 200
    transport.close()


def test_a_deployment_of_somebody_else_is_left_alone(
    cluster: Cluster, one: KubernetesFleet, namespace: str
) -> None:
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments/llm-service-green"
    one.deploy("green", TWO, {})
    operation = {"op": "replace", "path": "/spec/replicas", "value": 5}
    as_another(cluster, path, [operation])
    (found,) = [finding for finding in one.preflight("green", TWO) if finding.fatal]
    assert found.name == "manifest"
    assert "argocd-controller manages .spec.replicas" in found.text
    with pytest.raises(ConflictError, match=r"argocd-controller manages \.spec\.replicas"):
        one.deploy("green", TWO, {})
    one.scale("green", 0)
    one.deploy("green", TWO, {})  # what we scaled ourselves is no conflict


def test_a_service_deleted_by_hand_comes_back(
    one: KubernetesFleet, api: Api, namespace: str
) -> None:
    bring_up(one, "blue", ONE)
    one.switch(None, "blue")
    before = one.snapshot()
    path = f"/api/v1/namespaces/{namespace}/services/llm-service"
    address = (api.get(path) or {})["spec"]["clusterIP"]
    api.delete(path)
    api.delete(f"/apis/apps/v1/namespaces/{namespace}/deployments/llm-service-blue")
    assert one.differences(before) == [
        "Service llm-service is gone",
        "Deployment llm-service-blue is gone",
    ]
    one.restore_traffic(before)
    one.restore_replicas(before)
    assert one.differences(before) == []
    assert (api.get(path) or {})["spec"]["clusterIP"] == address
    assert wait_for(one, "blue").complete
    with pytest.raises(PlatformError, match="has no address outside the cluster"):
        one.entry()


def test_a_forward_to_a_pod_that_refuses_says_so(
    cluster: Cluster, one: KubernetesFleet, namespace: str
) -> None:
    bring_up(one, "blue", ONE)
    with pytest.raises(PlatformError, match=r"portforward cannot be opened: .*404"):
        one.direct("nobody").__enter__()
    wrong = fleet(Path(cluster.kubeconfig), cluster.context, namespace, config=policy(port=8001))
    pod = wrong.pods("blue")[0].name
    with wrong.direct(pod) as url:
        answer = httpx.get(url, trust_env=False)
    assert answer.status_code == 502
    assert answer.text == f"port-forward to pod {pod}, port 8001: connection refused"
    wrong.close()


def test_a_chart_is_installed(
    cluster: Cluster,
    api: Api,
    namespace: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if shutil.which("helm") is None:
        pytest.skip("helm is not on PATH")
    chart = tmp_path / "chart"
    (chart / "templates").mkdir(parents=True)
    (chart / "Chart.yaml").write_text("{apiVersion: v2, name: greeting, version: 1.0.0}")
    template = "{apiVersion: v1, kind: ConfigMap, metadata: {name: greeting}, data: {text: TEXT}}"
    (chart / "templates" / "it.yaml").write_text(template.replace("TEXT", '"{{ .Values.text }}"'))
    release = HelmConfig(
        name="greeting", chart="chart", namespace=namespace, values={"text": "hello"}
    )
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    install(release, cluster, tmp_path, tmp_path, 60.0)
    assert not (tmp_path / "home" / ".kube").exists()
    found = api.get(f"/api/v1/namespaces/{namespace}/configmaps/greeting")
    assert found is not None
    assert found["data"] == {"text": "hello"}


HOLDER = """
import sys
from pathlib import Path
from tests.e2e.kind_fleets import fleet
found = fleet(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
found.lock.acquire(sys.argv[4])
found.journal.append({"step": "deploy"})
found.journal.append({"step": "switch"})
print("held", flush=True)
sys.stdin.read()
"""


def test_a_release_killed_elsewhere_is_found_and_taken_over(
    cluster: Cluster, one: KubernetesFleet, namespace: str
) -> None:
    holder = f"ann@elsewhere:{os.getpid()}"
    argv = [sys.executable, "-c", HOLDER, cluster.kubeconfig, cluster.context, namespace, holder]
    with subprocess.Popen(
        argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        process.send_signal(signal.SIGKILL)
        process.wait()
    with pytest.raises(LockedError, match=f"{holder} is releasing llm-service"):
        one.lock.acquire("bob@here:1")
    assert one.journal.read() == [{"step": "deploy"}, {"step": "switch"}]
    assert one.lock.steal("bob@here:1") == holder
    one.journal.clear()
    assert one.journal.read() == []
    one.lock.release()
    one.lock.acquire("ann@elsewhere:1")
    one.lock.release()


def kubeconfig_of(account: str, api: Api, cluster: Cluster, namespace: str, folder: Path) -> Path:
    """Return a kubeconfig with a token of a ServiceAccount, and nothing else."""
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
    request: dict[str, Any] = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {},
    }
    token = api.create(path, request)["status"]["token"]
    config: Any = YAML(typ="safe", pure=True).load(Path(cluster.kubeconfig).read_text())
    config["users"] = [{"name": config["users"][0]["name"], "user": {"token": token}}]
    file = folder / "kubeconfig"
    file.write_text(json.dumps(config))
    return file


def test_the_role_that_we_ship_is_enough(
    cluster: Cluster, api: Api, namespace: str, tmp_path: Path
) -> None:
    documents = list(
        YAML(typ="safe", pure=True).load_all((ROOT / "deploy/kubernetes/rbac.yaml").read_text())
    )
    account = tmp_path / "account.yaml"
    account.write_text(json.dumps(documents[0]))
    apply_file(api, account, namespace)
    kubeconfig = kubeconfig_of("llmdeploy", api, cluster, namespace, tmp_path)
    bare = fleet(kubeconfig, cluster.context, namespace)
    with pytest.raises(PlatformError, match="403 Forbidden"):
        bare.color()
    (found,) = [finding for finding in bare.preflight("blue", ONE) if finding.fatal]
    assert found.name == "rights"
    assert '{apiGroups: [""], resources: ["pods/log"], verbs: [get]}' in found.text

    apply_file(api, ROOT / "deploy" / "kubernetes" / "rbac.yaml", namespace)
    assert [finding for finding in bare.preflight("blue", ONE) if finding.fatal] == []
    bare.lock.acquire("ann@elsewhere:1")
    bare.journal.append({"step": "deploy"})
    bring_up(bare, "blue", ONE)
    bare.switch(None, "blue")
    before = bare.snapshot()
    bring_up(bare, "green", TWO)
    with bare.direct(bare.pods("green")[0].name) as url:
        assert version_at(url) == "2.0.0"
    bare.switch("blue", "green")
    deadline = time.monotonic() + 20
    while {item.color for item in bare.endpoints() if item.ready} != {"green"}:
        assert time.monotonic() < deadline
    bare.scale("blue", 0)
    assert all("could not be read" not in text for text in bare.evidence(["blue"]).values())
    bare.restore_traffic(before)
    bare.restore_replicas(before)
    assert bare.differences(before) == []
    bare.journal.clear()
    bare.lock.release()
    bare.close()
