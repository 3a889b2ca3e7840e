"""Releases in a real kind cluster, as a user runs them; what reports say, kubectl confirms."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pytest_llmdeploy.assembly.release_parts import release_checks, release_traffic
from pytest_llmdeploy.config.loader import LoadedConfig, load_config
from pytest_llmdeploy.platforms.kind.cluster import delete
from pytest_llmdeploy.platforms.kind.programs import unavailable
from pytest_llmdeploy.platforms.kubernetes.fleet import KubernetesFleet
from pytest_llmdeploy.platforms.kubernetes.transport import (
    Answer,
    KubernetesTransport,
    NoAnswerError,
)
from pytest_llmdeploy.redaction import Redactor
from pytest_llmdeploy.release.blue_green import STEPS
from pytest_llmdeploy.release.conductor import Conductor
from pytest_llmdeploy.release.journal import Journal
from pytest_llmdeploy.release.record import ReleaseResult
from pytest_llmdeploy.release.state import Order, Release
from pytest_llmdeploy.reports.audit import verify

pytestmark = pytest.mark.timeout(900)
ROOT = Path(__file__).parents[2]
SCENARIO = ROOT / "scenarios" / "blue_green"
LLMDEPLOY = [sys.executable, "-c", "import sys, pytest_llmdeploy.commands as c; sys.exit(c.main())"]
CONFIG = """
service: {{name: llm-service, version_header: x-llm-version}}
environments:
  cluster:
    platform: kubernetes
    context: {context}
    url: {url}
blue_green:
  replicas: 2
  requests: {{memory: 64Mi, cpu: 20m}}
  limits: {{memory: 256Mi, cpu: "1"}}
  liveness: {{path: /health, delay: 30, period: 10}}
  readiness: {{path: /ready, delay: 0, period: 1}}
  pre_stop: 1
  termination_grace_period: 10
  watch_duration: {watch}
  drain_duration: 1
  rollback_timeout: 60
  traffic: {{rate: 30, max_loss: 0.05, max_tokens: 4, long_stream_tokens: 30}}
"""


@dataclass(frozen=True)
class Rehearsed:
    """The run that made the cluster, which is still up."""

    output: Path
    said: str

    @property
    def cluster(self) -> dict[str, Any]:
        """What the run noted about its cluster."""
        found: dict[str, Any] = json.loads((self.output / "cluster" / "cluster.json").read_text())
        return found

    def kubectl(self, *arguments: str) -> str:
        """Return what kubectl says of the cluster."""
        kubeconfig = str(self.output / "cluster" / "kubeconfig")
        command = ["kubectl", "--kubeconfig", kubeconfig, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def selected(self) -> str:
        """Return the colour that the Service selects."""
        return self.kubectl(
            "get", "service", "llm-service", "-o", "jsonpath={.spec.selector.color}"
        )

    def running(self) -> dict[str, str]:
        """Return image and replicas by colour."""
        image = "{.spec.template.spec.containers[0].image}"
        path = '{range .items[*]}{.metadata.name} {.spec.replicas} IMAGE{"\\n"}{end}'
        path = path.replace("IMAGE", image)
        lines = self.kubectl("get", "deployments", "-o", f"jsonpath={path}").splitlines()
        return {line.split()[0].rpartition("-")[2]: " ".join(line.split()[1:]) for line in lines}

    def config(self, folder: Path, watch: float) -> Path:
        """Write a project that releases into the cluster as one that exists already."""
        about = self.cluster
        url = f"http://127.0.0.1:{about['host_port']}"
        path = folder / "llmdeploy.yaml"
        path.write_text(CONFIG.format(context=about["context"], url=url, watch=watch))
        return path

    def variables(self) -> dict[str, str]:
        """Return the environment in which the cluster's context is the current one."""
        return {**os.environ, "KUBECONFIG": str(self.output / "cluster" / "kubeconfig")}


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rehearsed]:
    """Rehearse a release and two drills over two workers, and keep the cluster."""
    reason = unavailable()
    if reason is not None and os.environ.get("CI") == "true":
        pytest.fail(reason)
    if reason is not None:
        pytest.skip(reason)
    output = tmp_path_factory.mktemp("rehearsed") / "out"
    arguments = [
        *("-m", "blue_green or rollback", "-k", "blue_green or image-missing or crashes"),
        *("--env", "kind", "--llmdeploy-image", "llm-service:2.0.0", "-n", "2"),
        *("--llmdeploy-keep-cluster", f"--llmdeploy-output={output}", "-p", "no:cacheprovider"),
    ]
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", str(SCENARIO), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        yield Rehearsed(output, done.stdout)
    finally:
        state = output / "cluster" / "cluster.json"
        if state.exists() and "name" in (found := json.loads(state.read_text())):
            delete(found["name"])


