"""kind's configuration file: the user's own, and the service's port added to it. Pure."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

NODE_PORT = 30081
"""Port of the service on every node of a cluster."""
LOOPBACK = "127.0.0.1"


def with_port(own: Mapping[str, Any] | None, host_port: int) -> dict[str, Any]:
    """Return the configuration in which `host_port` of this machine leads to NODE_PORT.

    A mapping to NODE_PORT that the user wrote stays as it is; see `mapped_port`.
    """
    result: dict[str, Any] = copy.deepcopy(dict(own or {}))
    result.setdefault("kind", "Cluster")
    result.setdefault("apiVersion", "kind.x-k8s.io/v1alpha4")
    nodes = result.setdefault("nodes", [])
    if not nodes:
        nodes.append({"role": "control-plane"})
    if mapped_port(result) is None:
        mapping = {
            "containerPort": NODE_PORT,
            "hostPort": host_port,
            "listenAddress": LOOPBACK,
            "protocol": "TCP",
        }
        nodes[0].setdefault("extraPortMappings", []).append(mapping)
    return result


def mapped_port(configuration: Mapping[str, Any]) -> int | None:
    """Return this machine's port that leads to NODE_PORT; None where none does."""
    for node in configuration.get("nodes") or []:
        for mapping in node.get("extraPortMappings") or []:
            if mapping.get("containerPort") == NODE_PORT and mapping.get("hostPort"):
                return int(mapping["hostPort"])
    return None


def same_image(wanted: str, present: str) -> bool:
    """Return whether two node images are the same, one of them perhaps without its digest."""
    one, _, first = wanted.partition("@")
    other, _, second = present.partition("@")
    return one == other and (first == second or not first or not second)
