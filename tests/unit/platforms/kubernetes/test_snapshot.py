"""A snapshot survives JSON, and differences are words."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

from pytest_llmdeploy.platforms.kubernetes.names import Names
from pytest_llmdeploy.platforms.kubernetes.snapshot import (
    commands,
    differences,
    former_state,
    is_same,
    recreated,
    returned,
    take,
)

NAMES = Names("shop", "llm")


def service() -> dict[str, Any]:
    return {
        "metadata": {"name": "llm", "uid": "1", "resourceVersion": "7"},
        "spec": {"selector": {"app": "llm", "color": "blue"}, "clusterIP": "10.0.0.1"},
    }


def deployment() -> dict[str, Any]:
    return {
        "metadata": {
            "name": "llm-blue",
            "uid": "2",
            "resourceVersion": "8",
            "generation": 3,
            "labels": {"app": "llm"},
            "annotations": {"deployment.kubernetes.io/revision": "4", "team": "search"},
            "managedFields": [{}],
        },
        "spec": {
            "replicas": 3,
            "template": {"spec": {"containers": [{"name": "llm", "image": "llm:1"}]}},
        },
        "status": {"replicas": 3},
    }


def snapshot() -> Any:
    return json.loads(json.dumps(take(service(), {"blue": deployment(), "green": None})))


def test_the_same_state_has_no_differences() -> None:
    again = deployment()
    again["metadata"] |= {"resourceVersion": "99", "generation": 9}
    again["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = "6"
    assert differences(snapshot(), take(service(), {"blue": again, "green": None}), NAMES) == []


def test_differences_are_words() -> None:
    moved, changed = service(), deployment()
    moved["spec"]["selector"]["color"] = "green"
    changed["spec"]["replicas"] = 0
    changed["spec"]["template"]["spec"]["containers"][0]["image"] = "llm:2"
    del changed["metadata"]["annotations"]["team"]
    present = take(moved, {"blue": changed, "green": deployment()})
    assert differences(snapshot(), present, NAMES) == [
        "Service llm: selector.color is green, was blue",
        "Deployment llm-blue: annotations.team is absent, was search",
        "Deployment llm-blue: spec.replicas is 0, was 3",
        "Deployment llm-blue: spec.template.spec.containers[0].image is llm:2, was llm:1",
        "Deployment llm-green is there, and was not before",
    ]


def test_what_an_autoscaler_decides_is_no_difference() -> None:
    scaled = deployment()
    scaled["spec"]["replicas"] = 7
    former = take(service(), {"blue": deployment(), "green": None}, ["blue"])
    assert differences(former, take(service(), {"blue": scaled, "green": None}), NAMES) == []
    state = former_state(former, "blue", scaled)
    assert state is not None
    assert is_same(state, scaled)
    state = former_state(former, "blue", None)
    assert state is not None
    assert state["spec"]["replicas"] == 3


def test_what_is_gone_is_a_difference() -> None:
    assert differences(snapshot(), take(None, {"blue": None, "green": None}), NAMES) == [
        "Service llm is gone",
        "Deployment llm-blue is gone",
    ]


def test_a_deployment_is_returned_with_the_version_that_decides() -> None:
    changed = deployment()
    changed["spec"]["replicas"] = 0
    changed["metadata"]["annotations"] = {"deployment.kubernetes.io/revision": "5", "x": "y"}
    former = snapshot()["deployments"]["blue"]
    body = returned(former, changed)
    assert body["metadata"]["resourceVersion"] == "8"
    assert body["metadata"]["annotations"] == {
        "deployment.kubernetes.io/revision": "5",
        "team": "search",
    }
    assert is_same(former, body)
    assert changed["spec"]["replicas"] == 0


def test_a_service_is_recreated_at_its_address_where_it_can_be() -> None:
    former = snapshot()["service"]
    assert recreated(former, "Service", "llm")["spec"]["clusterIP"] == "10.0.0.1"
    assert "clusterIP" not in recreated(former, "Service", "llm", keep_address=False)["spec"]
    assert deepcopy(former) == former


def test_commands_can_be_pasted() -> None:
    assert commands(snapshot(), NAMES, ["kubectl", "--context", "a b"]) == [
        "kubectl --context 'a b' patch service llm --type=json -p "
        '\'[{"op": "add", "path": "/spec/selector", '
        '"value": {"app": "llm", "color": "blue"}}]\'',
        "kubectl --context 'a b' set image deployment/llm-blue llm=llm:1",
        "kubectl --context 'a b' patch deployment llm-blue -p '{\"spec\": {\"replicas\": 3}}'",
        "kubectl --context 'a b' delete deployment llm-green --ignore-not-found",
    ]