def test_a_release_and_drills_over_two_workers(rehearsed: Rehearsed) -> None:
    assert "13 passed" in rehearsed.said
    assert f"kept, as asked: kind cluster {rehearsed.cluster['name']}" in rehearsed.said
    report = json.loads((rehearsed.output / "report.json").read_text())
    items = {item["name"]: item for item in report["items"]}
    assert items["zero-loss"]["detail"]["step"]["detail"]["traffic"]["lost"] == 0
    assert items["rollout"]["detail"]["step"]["detail"]["digests"]
    assert rehearsed.selected() == "green"
    assert rehearsed.running() == {"blue": "0 llm-service:1.0.0", "green": "3 llm-service:2.0.0"}
    addresses = rehearsed.kubectl(
        *("get", "endpointslices", "-l", "kubernetes.io/service-name=llm-service"),
        *("-o", "jsonpath={.items[*].endpoints[*].targetRef.name}"),
    ).split()
    assert len(addresses) == 3
    assert all("-green-" in name for name in addresses)
    assert verify(rehearsed.output / "audit.jsonl")[0] > 20
    # The crash is noticed while the switch converges, or in the watch after it.
    evidence = sorted(path.name for path in (rehearsed.output / "evidence").iterdir())
    assert evidence[1:] == ["drill-image-missing-rollout"]
    assert evidence[0] in {"drill-crashes-converged", "drill-crashes-watch"}


