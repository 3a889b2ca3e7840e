"""What the routers share: the service in its cluster, its Services, who gets traffic of them."""

from __future__ import annotations

import copy
import json
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pytest_llmdeploy.config.canary import CanaryConfig
from pytest_llmdeploy.errors import PlatformError
from pytest_llmdeploy.platforms.kubernetes.api import Api, Object
from pytest_llmdeploy.platforms.kubernetes.endpoints import SERVICE_LABEL, endpoints
from pytest_llmdeploy.platforms.kubernetes.names import APP, COLOR, Names
from pytest_llmdeploy.platforms.kubernetes.rights import Right, missing
from pytest_llmdeploy.platforms.kubernetes.routing.objects import Objects
from pytest_llmdeploy.platforms.kubernetes.snapshot import kept, recreated, selector
from pytest_llmdeploy.ports import COLORS, Endpoint, Finding
from pytest_llmdeploy.waiting import Clock, wait_until

SETTLE = 2.0
"""Seconds between what routes lead to and the routes: proxies learn of both separately, and a
control plane's status does not tell when they have."""
_PORT_KEYS = ("name", "port", "targetPort", "protocol", "appProtocol")


@dataclass(frozen=True, slots=True)
class Site:
    """One service in one namespace, and the file's wishes for its canary."""

    api: Api
    names: Names
    config: CanaryConfig
    kubectl: Sequence[str]
    """How kubectl is called for this cluster and namespace."""
    check_lock: Callable[[], None]
    """Raises where the release is not ours any more."""
    clock: Clock
    objects: Objects = field(init=False)

    def __post_init__(self) -> None:
        made = Objects(self.api, self.check_lock, self.clock)
        object.__setattr__(self, "objects", made)

    def service(self, name: str) -> Object | None:
        """Return a Service; None where there is none of that name."""
        return self.api.get(self.names.core("services", name))

    def color_of(self, name: str) -> str | None:
        """Return the colour that a Service selects; None where it selects none of ours."""
        found = selector(self.service(name)).get(COLOR)
        return found if found in COLORS else None

    def endpoints(self, name: str) -> list[Endpoint]:
        """Return the pods that a Service leads to now, by its EndpointSlices."""
        path = self.names.group("discovery.k8s.io/v1", "endpointslices")
        slices = self.api.items(path, labelSelector=f"{SERVICE_LABEL}={name}")
        pods = self.api.items(self.names.core("pods"), labelSelector=f"{APP}={self.names.service}")
        return endpoints(slices, pods)

    def ready(self, name: str, color: str) -> set[str]:
        """Return the ready pods of a colour that a Service leads to."""
        found = self.endpoints(name)
        return {one.pod for one in found if one.ready and one.color == color}

    def make_service(self, name: str, labels: Mapping[str, str]) -> bool:
        """Make a Service beside the service's own, with its ports; return whether it was made."""
        return self.objects.make(self.names.core("services", name), self.beside(name, labels))

    def beside(self, name: str, labels: Mapping[str, str]) -> Object:
        """Return a Service with the ports of the service's own, which selects these labels."""
        own = self.service(self.names.service)
        if own is None:
            raise PlatformError(
                f"there is no Service {self.names.service} in namespace {self.names.namespace}: "
                "a canary needs a version that runs; release the first one by blue_green"
            )
        ports = [
            {key: port[key] for key in _PORT_KEYS if key in port}
            for port in copy.deepcopy(own["spec"].get("ports") or [])
        ]
        return {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "namespace": self.names.namespace},
            "spec": {"selector": dict(labels), "ports": ports},
        }

    def wait_for_endpoints(self, name: str, color: str, *, alone: bool = False) -> None:
        """Wait until a Service leads to as many ready pods of a colour as its own Service does.

        With `alone` it must lead to no other pods. Raises WaitTimeoutError.
        """

        def there() -> bool:
            found = self.endpoints(name)
            others = alone and any(one.color != color for one in found if one.ready)
            have = {one.pod for one in found if one.ready and one.color == color}
            return bool(have) and have >= self.ready(self.names.service, color) and not others

        wait_until(
            there,
            what=f"Service {name} should lead to the ready pods of {color}",
            timeout=self.config.converge_timeout,
            setting="canary.converge_timeout",
            interval=0.2,
            clock=self.clock,
        )

    def settle(self) -> None:
        """Let proxies learn of what was written before what follows."""
        self.clock.sleep(SETTLE)

    def rights(self, rights: Sequence[Right]) -> Iterator[Finding]:
        """Yield one fatal finding with all rights that are missing."""
        lacking = list(missing(self.api, self.names, rights))
        if lacking:
            rules = "\n".join(f"- {right.rule()}" for right in lacking)
            text = (
                f"rights for a canary are missing in namespace {self.names.namespace}; rules to "
                f"add to the Role (deploy/kubernetes/rbac.yaml has them all):\n{rules}"
            )
            yield Finding("rights", text, fatal=True)

    def version_of(self, group: str, served: Sequence[str]) -> str | None:
        """Return the first of an API group's versions that the cluster serves; None: none."""
        found = self.api.get(f"/apis/{group}")
        have = {one["version"] for one in (found or {}).get("versions") or []}
        return next((version for version in served if version in have), None)

    def command(self, *words: str) -> str:
        """Return a kubectl command."""
        return shlex.join([*self.kubectl, *words])

    def command_back(self, resource: str, name: str, former: Mapping[str, Any] | None) -> str:
        """Return the kubectl command that brings an object's spec back, or removes it."""
        if former is None:
            return self.command("delete", resource, name, "--ignore-not-found")
        patch = [{"op": "replace", "path": "/spec", "value": former["spec"]}]
        return self.command("patch", resource, name, "--type=json", "-p", json.dumps(patch))

    def existence(
        self, title: str, former: Mapping[str, Any] | None, path: str
    ) -> tuple[list[str], Object | None]:
        """Return in words whether an object is there as it was, and what is there."""
        present = self.api.get(path)
        if former is not None and present is None:
            return [f"{title} is gone"], None
        if former is None and present is not None:
            return [f"{title} is there, and was not before"], None
        return [], present

    def recreate(self, path: str, former: Mapping[str, Any], api_version: str, kind: str) -> None:
        """Make an object again that somebody deleted."""
        body = recreated(former, kind, path.rpartition("/")[2], keep_address=False)
        self.check_lock()
        self.api.create(path.rpartition("/")[0], {**body, "apiVersion": api_version})


def keep(item: Object | None) -> dict[str, Any] | None:
    """Return what a snapshot holds of an object."""
    return kept(item)
