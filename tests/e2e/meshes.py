"""A real kind cluster with Istio, as `scenarios/release` describes it, for this folder's tests.

It is made for the test run and deleted after it. With $LLMDEPLOY_TEST_CLUSTER the cluster of that
name, and ``-istio``, is used, made where it is missing, and kept.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from http.client import OK, HTTPConnection, HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from pytest_llmdeploy.assembly.fleets import make_fleet
from pytest_llmdeploy.config.canary import CanaryConfig
from pytest_llmdeploy.config.loader import LoadedConfig, load_config
from pytest_llmdeploy.platforms.kind.cluster import Cluster
from pytest_llmdeploy.platforms.kind.extras import apply_file
from pytest_llmdeploy.platforms.kind.fleet import KindFleet
from pytest_llmdeploy.platforms.kind.programs import unavailable
from pytest_llmdeploy.platforms.kubernetes.api import Api
from pytest_llmdeploy.platforms.kubernetes.transport import KubernetesTransport
from pytest_llmdeploy.ports import Router

ROOT = Path(__file__).parents[2]
SCENARIO = ROOT / "scenarios" / "release" / "llmdeploy.yaml"
NEW = "llm-service:2.0.0"
CHART = "LLMDEPLOY_ISTIOD_CHART"
GATEWAY_API = "LLMDEPLOY_GATEWAY_API"
GATEWAY_API_URL = (
    "https://github.com/kubernetes-sigs/gateway-api/releases/download/v1.3.0/standard-install.yaml"
)
CHARTS_URL = "https://istio-release.storage.googleapis.com/charts/index.yaml"


def missing() -> str | None:
    """Return what these tests lack on this machine; None where they can run."""
    if (reason := unavailable()) is not None:
        return reason
    for program in ("helm", "kubectl"):
        if shutil.which(program) is None:
            return f"{program} is not on PATH, and a cluster with Istio needs it"
    if CHART not in os.environ and not _reachable(CHARTS_URL):
        return f"no Istio: {CHARTS_URL} cannot be reached, and ${CHART} names no other chart"
    return None


def _reachable(url: str) -> bool:
    with suppress(httpx.HTTPError):
        return httpx.head(url, timeout=10.0, follow_redirects=True).is_success
    return False


def described() -> LoadedConfig:
    """Return the scenario's file, with a cluster of its own or the one that is kept."""
    loaded = load_config(SCENARIO, "kind")
    if name := os.environ.get("LLMDEPLOY_TEST_CLUSTER"):
        assert loaded.environment.kind is not None
        kind = loaded.environment.kind.model_copy(update={"cluster": f"{name}-istio"})
        environment = loaded.environment.model_copy(update={"kind": kind})
        loaded = replace(loaded, environment=environment)
    return loaded


@dataclass
class Mesh:
    """The cluster, with both versions in it; blue is the one that runs."""

    fleet: KindFleet
    cluster: Cluster
    api: Api

    def kubectl(self, *arguments: str, given: str | None = None) -> str:
        """Return what kubectl says."""
        argv = ["kubectl", "--kubeconfig", self.cluster.kubeconfig, *arguments]
        done = subprocess.run(argv, input=given, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def spec(self, resource: str, name: str) -> str:
        """Return an object's spec as the server has it, byte for byte."""
        return self.kubectl("get", resource, name, "-o", "jsonpath={.spec}")

    def router(self, **settings: Any) -> Router:
        """Return a router of the release."""
        router = {"kind": "istio", **settings}
        return self.fleet.router(CanaryConfig.model_validate({"router": router}))

    def ask(self, count: int = 1, host: str = "localhost", **headers: str) -> Counter[str]:
        """Return which versions answer new connections; what goes wrong by its name."""
        found: Counter[str] = Counter()
        for _ in range(count):
            found[answer_at(self.cluster.url, {"host": host, **headers})] += 1
        return found

    def wait(self, seen: Callable[[], bool], timeout: float = 30.0) -> None:
        """Wait until proxies have what was written."""
        deadline = time.monotonic() + timeout
        while not seen():
            assert time.monotonic() < deadline

    def wait_for(self, version: str, host: str = "localhost", **headers: str) -> None:
        """Wait until twenty new connections in a row are answered by a version."""
        self.wait(lambda: self.ask(20, host, **headers) == Counter({version: 20}))

    @contextmanager
    def traffic(self, host: str = "localhost") -> Iterator[Counter[str]]:
        """Ask all the time; yields the counter, which is complete afterwards."""
        found: Counter[str] = Counter()
        over = threading.Event()

        def go() -> None:
            while not over.is_set():
                found.update(self.ask(1, host))

        thread = threading.Thread(target=go)
        thread.start()
        try:
            yield found
        finally:
            over.set()
            thread.join()


def answer_at(url: str, headers: Mapping[str, str]) -> str:
    """Return the version that answers a connection of its own, or what is wrong."""
    connection = HTTPConnection(urlsplit(url).netloc, timeout=5.0)
    try:
        connection.request("GET", "/health", headers=dict(headers))
        found = connection.getresponse()
        return str(json.load(found)["version"]) if found.status == OK else str(found.status)
    except (OSError, HTTPException, ValueError, KeyError) as error:
        return type(error).__name__
    finally:
        connection.close()


def install_gateway_api(mesh: Mesh, folder: Path) -> None:
    """Give the cluster the kinds of the Gateway API."""
    place = os.environ.get(GATEWAY_API)
    if place is None:
        files = [folder / "gateway-api.yaml"]
        answer = httpx.get(GATEWAY_API_URL, timeout=60.0, follow_redirects=True)
        files[0].write_text(answer.raise_for_status().text)
    else:
        files = sorted(Path(place).glob("*.yaml"))
    for file in files:
        apply_file(mesh.api, file, "default")


def bring_up(run_id: str, folder: Path) -> Mesh:
    """Make the cluster by the scenario's file, and bring the new version up beside the other."""
    fleet = make_fleet(described(), folder, os.getpid(), run_id)
    assert isinstance(fleet, KindFleet)
    cluster = fleet.cluster()
    api = Api(KubernetesTransport([Path(cluster.kubeconfig)], cluster.context))
    mesh = Mesh(fleet, cluster, api)
    fleet.lock.steal(f"tester@here:{os.getpid()}")
    if fleet.color() == "green":  # a kept cluster that a test left half-way
        fleet.switch("green", "blue")
    fleet.deploy("green", NEW, {})
    mesh.wait(lambda: fleet.rollout("green").complete, 90.0)
    return mesh
