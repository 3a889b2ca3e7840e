"""One kind cluster: made by whichever process of the run needs it first, joined by the others."""

from __future__ import annotations

import json
import os
import socket
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from pytest_llmdeploy.config.release import KindConfig
from pytest_llmdeploy.config.yaml_reader import read_yaml
from pytest_llmdeploy.errors import LLMDeployError, NotBegunError, PlatformError
from pytest_llmdeploy.platforms.kind import registry
from pytest_llmdeploy.platforms.kind.configuration import (
    LOOPBACK,
    NODE_PORT,
    mapped_port,
    same_image,
    with_port,
)
from pytest_llmdeploy.platforms.kind.programs import QUICK, ProgramError, require_programs, run
from pytest_llmdeploy.platforms.processes import free_port
from pytest_llmdeploy.waiting import wait_until

IMAGE_VARIABLE = "LLMDEPLOY_KIND_IMAGE"
PREFIX = "llmdeploy-"
LARGEST_CONFIG = 1024 * 1024
LOGS_TIMEOUT = 60.0
DELETE_TIMEOUT = 120.0
LOCK_MARGIN = 180.0
"""Seconds beyond create_timeout for which another process of the run may hold the lock."""
PORT_ATTEMPTS = 3
_PORT_TAKEN = ("port is already allocated", "address already in use")


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster that is up."""

    name: str
    kubeconfig: str
    """File of its own, which nobody else may read."""
    context: str
    host_port: int
    """Port of this machine that leads to the service, or to the gateway before it."""

    @property
    def url(self) -> str:
        """Where the service answers on this machine."""
        return f"http://{LOOPBACK}:{self.host_port}"


class KindCluster:
    """The cluster of a run, or the one that KindConfig.cluster names; made by `ensure`.

    Files below `folder`: ``cluster.json`` (what came of it, for the other processes of the run),
    ``kubeconfig``, ``kind.yaml`` and, where creation failed, ``logs/``.
    """

    def __init__(
        self, *, run_id: str, config: KindConfig, root: Path, folder: Path, owner: int
    ) -> None:
        self.name = config.cluster or f"{PREFIX}{run_id}"
        self._config = config
        self._root = root
        self._folder = folder
        self._owner = owner
        self._node_port = config.gateway_port or NODE_PORT
        self._image = config.image or os.environ.get(IMAGE_VARIABLE)
        self._state = folder / "cluster.json"
        self.kubeconfig = folder / "kubeconfig"
        self.context = f"kind-{self.name}"

    def ensure(self) -> Cluster:
        """Return the cluster, made or joined; raise PlatformError where that fails.

        Where Docker or kind is missing it is NotBegunError, in CI PlatformError.
        """
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with FileLock(self._state.with_suffix(".lock"), timeout=self._patience()):
            joined = self._join()
            if joined is not None:
                return joined
            try:
                made = self._find_or_make()
            except LLMDeployError as error:
                refused = isinstance(error, NotBegunError)
                self._write({"error": str(error), "not_begun": refused})
                raise
            self._write(asdict(made))
            return made

    def _patience(self) -> float:
        return self._config.create_timeout + LOCK_MARGIN

    def _join(self) -> Cluster | None:
        """Return what another process of the run made, or raise what it met."""
        try:
            state: dict[str, Any] = json.loads(self._state.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        if "error" in state:
            kind = NotBegunError if state["not_begun"] else PlatformError
            raise kind(state["error"])
        return Cluster(**state)

    def _write(self, state: dict[str, Any]) -> None:
        partial = self._state.with_suffix(".partial")
        partial.write_text(json.dumps(state), encoding="utf-8")
        partial.replace(self._state)

    def _find_or_make(self) -> Cluster:
        require_programs()
        if self._config.cluster is None:
            return self._make()
        registry.folder().mkdir(parents=True, exist_ok=True, mode=0o700)
        with FileLock(registry.folder() / f"{self.name}.lock", timeout=self._patience()):
            return self._reuse() if self.name in existing() else self._make()

    def _reuse(self) -> Cluster:
        """Return the cluster of that name; raise PlatformError for how it differs from the file."""
        node = f"{self.name}-control-plane"
        try:
            found = json.loads(run(["docker", "inspect", node], timeout=QUICK))[0]
        except ProgramError as error:
            raise PlatformError(f"cluster {self.name} has no node {node}: {error}") from error
        image = str(found["Config"]["Image"])
        differences = []
        if not found["State"]["Running"]:
            differences.append(f"its node is {found['State']['Status']}: docker start {node}")
        if self._image is not None and not same_image(self._image, image):
            differences.append(f"its node image is {image}, asked for is {self._image}")
        port = _host_port(found["HostConfig"].get("PortBindings") or {}, self._node_port)
        if port is None:
            differences.append(f"no port of this machine leads to its port {self._node_port}")
        if differences or port is None:
            raise PlatformError(
                f"cluster {self.name} cannot be used as it is: {'; '.join(differences)}. "
                f"To have it made anew: kind delete cluster --name {self.name}"
            )
        self._new_kubeconfig()
        argv = ["kind", "export", "kubeconfig", "--name", self.name]
        run([*argv, "--kubeconfig", str(self.kubeconfig)], timeout=QUICK)
        return self._cluster(port)

    def _make(self) -> Cluster:
        registry.note(
            registry.Entry(
                name=self.name,
                owner=self._owner,
                host=socket.gethostname(),
                started=time.time(),
                kept=self._config.cluster is not None,
            )
        )
        for attempt in range(PORT_ATTEMPTS):
            try:
                return self._create()
            except ProgramError as error:
                taken = any(words in error.output for words in _PORT_TAKEN)
                if not taken or attempt == PORT_ATTEMPTS - 1:
                    raise PlatformError(f"no kind cluster could be made: {error}") from error
        raise AssertionError

    def _create(self) -> Cluster:
        own = None
        if self._config.config is not None:
            own = read_yaml(self._root / self._config.config, LARGEST_CONFIG).data
        configuration = with_port(own, free_port(), self._node_port)
        file = self._folder / "kind.yaml"
        file.write_text(json.dumps(configuration, indent=1), encoding="utf-8")  # JSON is YAML
        self._new_kubeconfig()
        timeout = self._config.create_timeout
        argv = ["kind", "create", "cluster", "--name", self.name, "--config", str(file)]
        argv += ["--kubeconfig", str(self.kubeconfig), "--wait", f"{timeout:.0f}s", "--retain"]
        if self._image is not None:
            argv += ["--image", self._image]
        try:
            run(argv, timeout=timeout, setting="kind.create_timeout")
            self._wait_for_nodes(timeout)
        except BaseException as error:  # Ctrl-C too: no half of a cluster is left
            if isinstance(error, LLMDeployError):
                self._keep_logs()
            delete(self.name)
            raise
        port = mapped_port(configuration, self._node_port)
        assert port is not None
        return self._cluster(port)

    def _wait_for_nodes(self, timeout: float) -> None:
        """Wait for all nodes: `--wait` is for the control plane only."""
        from pytest_llmdeploy.platforms.kubernetes.api import Api
        from pytest_llmdeploy.platforms.kubernetes.pods import condition
        from pytest_llmdeploy.platforms.kubernetes.transport import KubernetesTransport

        api = Api(KubernetesTransport([self.kubeconfig], self.context))
        try:
            wait_until(
                lambda: all(
                    condition(node, "Ready").get("status") == "True"
                    for node in api.items("/api/v1/nodes")
                ),
                what=f"the nodes of cluster {self.name} should be ready",
                timeout=timeout,
                setting="kind.create_timeout",
                interval=0.5,
            )
        finally:
            api.close()

    def _new_kubeconfig(self) -> None:
        self.kubeconfig.unlink(missing_ok=True)
        self.kubeconfig.touch(mode=0o600)

    def _cluster(self, port: int) -> Cluster:
        self.kubeconfig.chmod(0o600)
        return Cluster(self.name, str(self.kubeconfig), self.context, port)

    def _keep_logs(self) -> None:
        logs = self._folder / "logs"
        with suppress(ProgramError):
            run(["kind", "export", "logs", str(logs), "--name", self.name], timeout=LOGS_TIMEOUT)


def _host_port(bindings: dict[str, Any], node_port: int) -> int | None:
    for binding in bindings.get(f"{node_port}/tcp") or []:
        if binding.get("HostPort"):
            return int(binding["HostPort"])
    return None


def existing() -> list[str]:
    """Return the names of all kind clusters of this machine; raise ProgramError otherwise."""
    return run(["kind", "get", "clusters", "--quiet"], timeout=QUICK).split()


def delete(name: str) -> None:
    """Delete a cluster and forget it; nothing where it is gone. Raises ProgramError."""
    registry.folder().mkdir(parents=True, exist_ok=True, mode=0o700)
    with FileLock(registry.folder() / f"{name}.delete", timeout=DELETE_TIMEOUT):
        # Given a kubeconfig that is nobody's, kind leaves ~/.kube alone.
        argv = ["kind", "delete", "cluster", "--name", name, "--kubeconfig", os.devnull]
        run(argv, timeout=DELETE_TIMEOUT)
        registry.forget(name)
    (registry.folder() / f"{name}.delete").unlink(missing_ok=True)
