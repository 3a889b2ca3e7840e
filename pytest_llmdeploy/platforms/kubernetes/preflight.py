"""What speaks against a release on this cluster, before anything is changed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pytest_llmdeploy.errors import PlatformError
from pytest_llmdeploy.platforms.kubernetes.api import Api, Object
from pytest_llmdeploy.platforms.kubernetes.capacity import quota_shortages, room_on_nodes
from pytest_llmdeploy.platforms.kubernetes.names import COLOR, Names
from pytest_llmdeploy.platforms.kubernetes.pods import main_container
from pytest_llmdeploy.platforms.kubernetes.rights import missing, needed
from pytest_llmdeploy.platforms.kubernetes.snapshot import selector
from pytest_llmdeploy.platforms.kubernetes.traffic import marked
from pytest_llmdeploy.ports import COLORS, Finding

_IMAGE = re.compile(
    r"(?:[a-zA-Z0-9.-]+(?::\d+)?/)?[a-z0-9]+(?:(?:[._]|__|-+|/)[a-z0-9]+)*"
    r"(?::[\w][\w.-]{0,127})?(?:@sha256:[0-9a-f]{64})?"
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is about to be deployed."""

    color: str
    image: str
    manifest: Object
    """The Deployment as it will be applied."""
    rehearse: Callable[[], object]
    """Applies it as a dry run; raises PlatformError for what the cluster would refuse."""


def examine(api: Api, names: Names, plan: Plan) -> list[Finding]:
    """Return all findings; further checks make no sense where namespace or rights are missing."""
    findings = [*_image(plan.image), *_namespace(api, names)]
    if not any(finding.fatal for finding in findings):
        findings += _rights(api, names)
    if any(finding.fatal for finding in findings):
        return findings
    service = api.get(names.service_path())
    findings += _service(names, service, plan.manifest)
    findings += _dry_run(plan)
    pod = plan.manifest["spec"]["template"]["spec"]
    findings += _grace(pod, names)
    findings += _room(api, names, plan)
    findings += _autoscalers(api, names)
    findings += _budgets(api, names, plan.color)
    return findings


def _image(image: str) -> Iterator[Finding]:
    if not _IMAGE.fullmatch(image):
        yield Finding("image", f"'{image}' is no image reference", fatal=True)
    elif "@" not in image and image.rpartition("/")[2].partition(":")[2] in {"", "latest"}:
        yield Finding("image", f"{image}: a tag that moves; nobody can tell later what ran")


def _namespace(api: Api, names: Names) -> Iterator[Finding]:
    try:
        found = api.get(f"/api/v1/namespaces/{names.namespace}")
    except PlatformError as error:
        if getattr(error, "status", None) == 403:
            return  # one may work in a namespace and not look at it
        raise
    if found is None:
        text = (
            f"there is no namespace {names.namespace}: kubectl create namespace {names.namespace}"
        )
        yield Finding("namespace", text, fatal=True)
    elif "deletionTimestamp" in found["metadata"]:
        yield Finding("namespace", f"namespace {names.namespace} is being deleted", fatal=True)


def _rights(api: Api, names: Names) -> Iterator[Finding]:
    lacking = list(missing(api, names, needed(names)))
    if lacking:
        rules = "\n".join(f"- {right.rule()}" for right in lacking)
        text = (
            f"rights are missing in namespace {names.namespace}; rules to add to the Role "
            f"(deploy/kubernetes/rbac.yaml has them all):\n{rules}"
        )
        yield Finding("rights", text, fatal=True)


def _service(names: Names, service: Object | None, manifest: Object) -> Iterator[Finding]:
    name = names.service
    if service is None:
        text = f"there is no Service {name} yet; the switch makes it"
        yield Finding("service", text)
        return
    present = selector(service)
    kind = service["spec"].get("type")
    if kind == "ExternalName" or not present:
        text = f"Service {name} selects no pods ({kind}): it cannot be switched between colours"
        yield Finding("service", text, fatal=True)
        return
    pods = manifest["spec"]["template"]["metadata"]["labels"]
    others = {key: value for key, value in present.items() if key != COLOR}
    unmatched = {key: value for key, value in others.items() if pods.get(key) != value}
    if unmatched:
        text = (
            f"Service {name} selects {_pairs(unmatched)}, which pods of the new version do not "
            "have: give them these labels by a manifest of your own (blue_green.manifest)"
        )
        yield Finding("service", text, fatal=True)
    elif COLOR not in present and marked(service) is None:
        text = (
            f"Service {name} selects {_pairs(present)} and no colour: it would lead to the new "
            f"pods before the switch. Label the running pods {COLOR}=blue, then: kubectl "
            f"--namespace {names.namespace} set selector service {name} "
            f"{_pairs({**present, COLOR: 'blue'})}"
        )
        yield Finding("service", text, fatal=True)


