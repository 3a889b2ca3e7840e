"""`KindFleet`: a KubernetesFleet whose cluster and first version are made when first needed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from pytest_llmdeploy.config.models import EnvironmentConfig, ServiceConfig
from pytest_llmdeploy.config.release import BlueGreenConfig, KindConfig
from pytest_llmdeploy.errors import LLMDeployError, PlatformError
from pytest_llmdeploy.platforms.existing import ExistingPlatform
from pytest_llmdeploy.platforms.kind import extras, images
from pytest_llmdeploy.platforms.kind.cluster import Cluster, KindCluster
from pytest_llmdeploy.platforms.kind.configuration import NODE_PORT
from pytest_llmdeploy.platforms.kubernetes.api import Api
from pytest_llmdeploy.platforms.kubernetes.fleet import KubernetesFleet
from pytest_llmdeploy.platforms.kubernetes.transport import (
    KubernetesTransport,
    LateTransport,
)
from pytest_llmdeploy.ports import BLUE, Finding, Service
from pytest_llmdeploy.redaction import Redactor
from pytest_llmdeploy.untrusted import one_line
from pytest_llmdeploy.waiting import WaitTimeoutError, wait_until

ANSWER_TIMEOUT = 30.0
"""Seconds until a new cluster's node port answers: kube-proxy is up a moment after the node."""
GATEWAY_TIMEOUT = 60.0
"""Seconds until the gateway leads to the stable version, which is up by then."""
ACCOUNT_TIMEOUT = 30.0
LOCK_MARGIN = 120.0
OK = 200


class KindFleet(KubernetesFleet):
    """The versions of a service in a kind cluster, the stable image first, as blue.

    The first use makes the cluster, or joins the one that `folder`, the run's own, tells of: with
    images, Helm releases, manifests, the namespace, the stable version and its Service. What
    another process of the run has done already is not done twice.
    """

    def __init__(
        self,
        *,
        run_id: str,
        name: str,
        environment: EnvironmentConfig,
        environment_name: str,
        config: BlueGreenConfig,
        service: ServiceConfig,
        root: Path,
        folder: Path,
        owner: int,
        redact: Redactor,
    ) -> None:
        self._kind = environment.kind or KindConfig()
        self._folder = folder
        self._stable_image = environment.stable_image
        self._ready_path = environment.ready_path
        self._cluster = KindCluster(
            run_id=run_id, config=self._kind, root=root, folder=folder, owner=owner
        )
        self._common: dict[str, Any] = {
            "kubeconfig": [self._cluster.kubeconfig],
            "context": self._cluster.context,
            "namespace": environment.namespace,
            "name": name,
            "environment": environment_name,
            "config": config,
            "service": service,
            "root": root,
            "redact": redact,
            "node_port": NODE_PORT if self._kind.gateway_port is None else None,
        }
        super().__init__(**self._common, transport=LateTransport(self._provide))

    def cluster(self) -> Cluster:
        """Return the cluster with all that the file says it has; made where it is not yet."""
        self._api.get("/version")
        return self._cluster.ensure()

    def entry(self) -> Service:
        """Return the service as this machine reaches it, through its node port or the gateway's."""
        url = self.cluster().url
        return ExistingPlatform(url, self._service_config, self._root).service()

    def preflight(self, color: str, image: str) -> Sequence[Finding]:
        """Return what speaks against deploying `image`, once it is in the cluster."""
        self.cluster()
        findings = list(self._load_if_here(image))
        return [*findings, *super().preflight(color, image)]

    def deploy(self, color: str, image: str, variables: Mapping[str, str]) -> None:
        """Create or update a colour's Deployment; an image of this machine's Docker is loaded."""
        self.cluster()
        self._load_if_here(image)
        super().deploy(color, image, variables)

    def _provide(self) -> KubernetesTransport:
        cluster = self._cluster.ensure()
        transport = KubernetesTransport([Path(cluster.kubeconfig)], cluster.context)
        with FileLock(self._folder / "provided.lock", timeout=self._patience()):
            done = self._folder / "provided.json"
            if done.exists():
                state = json.loads(done.read_text(encoding="utf-8"))
                if "error" in state:
                    raise PlatformError(state["error"])
                return transport
            try:
                self._furnish(cluster, Api(transport))
                self._deploy_stable(transport, cluster)
            except LLMDeployError as error:
                done.write_text(json.dumps({"error": str(error)}), encoding="utf-8")
                raise
            done.write_text("{}", encoding="utf-8")
        return transport

    def _patience(self) -> float:
        kind = self._kind
        building = kind.build_timeout * len(kind.build) + kind.helm_timeout * len(kind.helm)
        return building + self._config.rollout_timeout + LOCK_MARGIN

    def _furnish(self, cluster: Cluster, api: Api) -> None:
        for image, config in self._kind.build.items():
            images.build(image, config, self._root, self._kind.build_timeout)
        wanted = list(self._kind.build)
        may_be_pulled = [*self._kind.load, self._stable_image]
        wanted += [image for image in may_be_pulled if images.image_id(image) is not None]
        self._load(list(dict.fromkeys(wanted)), cluster.name)
        _ensure_namespace(api, self._names.namespace)
        for release in self._kind.helm:
            timeout = self._kind.helm_timeout
            extras.install(release, cluster, self._root, self._folder, timeout)
        for manifest in self._kind.manifests:
            extras.apply_file(api, self._root / manifest, self._names.namespace)

    def _deploy_stable(self, transport: KubernetesTransport, cluster: Cluster) -> None:
        """Deploy the stable image as blue, unless the Service leads to a version already."""
        fleet = KubernetesFleet(**self._common, transport=transport)
        if fleet.color() is not None:
            return
        fleet.deploy(BLUE, self._stable_image, {})

        def is_up() -> bool:
            rollout = fleet.rollout(BLUE)
            if rollout.failure is not None:
                raise PlatformError(f"the stable version did not come up: {rollout.failure}")
            return rollout.complete

        timeout, setting = self._config.rollout_timeout, "blue_green.rollout_timeout"
        what = f"the stable version ({self._stable_image}) should be up"
        wait_until(is_up, what=what, timeout=timeout, setting=setting, interval=0.2)
        fleet.switch(None, BLUE)
        if self._kind.gateway_port is None:
            _wait_for_answer(cluster.url)
        else:
            _wait_for_gateway(cluster.url + self._ready_path)

    def _load_if_here(self, image: str) -> Sequence[Finding]:
        """Load an image that this machine's Docker has; what it has not, the cluster pulls."""
        if "@sha256:" in image:
            text = f"{image}: a digest cannot be loaded into kind; its nodes have to pull it"
            return [Finding("image", text)]
        if images.image_id(image) is not None:
            with FileLock(self._folder / "images.lock", timeout=images.LOAD_TIMEOUT * 2):
                self._load([image], self._cluster.ensure().name)
        return []

    def _load(self, wanted: Sequence[str], cluster: str) -> None:
        if lacking := images.missing(wanted, cluster):
            images.load(lacking, cluster, self._folder)


