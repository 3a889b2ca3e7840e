"""What a cluster has besides the service: Helm releases and manifests, in the file's order."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pytest_llmdeploy.config.release import HelmConfig
from pytest_llmdeploy.errors import PlatformError
from pytest_llmdeploy.platforms.kind.cluster import Cluster
from pytest_llmdeploy.platforms.kind.programs import require_helm, run
from pytest_llmdeploy.platforms.kubernetes.api import Api
from pytest_llmdeploy.waiting import WaitTimeoutError, wait_until

KIND_TIMEOUT = 30.0
"""Seconds for which a kind may be unknown: the API server learns a definition a moment later."""
TERMINATION_MARGIN = 15.0


def install(
    release: HelmConfig, cluster: Cluster, root: Path, folder: Path, timeout: float
) -> None:
    """Install or upgrade a Helm release and wait until it is up; raise ProgramError otherwise."""
    require_helm()
    values = folder / f"values-{release.name}.json"
    values.write_text(json.dumps(release.values), encoding="utf-8")
    argv = ["helm", "upgrade", "--install", release.name, *chart_arguments(release, root)]
    argv += ["--namespace", release.namespace, "--create-namespace", "--values", str(values)]
    argv += ["--kubeconfig", cluster.kubeconfig, "--kube-context", cluster.context]
    argv += ["--wait", "--timeout", f"{timeout:.0f}s"]
    run(
        argv,
        timeout=timeout + TERMINATION_MARGIN,
        setting="kind.helm_timeout",
        folder=root,
        variables={"KUBECACHEDIR": str(folder / "cache")},  # else it is in ~/.kube
    )


def chart_arguments(release: HelmConfig, root: Path) -> list[str]:
    """Return how helm is told which chart; a bare name is in `repo`, where there is one."""
    local = root / release.chart
    if local.exists() and (release.repo is None or "/" in release.chart):
        return [str(local)]
    chosen = [release.chart]
    if release.repo is not None:
        chosen += ["--repo", release.repo]
    if release.version is not None:
        chosen += ["--version", release.version]
    return chosen


def apply_file(api: Api, path: Path, namespace: str) -> None:
    """Apply every object of a file of YAML documents; what names no namespace goes to ours."""
    for body in _objects(path):
        try:
            api.apply(_address(api, body, namespace), body, force=True)
        except PlatformError as error:
            raise PlatformError(f"kind.manifests: {path}: {error}") from error


def _objects(path: Path) -> Iterator[dict[str, Any]]:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        documents = list(YAML(typ="safe", pure=True).load_all(path.read_text(encoding="utf-8")))
    except (OSError, YAMLError, ValueError) as error:
        raise PlatformError(f"kind.manifests: {path} cannot be read: {error}") from error
    for document in documents:
        for item in _items(document):
            if not (isinstance(item, dict) and item.get("kind") and item.get("apiVersion")):
                raise PlatformError(f"kind.manifests: {path}: a document is no Kubernetes object")
            yield item


def _items(document: Any) -> list[Any]:
    if document is None:
        return []
    if isinstance(document, dict) and str(document.get("kind", "")).endswith("List"):
        return list(document.get("items") or [])
    return [document]


def _address(api: Api, body: Mapping[str, Any], namespace: str) -> str:
    version, kind = str(body["apiVersion"]), str(body["kind"])
    group = f"/apis/{version}" if "/" in version else f"/api/{version}"

    def find() -> Mapping[str, Any] | None:
        for resource in (api.get(group) or {}).get("resources") or []:
            if resource["kind"] == kind and "/" not in resource["name"]:
                return dict(resource)
        return None

    try:
        resource = wait_until(
            find,
            what=f"the cluster should know {kind} of {version}",
            timeout=KIND_TIMEOUT,
            setting="fixed",
            interval=0.5,
        )
    except WaitTimeoutError as error:
        raise PlatformError(str(error)) from error
    name = body["metadata"]["name"]
    if not resource["namespaced"]:
        return f"{group}/{resource['name']}/{name}"
    inside = body["metadata"].get("namespace") or namespace
    return f"{group}/namespaces/{inside}/{resource['name']}/{name}"
