"""The Deployment of a colour: our template, or the user's own with ours laid over it. Pure."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_llmdeploy.config.release import BlueGreenConfig, ProbeConfig, ResourcesConfig
from pytest_llmdeploy.config.yaml_reader import read_yaml
from pytest_llmdeploy.errors import ConfigError, Problem
from pytest_llmdeploy.platforms.kubernetes.names import APP, Names

LARGEST_MANIFEST = 1024 * 1024
PORT_NAME = "http"


def read_manifest(path: Path) -> dict[str, Any]:
    """Return the Deployment of a user's file; raise ConfigError where it is none."""
    data = read_yaml(path, LARGEST_MANIFEST).data
    problem = None
    if not isinstance(data, dict) or data.get("kind") != "Deployment":
        problem = "expected one Deployment (kind: Deployment)"
    else:
        spec = data.get("spec")
        template = spec.get("template") if isinstance(spec, dict) else None
        pod = template.get("spec") if isinstance(template, dict) else None
        containers = pod.get("containers") if isinstance(pod, dict) else None
        if not (isinstance(containers, list) and containers):
            problem = "spec.template.spec.containers must have a container"
    if problem is not None:
        raise ConfigError([Problem(str(path), 0, "", problem)])
    return dict(data)


def deployment(
    names: Names,
    color: str,
    image: str,
    *,
    config: BlueGreenConfig,
    variables: Mapping[str, str],
    own: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return what to apply for a colour; `own` is the Deployment that the user wrote."""
    labels = names.labels(color)
    result = copy.deepcopy(dict(own)) if own is not None else _template(names, config)
    result.setdefault("apiVersion", "apps/v1")
    result.pop("status", None)
    metadata = _mapping(result, "metadata")
    metadata["name"], metadata["namespace"] = names.deployment_name(color), names.namespace
    metadata["labels"] = {**(metadata.get("labels") or {}), **labels}
    spec = result["spec"]
    if own is None or "replicas" in config.model_fields_set or spec.get("replicas") is None:
        spec["replicas"] = config.replicas
    spec["selector"] = {"matchLabels": labels}
    pod_metadata = _mapping(spec["template"], "metadata")
    pod_metadata["labels"] = {**(pod_metadata.get("labels") or {}), **labels}
    container = _main(spec["template"]["spec"]["containers"], names.service)
    container["image"] = image
    container["env"] = _with_variables(container.get("env") or [], variables)
    return result


def service(names: Names, color: str, config: BlueGreenConfig, node_port: int | None) -> Any:
    """Return the Service for a release that has none yet."""
    port: dict[str, Any] = {
        "name": PORT_NAME,
        "port": config.service_port,
        "targetPort": config.port,
        "protocol": "TCP",
    }
    if node_port is not None:
        port["nodePort"] = node_port
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": names.service,
            "namespace": names.namespace,
            "labels": {APP: names.service},
        },
        "spec": {
            "type": "ClusterIP" if node_port is None else "NodePort",
            "selector": names.labels(color),
            "ports": [port],
        },
    }


def _template(names: Names, config: BlueGreenConfig) -> dict[str, Any]:
    container: dict[str, Any] = {
        "name": names.service,
        "imagePullPolicy": "IfNotPresent",
        "ports": [{"name": PORT_NAME, "containerPort": config.port, "protocol": "TCP"}],
        "resources": {
            "requests": _quantities(config.requests),
            "limits": _quantities(config.limits),
        },
        "livenessProbe": _probe(config.liveness),
        "readinessProbe": _probe(config.readiness),
    }
    if config.pre_stop:
        # Addresses are withdrawn while the process ends: it must go on serving for a while.
        container["lifecycle"] = {"preStop": {"sleep": {"seconds": math.ceil(config.pre_stop)}}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "spec": {
            "progressDeadlineSeconds": math.ceil(config.rollout_timeout),
            "template": {
                "spec": {
                    "terminationGracePeriodSeconds": math.ceil(config.termination_grace_period),
                    "containers": [container],
                },
            },
        },
    }


def _quantities(resources: ResourcesConfig) -> dict[str, str]:
    return {"memory": resources.memory, "cpu": resources.cpu}


def _probe(probe: ProbeConfig) -> dict[str, Any]:
    return {
        "httpGet": {"path": probe.path, "port": PORT_NAME},
        "initialDelaySeconds": math.ceil(probe.delay),
        "periodSeconds": math.ceil(probe.period),
        "timeoutSeconds": math.ceil(probe.timeout),
        "failureThreshold": probe.failures,
    }


def _mapping(parent: dict[str, Any], key: str) -> dict[str, Any]:
    if not isinstance(parent.get(key), dict):
        parent[key] = {}
    found: dict[str, Any] = parent[key]
    return found


def _main(containers: Sequence[dict[str, Any]], service_name: str) -> dict[str, Any]:
    named = (item for item in containers if item.get("name") == service_name)
    return next(named, containers[0])


def _with_variables(
    env: Sequence[Mapping[str, Any]], variables: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Return a container's variables, ours in the place of those of the same name."""
    kept = [dict(item) for item in env if item.get("name") not in variables]
    return [*kept, *({"name": name, "value": value} for name, value in variables.items())]
