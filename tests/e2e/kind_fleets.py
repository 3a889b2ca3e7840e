"""A real kind cluster for the tests of this folder, with two versions of the reference service.

It is made for the test run and deleted after it. With $LLMDEPLOY_TEST_CLUSTER the cluster of that
name is used, made where it is missing, and kept: for whoever writes such tests.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pytest_llmdeploy.config.models import EnvironmentConfig, ServiceConfig
from pytest_llmdeploy.config.release import BlueGreenConfig
from pytest_llmdeploy.platforms.kind.fleet import KindFleet
from pytest_llmdeploy.platforms.kubernetes.fleet import KubernetesFleet
from pytest_llmdeploy.redaction import Redactor

ROOT = Path(__file__).parents[2]
SECRET = "sk-e2e-not-for-files"
ONE, TWO = "llm-reference:1.0.0", "llm-reference:2.0.0"


def policy(**changes: Any) -> BlueGreenConfig:
    """Return a policy for small pods that are ready soon."""
    values = {
        "replicas": 2,
        "requests": {"memory": "64Mi", "cpu": "20m"},
        "limits": {"memory": "256Mi", "cpu": "1"},
        "readiness": {"path": "/ready", "delay": 0.0, "period": 1.0},
        "pre_stop": 1.0,
        "termination_grace_period": 5.0,
        "rollout_timeout": 90.0,
    }
    return BlueGreenConfig.model_validate(values | changes)


def build(version: str) -> dict[str, Any]:
    """Return how an image of the reference service is built."""
    arguments = {"VERSION": version}
    return {"context": ".", "dockerfile": "deploy/reference/Dockerfile", "arguments": arguments}


def kind_fleet(run_id: str, folder: Path) -> KindFleet:
    """Return a fleet whose cluster is made when first needed."""
    kind: dict[str, Any] = {"build": {ONE: build("1.0.0"), TWO: build("2.0.0")}}
    if name := os.environ.get("LLMDEPLOY_TEST_CLUSTER"):
        kind["cluster"] = name
    environment = {
        "platform": "kind",
        "namespace": "released",
        "stable_image": ONE,
        "kind": kind,
    }
    return KindFleet(
        run_id=run_id,
        name="llm-service",
        environment=EnvironmentConfig.model_validate(environment),
        environment_name="kind",
        config=policy(replicas=3),
        service=ServiceConfig(version_header="x-llm-version"),
        root=ROOT,
        folder=folder,
        owner=os.getpid(),
        redact=Redactor([SECRET]),
    )


def fleet(kubeconfig: Path, context: str, namespace: str, **more: Any) -> KubernetesFleet:
    """Return a fleet in a namespace of a cluster that exists."""
    values: dict[str, Any] = {
        "name": "llm-service",
        "environment": "kind",
        "config": policy(),
        "service": ServiceConfig(),
        "root": ROOT,
        "redact": Redactor([SECRET]),
    }
    values |= more
    return KubernetesFleet(kubeconfig=[kubeconfig], context=context, namespace=namespace, **values)
