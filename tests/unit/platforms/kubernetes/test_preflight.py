"""What preflight finds, in the words that it uses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from pytest_llmdeploy.config.release import BlueGreenConfig
from pytest_llmdeploy.errors import ConflictError
from pytest_llmdeploy.platforms.kubernetes.manifests import deployment
from pytest_llmdeploy.platforms.kubernetes.names import Names
from pytest_llmdeploy.platforms.kubernetes.preflight import Plan, examine
from pytest_llmdeploy.platforms.kubernetes.rights import needed
from pytest_llmdeploy.platforms.kubernetes.routing.rule_router import RuleRouter
from pytest_llmdeploy.platforms.kubernetes.transport import Answer
from pytest_llmdeploy.ports import Finding
from tests.unit.platforms.kubernetes.routers import router_of
from tests.unit.platforms.kubernetes.server import Server, answer, status

NAMES = Names("shop", "llm-service")
REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


class Cluster(Server):
    """Answers access reviews and lists; everything is allowed but `denied`."""

    def __init__(self) -> None:
        super().__init__()
        self.denied: set[tuple[str, str]] = set()
        self.lists: dict[str, list[dict[str, Any]]] = {}
        self.put("/api/v1/namespaces/shop", {"metadata": {"name": "shop"}})
        selector = NAMES.labels("blue")
        self.put(NAMES.service_path(), {"spec": {"type": "ClusterIP", "selector": selector}})

    def send(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> Answer:
        plain = path.partition("?")[0]
        if plain == REVIEWS:
            wanted = json.loads(body or b"")["spec"]["resourceAttributes"]
            allowed = (wanted["verb"], wanted["resource"]) not in self.denied
            return answer(201, {"status": {"allowed": allowed}})
        if plain in self.lists:
            return answer(200, {"metadata": {}, "items": self.lists[plain]})
        if plain == "/api/v1/nodes":
            return status(403, "Forbidden", "nodes are forbidden")
        return super().send(method, path, body, headers)


def findings(
    cluster: Cluster, image: str = "r/llm:2", config: BlueGreenConfig | None = None, **plan: Any
) -> list[Finding]:
    config = config or BlueGreenConfig()
    manifest = deployment(NAMES, "green", image, config=config, variables={})
    plan = {"manifest": manifest, "rehearse": lambda: None, **plan}
    return examine(cluster.api(), NAMES, Plan("green", image, **plan))


def test_nothing_speaks_against_it() -> None:
    assert findings(Cluster()) == []


@pytest.mark.parametrize(
    ("image", "text", "fatal"),
    [
        ("r:5000/llm", "r:5000/llm: a tag that moves; nobody can tell later what ran", False),
        ("llm:latest", "llm:latest: a tag that moves; nobody can tell later what ran", False),
        ("no image", "'no image' is no image reference", True),
    ],
)
def test_images(image: str, text: str, fatal: bool) -> None:
    assert findings(Cluster(), image) == [Finding("image", text, fatal)]


@pytest.mark.parametrize("image", ["llm:1", "r.io/a/b_c:v1-2", "llm@sha256:" + "a" * 64])
def test_images_that_are_well(image: str) -> None:
    assert findings(Cluster(), image) == []


def test_a_namespace_that_is_missing() -> None:
    cluster = Cluster()
    del cluster.objects["/api/v1/namespaces/shop"]
    assert findings(cluster) == [
        Finding(
            "namespace",
            "there is no namespace shop: kubectl create namespace shop",
            fatal=True,
        )
    ]


def test_missing_rights_are_rules_to_add() -> None:
    cluster = Cluster()
    cluster.denied = {("patch", "services"), ("list", "pods"), ("create", "pods")}
    (found,) = findings(cluster)
    assert found.fatal
    assert found.text.splitlines() == [
        "rights are missing in namespace shop; rules to add to the Role "
        "(deploy/kubernetes/rbac.yaml has them all):",
        '- {apiGroups: [""], resources: ["pods"], verbs: [list]}',
        '- {apiGroups: [""], resources: ["pods/portforward"], verbs: [create]}',
        '- {apiGroups: [""], resources: ["services"], resourceNames: [llm-service], '
        "verbs: [patch]}",
    ]


def test_the_role_has_the_rights_that_are_asked_for_and_no_more(
    pytestconfig: pytest.Config,
) -> None:
    def flat(rules: Any) -> set[tuple[str, str, str, str]]:
        return {
            (group, resource, verb, name)
            for groups, resources, verbs, names in rules
            for group in groups
            for resource in resources
            for verb in verbs
            for name in names or ("",)
        }

    file: Path = pytestconfig.rootpath / "deploy" / "kubernetes" / "rbac.yaml"
    documents = YAML(typ="safe", pure=True).load_all(file.read_text())
    role = next(item for item in documents if item["kind"] == "Role")
    optional = {"resourcequotas", "namespaces", "horizontalpodautoscalers", "poddisruptionbudgets"}
    granted = flat(
        (rule["apiGroups"], rule["resources"], rule["verbs"], rule.get("resourceNames"))
        for rule in role["rules"]
        if not optional & set(rule["resources"])
    )
    rights = list(needed(NAMES))
    for kind in ("istio", "gateway-api"):
        router = router_of(Server(), NAMES, kind=kind)
        assert isinstance(router, RuleRouter)
        rights += router.rights()
    assert granted == flat(((r.group,), (r.resource,), r.verbs, r.names) for r in rights)


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        (
            {"type": "ExternalName"},
            "Service llm-service selects no pods (ExternalName): "
            "it cannot be switched between colours",
        ),
        (
            {"type": "ClusterIP", "selector": {"app": "other", "color": "blue"}},
            "Service llm-service selects app=other, which pods of the new version do not have: "
            "give them these labels by a manifest of your own (blue_green.manifest)",
        ),
        (
            {"type": "ClusterIP", "selector": {"app": "llm-service"}},
            "Service llm-service selects app=llm-service and no colour: it would lead to the new "
            "pods before the switch. Label the running pods color=blue, then: kubectl "
            "--namespace shop set selector service llm-service app=llm-service,color=blue",
        ),
    ],
)
def test_services_that_cannot_be_switched(spec: dict[str, Any], text: str) -> None:
    cluster = Cluster()
    cluster.put(NAMES.service_path(), {"spec": spec})
    assert findings(cluster) == [Finding("service", text, fatal=True)]


def test_what_the_dry_run_meets_is_fatal() -> None:
    def rehearse() -> None:
        raise ConflictError("argocd manages .spec.replicas")

    assert findings(Cluster(), rehearse=rehearse) == [
        Finding("manifest", "argocd manages .spec.replicas", fatal=True)
    ]


def test_pods_that_end_at_once_are_noted() -> None:
    (found,) = findings(Cluster(), config=BlueGreenConfig(pre_stop=0.0))
    assert (found.name, found.fatal) == ("grace period", False)


def test_autoscalers_and_budgets_are_noted() -> None:
    cluster = Cluster()
    cluster.lists["/apis/autoscaling/v2/namespaces/shop/horizontalpodautoscalers"] = [
        {"metadata": {"name": "h"}, "spec": {"scaleTargetRef": {"name": "llm-service-blue"}}},
        {"metadata": {"name": "i"}, "spec": {"scaleTargetRef": {"name": "other"}}},
    ]
    labels = {"app": "llm-service"}
    cluster.lists["/apis/policy/v1/namespaces/shop/poddisruptionbudgets"] = [
        {"metadata": {"name": "b"}, "spec": {"selector": {"matchLabels": labels}}}
    ]
    assert [finding.text for finding in findings(cluster)] == [
        "HorizontalPodAutoscaler h scales llm-service-blue: it follows no switch; "
        "a colour without one has the replicas that the file says",
        "PodDisruptionBudget b counts both colours together",
    ]


def test_room_is_looked_at() -> None:
    cluster = Cluster()
    cluster.lists["/api/v1/namespaces/shop/resourcequotas"] = [
        {
            "metadata": {"name": "small"},
            "spec": {},
            "status": {"hard": {"pods": "4"}, "used": {"pods": "3"}},
        }
    ]
    allocatable = {"cpu": "1", "memory": "64Gi", "pods": "110"}
    node = {"metadata": {"name": "n"}, "spec": {}, "status": {"allocatable": allocatable}}
    cluster.lists |= {"/api/v1/nodes": [node], "/api/v1/pods": []}
    assert findings(cluster) == [
        Finding(
            "quota",
            "ResourceQuota small: 3 more replicas need 3 of pods, 1 of 4 are left",
            fatal=True,
        ),
        Finding(
            "capacity",
            "the nodes have room for about 2 of 3 more replicas; "
            "without an autoscaler the rollout will not complete",
        ),
    ]
