"""Which router an environment on Kubernetes has."""

from __future__ import annotations

from pytest_llmdeploy.errors import PlatformError
from pytest_llmdeploy.platforms.kubernetes.routing.gateway_api import GatewayApiRouter
from pytest_llmdeploy.platforms.kubernetes.routing.istio import IstioRouter
from pytest_llmdeploy.platforms.kubernetes.routing.replicas import ReplicasRouter, Scaling
from pytest_llmdeploy.platforms.kubernetes.routing.site import Site
from pytest_llmdeploy.ports import Router


def choose(site: Site, scaling: Scaling) -> Router:
    """Return the router that ``canary.router.kind`` names; by replicas where it names none.

    Raises PlatformError for one that is not of Kubernetes.
    """
    kind = site.config.router.kind or "replicas"
    if kind == "istio":
        return IstioRouter(site)
    if kind == "gateway-api":
        return GatewayApiRouter(site)
    if kind == "replicas":
        return ReplicasRouter(site, scaling)
    raise PlatformError(
        f"canary.router.kind: {kind} splits on this machine; on Kubernetes it is istio, "
        "gateway-api or replicas"
    )
