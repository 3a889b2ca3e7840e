"""An HTTPRoute of the Gateway API that splits between two Services, one a colour."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pytest_llmdeploy.platforms.kubernetes.api import Object
from pytest_llmdeploy.platforms.kubernetes.names import COLOR
from pytest_llmdeploy.platforms.kubernetes.rights import Right
from pytest_llmdeploy.platforms.kubernetes.routing.http_rules import HttpDialect
from pytest_llmdeploy.platforms.kubernetes.routing.objects import is_made
from pytest_llmdeploy.platforms.kubernetes.routing.rule_router import RuleRouter
from pytest_llmdeploy.platforms.kubernetes.routing.rules import Dialect, RulesError
from pytest_llmdeploy.platforms.kubernetes.routing.site import keep
from pytest_llmdeploy.platforms.kubernetes.snapshot import changes, selector
from pytest_llmdeploy.ports import COLORS, Finding
from pytest_llmdeploy.untrusted import one_line

GROUP = "gateway.networking.k8s.io"
_WANTED = ("Accepted", "ResolvedRefs")
_VERBS = ("get", "patch", "delete")


class GatewayApiRouter(RuleRouter):
    """The split of an HTTPRoute, with the Services NAME-blue and NAME-green where missing.

    Between releases requests go to the service's own Service again, unless the colours' Services
    were there before us.
    """

    kind = "HTTPRoute"
    resource = f"httproute.{GROUP}"
    group = GROUP
    versions = ("v1", "v1beta1")
    plural = "httproutes"
    rules_key = "rules"

    def _services(self) -> dict[str, str]:
        return {color: f"{self.site.names.service}-{color}" for color in COLORS}

    def _dialect(self) -> HttpDialect:
        names, services = self.site.names, self._services()
        present = [self.site.service(name) for name in services.values()]
        return HttpDialect(
            namespace=names.namespace,
            service=names.service,
            service_color=self.site.color_of(names.service),
            services=services,
            rests_at_service=all(item is None or is_made(item) for item in present),
            header=self._router.header,
            header_value=self._router.header_value,
        )

    def _planned(self, stable: str) -> HttpDialect:  # noqa: ARG002
        return self._dialect()

    def _made(self, dialect: Dialect, stable: str) -> Object:
        if not self._router.gateways:
            raise RulesError(
                "there is none, and one can only be made for a Gateway: name it in "
                "canary.router.gateways (NAMESPACE/NAME), or the route in canary.router.route"
            )
        own = self.site.beside("", {})["spec"]["ports"][0]
        target = {"name": self.site.names.service, "port": own["port"]}
        spec: dict[str, Any] = {
            "parentRefs": [_parent(gateway) for gateway in self._router.gateways],
            "rules": [{"backendRefs": [dialect.resting(target, stable)]}],
        }
        if self._router.hosts:
            spec["hostnames"] = list(self._router.hosts)
        return {
            "apiVersion": f"{GROUP}/{self._served()}",
            "kind": self.kind,
            "metadata": {"name": self._route, "namespace": self.site.names.namespace},
            "spec": spec,
        }

    def _make_places(self, stable: str, canary: str) -> bool:  # noqa: ARG002
        changed = False
        for color, name in self._services().items():
            made = self.site.make_service(name, self.site.names.labels(color))
            changed = changed or made
        self.site.wait_for_endpoints(self._services()[stable], stable, alone=True)
        return changed

    def _before_rest(self, stable: str) -> None:
        dialect = self._dialect()
        name = dialect.service if dialect.rests_at_service else dialect.services[stable]
        self.site.wait_for_endpoints(name, stable, alone=True)

    def _relabel(self, stable: str) -> None:
        """Do nothing: no Service is named by a role."""

    def _can_aim(self, dialect: Dialect, shares: Mapping[str, int]) -> bool:  # noqa: ARG002
        return all(self.site.service(name) is not None for name in self._services().values())

    def _places(self) -> dict[str, Any]:
        return {name: keep(self.site.service(name)) for name in self._services().values()}

    def _restore_places(self, former: Mapping[str, Any]) -> None:
        for name, service in former.items():
            path = self.site.names.core("services", name)
            if service is None:
                self.site.objects.remove(path)
            elif self.site.objects.get(path) is None:
                self.site.recreate(path, service, "v1", "Service")

    def _place_differences(self, former: Mapping[str, Any]) -> Iterator[str]:
        for name, service in former.items():
            title = f"Service {self.site.names.namespace}/{name}"
            path = self.site.names.core("services", name)
            said, present = self.site.existence(title, service, path)
            yield from said
            if present is not None:
                before, now = selector(service), selector(present)
                yield from (f"{title}: {text}" for text in changes(before, now, "selector"))

    def _place_commands(self, former: Mapping[str, Any]) -> Iterator[str]:
        for name, service in former.items():
            if service is None:
                yield self.site.command_back("service", name, None)

    def _examine_places(self, stable: str, canary: str) -> Iterator[Finding]:  # noqa: ARG002
        for color, name in self._services().items():
            present = self.site.service(name)
            if present is None:
                self.site.beside(name, {})  # raises where there is nothing to copy
            elif selector(present).get(COLOR) != color:
                shown = selector(present).get(COLOR) or "no colour"
                text = (
                    f"Service {name} selects {shown}: it must select {COLOR}={color}, or be "
                    "absent, to be made"
                )
                yield Finding("router", text, fatal=True)

    def rights(self) -> Sequence[Right]:
        # Creating cannot be restricted by name: the name is not part of the request's address.
        return (
            Right(GROUP, self.plural, ("create",)),
            Right(GROUP, self.plural, _VERBS, (self._route,)),
            Right("", "services", ("create",)),
            Right("", "services", ("get", "delete"), tuple(self._services().values())),
        )

    def _status_lacks(self, found: Object) -> str | None:
        generation = int(found["metadata"].get("generation") or 0)
        parents = (found.get("status") or {}).get("parents") or []
        if not parents:
            return "no Gateway has taken it up"
        for parent in parents:
            name = (parent.get("parentRef") or {}).get("name")
            present = {one.get("type"): one for one in parent.get("conditions") or []}
            for kind in _WANTED:
                one = present.get(kind) or {}
                if one.get("status") != "True":
                    why = one.get("message") or one.get("reason") or "nothing said"
                    return one_line(f"Gateway {name}: {kind} is not True: {why}")
                if int(one.get("observedGeneration") or 0) != generation:
                    return (
                        f"Gateway {name}: {kind} is about generation "
                        f"{one.get('observedGeneration')}, the present one is {generation}"
                    )
        return None


def _parent(gateway: str) -> dict[str, str]:
    namespace, _, name = gateway.rpartition("/")
    return {"name": name, "namespace": namespace} if namespace else {"name": name}
