"""kind's configuration file: the user's own, and the service's port added to it. Pure."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

NODE_PORT = 30081
"""Port of the service on every node of a cluster, where no gateway leads to it."""
LOOPBACK = "127.0.0.1"


def with_port(
    own: Mapping[str, Any] | None, host_port: int, node_port: int = NODE_PORT
) -> dict[str, Any]:
    """Return the configuration in which `host_port` of this machine leads to `node_port`.

    A mapping to that port that the user wrote stays as it is; see `mapped_port`.
    """
    result: dict[str, Any] = copy.deepcopy(dict(own or {}))
    result.setdefault("kind", "Cluster")
    result.setdefault("apiVersion", "kind.x-k8s.io/v1alpha4")
    nodes = result.setdefault("nodes", [])
    if not nodes:
        nodes.append({"role": "control-plane"})
    if mapped_port(result, node_port) is None:
        mapping = {
            "containerPort": node_port,
            "hostPort": host_port,
            "listenAddress": LOOPBACK,
            "protocol": "TCP",
        }
        nodes[0].setdefault("extraPortMappings", []).append(mapping)
    return result


def mapped_port(configuration: Mapping[str, Any], node_port: int = NODE_PORT) -> int | None:
    """Return this machine's port that leads to `node_port`; None where none does."""
    for node in configuration.get("nodes") or []:
        for mapping in node.get("extraPortMappings") or []:
            if mapping.get("containerPort") == node_port and mapping.get("hostPort"):
                return int(mapping["hostPort"])
    return None


def same_image(wanted: str, present: str) -> bool:
    """Return whether two node images are the same, one of them perhaps without its digest."""
    one, _, first = wanted.partition("@")
    other, _, second = present.partition("@")
    return one == other and (first == second or not first or not second)