class Weather:
    """A transport through which requests fare badly while it rains.

    The API server behind it is the real one. What rains is what such servers and the ways to them
    do: refusals to be repeated, answers that are lost after the request was carried out, silence.
    """

    def __init__(self, inner: KubernetesTransport, kind: str) -> None:
        self._inner = inner
        self._kind = kind
        self._number = 0
        self.until = 0.0
        """The server is away until this moment of time.monotonic()."""
        self.spoilt = 0

    def send(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> Answer:
        if time.monotonic() < self.until:
            self.spoilt += 1
            raise NoAnswerError("connection refused", sent=False)
        self._number += 1
        if self._kind == "away" or self._number % 3:
            return self._inner.send(method, path, body, headers)
        self.spoilt += 1
        if self._kind == "throttled":
            return Answer(429, b'{"kind": "Status", "code": 429}', {"retry-after": "0"})
        answer = self._inner.send(method, path, body, headers)  # carried out, but who knows
        if self._kind == "failing" and self._number % 2:
            return Answer(500, b'{"kind": "Status", "code": 500, "message": "etcd: timed out"}')
        if self._kind == "failing":
            raise NoAnswerError("the read timed out", sent=True)
        return answer

    def open_channel(self, path: str) -> Any:
        return self._inner.open_channel(path)

    def close(self) -> None:
        self._inner.close()


def release(
    rehearsed: Rehearsed, loaded: LoadedConfig, folder: Path, transport: Any, on_action: Any
) -> tuple[ReleaseResult, KubernetesFleet]:
    """Release the version that does not run, through a transport."""
    about = rehearsed.cluster
    assert loaded.blue_green is not None
    fleet = KubernetesFleet(
        kubeconfig=[rehearsed.output / "cluster" / "kubeconfig"],
        context=about["context"],
        namespace="default",
        name="llm-service",
        environment="cluster",
        config=loaded.blue_green,
        service=loaded.service,
        root=folder,
        redact=Redactor(),
        url=loaded.environment.url,
        transport=transport,
    )
    now = fleet.image(fleet.color() or "")
    image = "llm-service:1.0.0" if now == "llm-service:2.0.0" else "llm-service:2.0.0"
    performed = Conductor(
        Release(
            order=Order("llm-service", "cluster", image, "run", "tester@here:1"),
            config=loaded.blue_green,
            fleet=fleet,
            checks=release_checks(loaded),
            traffic_to=lambda url: release_traffic(loaded, folder / "traffic", url),
            journal=Journal(folder / "journal.jsonl", fleet.journal),
            on_action=on_action,
        ),
        STEPS,
    )
    return performed.run(), fleet


@pytest.mark.parametrize("kind", ["throttled", "failing", "away"])
def test_a_release_through_an_api_server_in_trouble(
    rehearsed: Rehearsed, tmp_path: Path, kind: str
) -> None:
    loaded = load_config(rehearsed.config(tmp_path, watch=3), "cluster")
    about = rehearsed.cluster
    kubeconfig = rehearsed.output / "cluster" / "kubeconfig"
    weather = Weather(KubernetesTransport([kubeconfig], about["context"]), kind)

    def on_action(action: str, _detail: object) -> None:
        if kind == "away" and action == "switch":
            weather.until = time.monotonic() + 20

    before = rehearsed.selected()
    result, fleet = release(rehearsed, loaded, tmp_path, weather, on_action)
    assert weather.spoilt > 5
    assert result.success, result.error
    # Whatever the control plane did, users met one version or the other, whole.
    assert result.traffic["lost"] == 0, result.traffic["losses"]
    assert rehearsed.selected() == result.new_color != before
    fleet.close()


def test_somebody_else_who_changes_the_service_stops_the_release(
    rehearsed: Rehearsed, tmp_path: Path
) -> None:
    loaded = load_config(rehearsed.config(tmp_path, watch=2), "cluster")
    about = rehearsed.cluster
    kubeconfig = rehearsed.output / "cluster" / "kubeconfig"
    before = rehearsed.selected()

    def on_action(action: str, _detail: object) -> None:
        if action == "switch":
            patch = '{"spec": {"selector": {"color": "purple"}}}'
            rehearsed.kubectl("patch", "service", "llm-service", "-p", patch)
            threading.Timer(0.5, lambda: rehearsed.kubectl(*back)).start()

    back = (
        "patch",
        "service",
        "llm-service",
        "-p",
        json.dumps({"spec": {"selector": {"color": before}}}),
    )
    transport = KubernetesTransport([kubeconfig], about["context"])
    result, fleet = release(rehearsed, loaded, tmp_path, transport, on_action)
    bad = next(step for step in result.steps if step.name == "switch")
    assert str(bad.verdict) == "ERROR"
    assert "purple" in bad.reason
    assert "kubectl" in bad.reason
    assert result.rollback is not None
    assert result.rollback.succeeded, result.rollback
    assert rehearsed.selected() == before
    fleet.close()


def test_a_release_killed_during_the_watch_is_undone_from_another_machine(
    rehearsed: Rehearsed, tmp_path: Path
) -> None:
    rehearsed.config(tmp_path, watch=60)
    before, running = rehearsed.selected(), rehearsed.running()
    image = "llm-service:1.0.0" if "2.0.0" in running[before] else "llm-service:2.0.0"
    pytest_run = subprocess.Popen(
        [
            *(sys.executable, "-m", "pytest", "-m", "blue_green", "--env", "cluster"),
            *("--llmdeploy-image", image, "-p", "no:cacheprovider"),
        ],
        cwd=tmp_path,
        env=rehearsed.variables(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    steps: list[str] = []
    while "converged" not in steps:
        assert time.monotonic() < deadline
        assert pytest_run.poll() is None, steps
        found = tmp_path.glob(".llmdeploy/*/records/blue_green/*/steps.jsonl")
        steps = [
            json.loads(line)["name"] for path in found for line in path.read_text().splitlines()
        ]
        time.sleep(0.1)
    pytest_run.send_signal(signal.SIGKILL)
    pytest_run.wait()
    assert rehearsed.selected() != before
    shutil.rmtree(tmp_path / ".llmdeploy")  # what the cluster keeps is all that is left

    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*LLMDEPLOY, "rollback", "--env", "cluster", *arguments],
            cwd=tmp_path,
            env=rehearsed.variables(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )

    told = command("--look")
    assert told.returncode == 0, told.stdout
    assert "was interrupted after 'switch'" in told.stdout
    assert rehearsed.selected() != before
    done = command()
    assert done.returncode == 0, done.stdout
    assert "rolled back: traffic and replicas are as before the release" in done.stdout
    assert rehearsed.selected() == before
    assert rehearsed.running() == running
    assert "no interrupted release" in command().stdout


def test_a_node_that_stands_still_for_a_while_loses_nothing(
    rehearsed: Rehearsed, tmp_path: Path
) -> None:
    loaded = load_config(rehearsed.config(tmp_path, watch=8), "cluster")
    about = rehearsed.cluster
    kubeconfig = rehearsed.output / "cluster" / "kubeconfig"
    node = f"{about['name']}-control-plane"

    def pause() -> None:
        subprocess.run(["docker", "pause", node], check=True, capture_output=True)
        time.sleep(4)
        subprocess.run(["docker", "unpause", node], check=True, capture_output=True)

    def on_action(action: str, _detail: object) -> None:
        if action == "switch":
            threading.Timer(4.0, pause).start()

    transport = KubernetesTransport([kubeconfig], about["context"])
    result, fleet = release(rehearsed, loaded, tmp_path, transport, on_action)
    assert result.success, result.error
    assert result.traffic["lost"] == 0
    assert 3.5 < result.traffic["longest_gap"] < 30
    fleet.close()
