"""Whether quotas and nodes have room for a Deployment's replicas, roughly. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from pytest_llmdeploy.config.quantities import quantity

Object = Mapping[str, Any]
_RESOURCES = ("cpu", "memory")


def of_pod(spec: Object, kind: str) -> dict[str, Decimal]:
    """Return what a pod's containers request (or are limited to) together."""
    total = dict.fromkeys(_RESOURCES, Decimal(0))
    for container in spec["containers"]:
        wanted = (container.get("resources") or {}).get(kind) or {}
        for resource in _RESOURCES:
            total[resource] += quantity(wanted.get(resource) or 0)
    return total


def quota_shortages(quotas: Sequence[Object], pod: Object, more: int) -> Iterator[str]:
    """Yield what a namespace's quotas lack for `more` replicas."""
    needs: dict[str, Decimal] = {"pods": Decimal(more), "count/pods": Decimal(more)}
    for kind in ("requests", "limits"):
        needs |= {f"{kind}.{name}": value * more for name, value in of_pod(pod, kind).items()}
    for name in _RESOURCES:
        needs[name] = needs[f"requests.{name}"]
    for quota in quotas:
        if quota["spec"].get("scopes") or quota["spec"].get("scopeSelector"):
            continue  # which pods it counts cannot be told from here
        status = quota.get("status") or {}
        for name, hard in (status.get("hard") or {}).items():
            used = (status.get("used") or {}).get(name) or 0
            left = quantity(hard) - quantity(used)
            if name in needs and needs[name] > left:
                yield (
                    f"ResourceQuota {quota['metadata']['name']}: {more} more replicas need "
                    f"{needs[name].normalize():f} of {name}, {max(left, Decimal(0)).normalize():f} "
                    f"of {hard} are left"
                )


def room_on_nodes(nodes: Sequence[Object], pods: Sequence[Object], pod: Object) -> int:
    """Return how many replicas the nodes that take ordinary pods could run now."""
    wanted = of_pod(pod, "requests")
    used: dict[str, dict[str, Decimal]] = {}
    for item in pods:
        node = item["spec"].get("nodeName")
        if node and (item.get("status") or {}).get("phase") not in {"Succeeded", "Failed"}:
            sums = used.setdefault(node, dict.fromkeys((*_RESOURCES, "pods"), Decimal(0)))
            sums["pods"] += 1
            for resource, value in of_pod(item["spec"], "requests").items():
                sums[resource] += value
    room = 0
    for node in nodes:
        taints = node["spec"].get("taints") or []
        if any(taint.get("effect") in {"NoSchedule", "NoExecute"} for taint in taints):
            continue
        allocatable = (node.get("status") or {}).get("allocatable") or {}
        taken = used.get(node["metadata"]["name"], {})
        free = {
            name: quantity(allocatable.get(name) or 0) - taken.get(name, Decimal(0))
            for name in (*_RESOURCES, "pods")
        }
        fits = [free["pods"], *(free[name] // wanted[name] for name in _RESOURCES if wanted[name])]
        room += max(0, int(min(fits)))
    return room
