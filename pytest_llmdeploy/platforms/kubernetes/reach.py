"""Any Service of the cluster on this machine, through one of its ready pods."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from pytest_llmdeploy.errors import PlatformError
from pytest_llmdeploy.platforms.kubernetes.api import Api
from pytest_llmdeploy.platforms.kubernetes.endpoints import SERVICE_LABEL
from pytest_llmdeploy.platforms.kubernetes.names import Names
from pytest_llmdeploy.platforms.kubernetes.portforward import forwarded


@contextlib.contextmanager
def reached(api: Api, names: Names, port: int) -> Iterator[str]:
    """Yield an address of this machine that leads to a Service's port; raise PlatformError.

    It pins the pod that was ready first: where that goes, connections fail, and it must be asked
    for anew. Needs the rights to get the Service, to list EndpointSlices, and to forward ports.
    """
    pod, number = _behind(api, names, port)
    with forwarded(api, names, pod, number) as url:
        yield url


def _behind(api: Api, names: Names, port: int) -> tuple[str, int]:
    """Return a ready pod behind a Service's port, and the port of the pod."""
    title = f"Service {names.service} in namespace {names.namespace}"
    service = api.get(names.service_path())
    if service is None:
        raise PlatformError(f"there is no {title}")
    ports = {int(one["port"]): one.get("name") or "" for one in service["spec"].get("ports") or []}
    if port not in ports:
        shown = ", ".join(map(str, ports)) or "none"
        raise PlatformError(f"{title} has no port {port}; its ports are {shown}")
    path = names.group("discovery.k8s.io/v1", "endpointslices")
    for part in api.items(path, labelSelector=f"{SERVICE_LABEL}={names.service}"):
        # A port's number at the pods: the Service may only name it.
        numbers = {one.get("name") or "": one.get("port") for one in part.get("ports") or []}
        for entry in part.get("endpoints") or []:
            target = entry.get("targetRef") or {}
            ready = (entry.get("conditions") or {}).get("ready") is not False
            number = numbers.get(ports[port])
            if ready and number and target.get("kind") == "Pod":
                return str(target["name"]), int(number)
    raise PlatformError(f"{title} has no ready pod at port {port}")
