"""The built-in Deployment has every figure of the policy; a user's own keeps what is theirs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_llmdeploy.config.release import BlueGreenConfig
from pytest_llmdeploy.errors import ConfigError
from pytest_llmdeploy.platforms.kubernetes.manifests import deployment, read_manifest, service
from pytest_llmdeploy.platforms.kubernetes.names import Names

NAMES = Names("shop", "llm-service")
VARIABLES = {"ENVIRONMENT": "prod", "COLOR": "green"}


def made(config: BlueGreenConfig | None = None, own: dict[str, Any] | None = None) -> Any:
    config = config or BlueGreenConfig()
    return deployment(NAMES, "green", "r/llm:2", config=config, variables=VARIABLES, own=own)


def test_the_built_in_deployment() -> None:
    assert made() == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": "llm-service-green",
            "namespace": "shop",
            "labels": {"app": "llm-service", "color": "green"},
        },
        "spec": {
            "replicas": 3,
            "progressDeadlineSeconds": 300,
            "selector": {"matchLabels": {"app": "llm-service", "color": "green"}},
            "template": {
                "metadata": {"labels": {"app": "llm-service", "color": "green"}},
                "spec": {
                    "terminationGracePeriodSeconds": 60,
                    "containers": [
                        {
                            "name": "llm-service",
                            "image": "r/llm:2",
                            "imagePullPolicy": "IfNotPresent",
                            "ports": [{"name": "http", "containerPort": 8000, "protocol": "TCP"}],
                            "resources": {
                                "requests": {"memory": "1Gi", "cpu": "500m"},
                                "limits": {"memory": "2Gi", "cpu": "1"},
                            },
                            "env": [
                                {"name": "ENVIRONMENT", "value": "prod"},
                                {"name": "COLOR", "value": "green"},
                            ],
                            "livenessProbe": {
                                "httpGet": {"path": "/health", "port": "http"},
                                "initialDelaySeconds": 30,
                                "periodSeconds": 10,
                                "timeoutSeconds": 1,
                                "failureThreshold": 3,
                            },
                            "readinessProbe": {
                                "httpGet": {"path": "/ready", "port": "http"},
                                "initialDelaySeconds": 5,
                                "periodSeconds": 5,
                                "timeoutSeconds": 1,
                                "failureThreshold": 3,
                            },
                            "lifecycle": {"preStop": {"sleep": {"seconds": 5}}},
                        }
                    ],
                },
            },
        },
    }


def test_without_pre_stop_there_is_no_hook() -> None:
    container = made(BlueGreenConfig(pre_stop=0.0))["spec"]["template"]["spec"]["containers"][0]
    assert "lifecycle" not in container


def own_manifest() -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "mine", "labels": {"team": "search"}},
        "spec": {
            "replicas": 5,
            "selector": {"matchLabels": {"app": "mine"}},
            "template": {
                "metadata": {"labels": {"app": "mine", "tier": "gpu"}},
                "spec": {
                    "nodeSelector": {"gpu": "a100"},
                    "containers": [
                        {"name": "proxy", "image": "envoy:1"},
                        {
                            "name": "llm-service",
                            "image": "old",
                            "args": ["--fast"],
                            "env": [
                                {"name": "COLOR", "value": "?"},
                                {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "k"}}},
                            ],
                        },
                    ],
                },
            },
        },
        "status": {"replicas": 5},
    }


def test_ours_is_laid_over_a_manifest() -> None:
    own = own_manifest()
    result = made(own=own)
    assert own == own_manifest()
    assert result["metadata"] == {
        "name": "llm-service-green",
        "namespace": "shop",
        "labels": {"team": "search", "app": "llm-service", "color": "green"},
    }
    assert "status" not in result
    spec = result["spec"]
    assert spec["replicas"] == 5
    assert spec["selector"] == {"matchLabels": {"app": "llm-service", "color": "green"}}
    template = spec["template"]
    assert template["metadata"]["labels"] == {
        "app": "llm-service",
        "color": "green",
        "tier": "gpu",
    }
    proxy, main = template["spec"]["containers"]
    assert template["spec"]["nodeSelector"] == {"gpu": "a100"}
    assert proxy == {"name": "proxy", "image": "envoy:1"}
    assert main == {
        "name": "llm-service",
        "image": "r/llm:2",
        "args": ["--fast"],
        "env": [
            {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "k"}}},
            {"name": "ENVIRONMENT", "value": "prod"},
            {"name": "COLOR", "value": "green"},
        ],
    }


def test_replicas_that_the_file_states_win() -> None:
    assert made(BlueGreenConfig(replicas=2), own_manifest())["spec"]["replicas"] == 2


def test_without_a_container_of_the_services_name_the_first_is_it() -> None:
    own = own_manifest()
    own["spec"]["template"]["spec"]["containers"][1]["name"] = "other"
    containers = made(own=own)["spec"]["template"]["spec"]["containers"]
    assert [item["image"] for item in containers] == ["r/llm:2", "old"]


@pytest.mark.parametrize(("port", "kind"), [(None, "ClusterIP"), (30081, "NodePort")])
def test_the_service(port: int | None, kind: str) -> None:
    made_service = service(NAMES, "blue", BlueGreenConfig(), port)
    spec = made_service["spec"]
    assert spec["type"] == kind
    assert spec["selector"] == {"app": "llm-service", "color": "blue"}
    assert (spec["ports"][0]["port"], spec["ports"][0]["targetPort"]) == (80, 8000)
    assert spec["ports"][0].get("nodePort") == port


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("kind: Service\n", "expected one Deployment (kind: Deployment)"),
        (
            "kind: Deployment\nspec: {template: {spec: {containers: []}}}\n",
            "spec.template.spec.containers must have a container",
        ),
    ],
)
def test_a_file_that_is_no_deployment(tmp_path: Path, text: str, problem: str) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_manifest(file)
    assert str(caught.value) == f"{file}: {problem}"