def _dry_run(plan: Plan) -> Iterator[Finding]:
    try:
        plan.rehearse()
    except PlatformError as error:
        yield Finding("manifest", str(error), fatal=True)


def _grace(pod: Object, names: Names) -> Iterator[Finding]:
    grace = pod.get("terminationGracePeriodSeconds", 30)
    hook = (main_container(pod, names.service).get("lifecycle") or {}).get("preStop")
    seconds = (hook or {}).get("sleep", {}).get("seconds")
    if seconds is not None and grace <= seconds:
        text = f"preStop sleeps {seconds} s of terminationGracePeriodSeconds {grace}: none is left"
        yield Finding("grace period", text, fatal=True)
    elif hook is None:
        text = (
            "no preStop hook: a pod that ends refuses the connections that still arrive until its "
            "address is withdrawn everywhere"
        )
        yield Finding("grace period", text)


def _room(api: Api, names: Names, plan: Plan) -> Iterator[Finding]:
    pod = plan.manifest["spec"]["template"]["spec"]
    present = api.get(names.deployment(plan.color)) or {"spec": {"replicas": 0}}
    more = max(0, plan.manifest["spec"]["replicas"] - int(present["spec"].get("replicas") or 0))
    if not more:
        return
    for text in quota_shortages(_seen(api, names.core("resourcequotas")), pod, more):
        yield Finding("quota", text, fatal=True)
    nodes = _seen(api, "/api/v1/nodes")
    if nodes:
        room = room_on_nodes(nodes, _seen(api, "/api/v1/pods"), pod)
        if room < more:
            text = (
                f"the nodes have room for about {room} of {more} more replicas; "
                "without an autoscaler the rollout will not complete"
            )
            yield Finding("capacity", text)


def autoscaler_targets(api: Api, names: Names) -> dict[str, str]:
    """Return the Deployments that autoscalers scale, as far as we may see, with their names."""
    found = _seen(api, names.group("autoscaling/v2", "horizontalpodautoscalers"))
    targets = [(item["spec"].get("scaleTargetRef") or {}, item) for item in found]
    return {
        str(target["name"]): str(item["metadata"]["name"])
        for target, item in targets
        if target.get("kind", "Deployment") == "Deployment" and "name" in target
    }


def _autoscalers(api: Api, names: Names) -> Iterator[Finding]:
    targets = autoscaler_targets(api, names)
    for target in (names.deployment_name(color) for color in COLORS):
        if target in targets:
            text = (
                f"HorizontalPodAutoscaler {targets[target]} scales {target}: it follows no "
                "switch; a colour without one has the replicas that the file says"
            )
            yield Finding("autoscaler", text)


def _budgets(api: Api, names: Names, color: str) -> Iterator[Finding]:
    labels = names.labels(color)
    for item in _seen(api, names.group("policy/v1", "poddisruptionbudgets")):
        wanted: Mapping[str, Any] = (item["spec"].get("selector") or {}).get("matchLabels") or {}
        if wanted and all(labels.get(key) == value for key, value in wanted.items()):
            colors = f"colour {wanted[COLOR]}" if COLOR in wanted else "both colours together"
            text = f"PodDisruptionBudget {item['metadata']['name']} counts {colors}"
            yield Finding("disruption budget", text)


def _seen(api: Api, path: str) -> list[Object]:
    """Return a list, empty where we may not see it."""
    try:
        return api.items(path)
    except PlatformError as error:
        if getattr(error, "status", None) == 403:
            return []
        raise


def _pairs(labels: Mapping[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