def _ensure_namespace(api: Api, namespace: str) -> None:
    """Make the namespace, and wait for the account without which no pod can be made in it."""
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
    path = f"/api/v1/namespaces/{namespace}"
    if api.get(path) is None:
        api.apply(path, body)
    wait_until(
        lambda: api.get(f"{path}/serviceaccounts/default"),
        what=f"namespace {namespace} should have its default ServiceAccount",
        timeout=ACCOUNT_TIMEOUT,
        setting="fixed",
        interval=0.1,
    )


def _wait_for_answer(url: str) -> None:
    import httpx

    def answers() -> bool:
        try:
            httpx.get(url, timeout=2.0, trust_env=False)
        except httpx.HTTPError:
            return False
        return True

    what = f"the node port should answer at {url}"
    wait_until(answers, what=what, timeout=ANSWER_TIMEOUT, setting="fixed", interval=0.05)


def _wait_for_gateway(url: str) -> None:
    """Wait until the gateway leads to a version that is ready; raise with what it says instead."""
    import httpx

    said = "nothing"

    def leads() -> bool:
        nonlocal said
        try:
            answer = httpx.get(url, timeout=2.0, trust_env=False)
        except httpx.HTTPError as error:
            said = one_line(str(error) or type(error).__name__)
            return False
        said = f"status {answer.status_code}"
        return answer.status_code == OK

    what = f"the gateway should lead to the stable version at {url}"
    try:
        wait_until(leads, what=what, timeout=GATEWAY_TIMEOUT, setting="fixed", interval=0.1)
    except WaitTimeoutError as error:
        raise PlatformError(
            f"{error}; its last answer was: {said}. Is kind.gateway_port the gateway's node port, "
            "and is there a route to the Service in kind.manifests?"
        ) from error
