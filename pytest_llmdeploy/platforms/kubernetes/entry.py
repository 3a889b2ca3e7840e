"""The address at which users reach a Service from outside the cluster."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_llmdeploy.errors import PlatformError
from pytest_llmdeploy.platforms.kubernetes.api import Api
from pytest_llmdeploy.platforms.kubernetes.names import Names
from pytest_llmdeploy.platforms.kubernetes.refusals import RefusedError

HTTPS = 443


def discover(api: Api, names: Names) -> str:
    """Return the load balancer's address or a node's port; raise PlatformError where none is."""
    service = api.get(names.service_path())
    if service is None:
        raise PlatformError(
            f"there is no Service {names.service} in namespace {names.namespace}: "
            "set blue_green.name to its name, or the environment's url to where users reach it"
        )
    port = (service["spec"].get("ports") or [{}])[0]
    if (host := _load_balancer(service)) is not None:
        return _url(host, int(port["port"]))
    node_port = port.get("nodePort")
    host = _node_address(api) if node_port else None
    if node_port and host:
        return _url(host, int(node_port))
    raise PlatformError(
        f"Service {names.service} ({service['spec'].get('type')}) has no address outside the "
        "cluster that can be found out: set the environment's url to where users reach it"
    )


def _load_balancer(service: Mapping[str, Any]) -> str | None:
    ingress = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
    for entry in ingress:
        if host := entry.get("ip") or entry.get("hostname"):
            return str(host)
    return None


def _node_address(api: Api) -> str | None:
    try:
        nodes = api.items("/api/v1/nodes")
    except RefusedError:
        return None  # nodes are the cluster's, not the namespace's: often we may not see them
    for node in nodes:
        for address in (node.get("status") or {}).get("addresses") or []:
            if address.get("type") == "InternalIP":
                return str(address["address"])
    return None


def _url(host: str, port: int) -> str:
    host = f"[{host}]" if ":" in host else host
    return f"https://{host}" if port == HTTPS else f"http://{host}:{port}"
