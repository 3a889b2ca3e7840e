"""Which router an environment on Kubernetes has."""

from __future__ import annotations

from pytest_llmdeploy.platforms.kubernetes.routing.istio import IstioRouter
from pytest_llmdeploy.platforms.kubernetes.routing.site import Site
from pytest_llmdeploy.ports import Router


def choose(site: Site) -> Router:
    """Return the router that the file asks for."""
    return IstioRouter(site)
