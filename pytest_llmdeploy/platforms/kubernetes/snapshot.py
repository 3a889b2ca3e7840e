"""The state that a release touches, as builtins, and how another state differs from it. Pure."""

from __future__ import annotations

import json
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from pytest_llmdeploy.platforms.kubernetes.names import Names
from pytest_llmdeploy.platforms.kubernetes.pods import main_container
from pytest_llmdeploy.ports import COLORS, Snapshot

Object = Mapping[str, Any]
_SET_BY_SERVER = ("deployment.kubernetes.io/", "kubectl.kubernetes.io/last-applied")
_ADDRESSES = ("clusterIP", "clusterIPs", "healthCheckNodePort")


def kept(item: Object | None) -> dict[str, Any] | None:
    """Return what a snapshot holds of an object: labels, annotations and its whole spec."""
    if item is None:
        return None
    metadata = item["metadata"]
    return {
        "labels": dict(metadata.get("labels") or {}),
        "annotations": _annotations(metadata),
        "spec": item["spec"],
    }


def _annotations(metadata: Object) -> dict[str, str]:
    found = metadata.get("annotations") or {}
    return {key: value for key, value in found.items() if not key.startswith(_SET_BY_SERVER)}


def take(
    service: Object | None,
    deployments: Mapping[str, Object | None],
    autoscaled: Collection[str] = (),
) -> Snapshot:
    """Return the snapshot of a Service and the Deployments by colour; None where one is missing.

    How many replicas the colours `autoscaled` have is not the release's, but an autoscaler's.
    """
    return {
        "service": kept(service),
        "deployments": {color: kept(item) for color, item in deployments.items()},
        "autoscaled": sorted(autoscaled),
    }


def former_state(snapshot: Snapshot, color: str, present: Object | None) -> dict[str, Any] | None:
    """Return what a colour's Deployment is to be again; None where it is not to be there."""
    former = snapshot["deployments"].get(color)
    if former is None or present is None or color not in snapshot["autoscaled"]:
        return None if former is None else dict(former)
    return {**former, "spec": {**former["spec"], "replicas": present["spec"].get("replicas")}}


def is_same(former: Object, present: Object) -> bool:
    """Return whether a Deployment is as the snapshot has it."""
    return former == kept(present)


def returned(former: Object, present: Object) -> dict[str, Any]:
    """Return the present Deployment with what the snapshot holds in it, to replace it."""
    metadata = dict(present["metadata"])
    metadata.pop("managedFields", None)
    kept_by_server = {
        key: value
        for key, value in (metadata.get("annotations") or {}).items()
        if key.startswith(_SET_BY_SERVER)
    }
    metadata["labels"] = dict(former["labels"])
    metadata["annotations"] = {**kept_by_server, **former["annotations"]}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata,
        "spec": former["spec"],
    }


def recreated(former: Object, kind: str, name: str, *, keep_address: bool = True) -> dict[str, Any]:
    """Return an object to create that is as the snapshot has it.

    With `keep_address` a Service asks for its former cluster address: clients still hold it.
    """
    spec = dict(former["spec"])
    if not keep_address:
        for key in _ADDRESSES:
            spec.pop(key, None)
    return {
        "apiVersion": "v1" if kind == "Service" else "apps/v1",
        "kind": kind,
        "metadata": {
            "name": name,
            "labels": dict(former["labels"]),
            "annotations": dict(former["annotations"]),
        },
        "spec": spec,
    }


def selector(service: Object | None) -> dict[str, str]:
    """Return the selector of a Service, or of a snapshot's; empty where there is none."""
    return dict(service["spec"].get("selector") or {}) if service else {}


def differences(snapshot: Snapshot, present: Snapshot, names: Names) -> list[str]:
    """Return in words how the present state differs from the snapshot."""
    found = list(_service_differences(snapshot["service"], present["service"], names))
    for color in COLORS:
        title = f"Deployment {names.deployment_name(color)}"
        now = present["deployments"].get(color)
        former = former_state(snapshot, color, now)
        if former is None or now is None:
            found += _existence(title, former, now)
            continue
        found += (f"{title}: {text}" for text in changes(former, now, ""))
    return found


def _service_differences(former: Object | None, now: Object | None, names: Names) -> Iterator[str]:
    title = f"Service {names.service}"
    if former is None or now is None:
        yield from _existence(title, former, now)
        return
    # Its annotations and addresses are the cluster's own to change.
    yield from (f"{title}: {text}" for text in changes(selector(former), selector(now), "selector"))


def _existence(title: str, former: Object | None, now: Object | None) -> Iterator[str]:
    if former is not None:
        if now is None:
            yield f"{title} is gone"
    elif now is not None:
        yield f"{title} is there, and was not before"


def changes(former: Any, now: Any, path: str) -> Iterator[str]:
    """Yield in words how a value differs from a former one; `path` is what it is called."""
    if isinstance(former, Mapping) and isinstance(now, Mapping):
        for key in sorted({*former, *now}):
            yield from changes(former.get(key), now.get(key), f"{path}.{key}" if path else key)
    elif isinstance(former, list) and isinstance(now, list) and len(former) == len(now):
        for index, (one, other) in enumerate(zip(former, now, strict=True)):
            yield from changes(one, other, f"{path}[{index}]")
    elif former != now:
        yield f"{path} is {_shown(now)}, was {_shown(former)}"


def _shown(value: Any) -> str:
    if value is None:
        return "absent"
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 120 else f"{text[:120]}…"


def commands(snapshot: Snapshot, names: Names, kubectl: Sequence[str]) -> list[str]:
    """Return the kubectl commands that bring back traffic, then images and numbers of replicas."""
    former = snapshot["service"]
    lines = []
    if former is None:
        lines.append(_line(kubectl, "delete", "service", names.service, "--ignore-not-found"))
    else:
        operation = {"op": "add", "path": "/spec/selector", "value": selector(former)}
        patch = json.dumps([operation])
        lines.append(_line(kubectl, "patch", "service", names.service, "--type=json", "-p", patch))
    for color, item in snapshot["deployments"].items():
        name = names.deployment_name(color)
        if item is None:
            lines.append(_line(kubectl, "delete", "deployment", name, "--ignore-not-found"))
            continue
        container = main_container(item["spec"]["template"]["spec"], names.service)
        image = f"{container['name']}={container['image']}"
        lines.append(_line(kubectl, "set", "image", f"deployment/{name}", image))
        replicas = item["spec"].get("replicas", 1)
        # A patch, for which the rights of a release are enough; scaling would take more.
        patch = json.dumps({"spec": {"replicas": replicas}})
        lines.append(_line(kubectl, "patch", "deployment", name, "-p", patch))
    return lines


def _line(kubectl: Sequence[str], *words: str) -> str:
    return shlex.join([*kubectl, *words])
