"""A VirtualService that splits between subsets of a DestinationRule."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pytest_llmdeploy.platforms.kubernetes.api import Object
from pytest_llmdeploy.platforms.kubernetes.names import APP, COLOR
from pytest_llmdeploy.platforms.kubernetes.pods import condition
from pytest_llmdeploy.platforms.kubernetes.refusals import RefusedError
from pytest_llmdeploy.platforms.kubernetes.rights import Right
from pytest_llmdeploy.platforms.kubernetes.routing.istio_rules import (
    IstioDialect,
    own_subset,
    roles,
    service_of,
    subset_colors,
    with_subsets,
)
from pytest_llmdeploy.platforms.kubernetes.routing.objects import Spec
from pytest_llmdeploy.platforms.kubernetes.routing.rule_router import RuleRouter
from pytest_llmdeploy.platforms.kubernetes.routing.rules import Dialect, RulesError
from pytest_llmdeploy.platforms.kubernetes.routing.site import Site, keep
from pytest_llmdeploy.platforms.kubernetes.snapshot import changes, selector
from pytest_llmdeploy.ports import Finding
from pytest_llmdeploy.untrusted import one_line

GROUP = "networking.istio.io"
DESTINATION_RULES = "destinationrules"
_VERBS = ("get", "patch", "delete")


class IstioRouter(RuleRouter):
    """The split of a VirtualService, with DestinationRule and Service where they are missing.

    Subsets divide the pods of one Service, and the service's own selects one colour only: so the
    DestinationRule that we make is about a second Service, NAME-versions, which selects both.
    Between releases requests go to the Service itself again, unless the DestinationRule was there.
    """

    kind = "VirtualService"
    resource = f"virtualservice.{GROUP}"
    group = GROUP
    versions = ("v1", "v1beta1")
    plural = "virtualservices"
    rules_key = "http"

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self._rule = self._router.destination_rule or site.names.service
        self._both = f"{site.names.service}-versions"

    def _rule_path(self) -> str:
        return self._object_path(DESTINATION_RULES, self._rule)

    def _both_path(self) -> str:
        return self.site.names.core("services", self._both)

    def _dialect(self) -> IstioDialect:
        found = self.site.objects.get(self._rule_path())
        spec = found["spec"] if found is not None else {"host": self._both}
        return self._dialect_of(spec)

    def _planned(self, stable: str) -> IstioDialect:
        found = self.site.objects.get(self._rule_path())
        spec = found["spec"] if found is not None else self._made_rule(stable)["spec"]
        return self._dialect_of(self._with_subsets(spec, stable))

    def _dialect_of(self, rule: Spec) -> IstioDialect:
        names = self.site.names
        host = str(rule["host"])
        return IstioDialect(
            namespace=names.namespace,
            service=names.service,
            service_color=self.site.color_of(names.service),
            host=host,
            subsets=subset_colors(rule.get("subsets") or []),
            rests_at_service=self._is_own(host),
            header=self._router.header,
            header_value=self._router.header_value,
        )

    def _is_own(self, host: str) -> bool:
        return service_of(host, self.site.names.namespace) == self._both

    def _with_subsets(self, rule: Spec, stable: str) -> Spec:
        own = self._is_own(str(rule["host"]))
        try:
            subsets = with_subsets(rule.get("subsets") or [], roles(stable), add_roles=own)
        except RulesError as error:
            raise RulesError(f"DestinationRule {self._rule}: {error}") from error
        return {**rule, "subsets": subsets}

    def _made(self, dialect: Dialect, stable: str) -> Object:
        own = {"destination": {"host": self.site.names.service}}
        spec: dict[str, Any] = {
            "hosts": list(self._router.hosts) or [self.site.names.service],
            "http": [{"route": [dialect.resting(own, stable)]}],
        }
        if self._router.gateways:
            spec["gateways"] = list(self._router.gateways)
        return self._body(self.kind, self._route, spec)

    def _made_rule(self, stable: str) -> Object:
        body = self._body("DestinationRule", self._rule, {"host": self._both})
        return {**body, "spec": self._with_subsets(body["spec"], stable)}

    def _body(self, kind: str, name: str, spec: Spec) -> Object:
        return {
            "apiVersion": f"{GROUP}/{self._served()}",
            "kind": kind,
            "metadata": {"name": name, "namespace": self.site.names.namespace},
            "spec": dict(spec),
        }

    def _make_places(self, stable: str, canary: str) -> bool:  # noqa: ARG002
        found = self.site.objects.get(self._rule_path())
        host = str(found["spec"]["host"]) if found is not None else self._both
        changed = False
        if self._is_own(host):
            labels = {APP: self.site.names.service}
            changed = self.site.make_service(self._both, labels)
        name = service_of(host, self.site.names.namespace) or host
        self.site.wait_for_endpoints(name, stable)
        if found is None:
            made = self.site.objects.make(self._rule_path(), self._made_rule(stable))
            changed = changed or made
        return self._write_subsets(stable) or changed

    def _write_subsets(self, stable: str) -> bool:
        with self._explained():
            return self.site.objects.change(
                self._rule_path(),
                lambda spec: self._with_subsets(spec, stable),
                lambda spec: spec.get("subsets"),
                "subsets",
            )

    def _before_rest(self, stable: str) -> None:
        if self._dialect().rests_at_service:
            self.site.wait_for_endpoints(self.site.names.service, stable, alone=True)

    def _relabel(self, stable: str) -> None:
        if self.site.objects.get(self._rule_path()) is not None:
            self._write_subsets(stable)

    def _can_aim(self, dialect: Dialect, shares: Mapping[str, int]) -> bool:
        assert isinstance(dialect, IstioDialect)
        return all(own_subset(dialect.subsets, color) is not None for color in shares)

    def _places(self) -> dict[str, Any]:
        return {
            "destination_rule": keep(self.site.objects.get(self._rule_path())),
            "service": keep(self.site.objects.get(self._both_path())),
        }

    def _restore_places(self, former: Mapping[str, Any]) -> None:
        rule, path = former["destination_rule"], self._rule_path()
        if rule is None:
            self.site.objects.remove(path)
        elif self.site.objects.get(path) is None:
            version = f"{GROUP}/{self._served()}"
            self.site.recreate(path, rule, version, "DestinationRule")
        else:
            self.site.objects.change(
                path,
                lambda spec: _with_subsets_of(rule["spec"], spec),
                lambda spec: spec.get("subsets"),
                "subsets",
                force=True,
            )
        service, path = former["service"], self._both_path()
        if service is None:
            self.site.objects.remove(path)
        elif self.site.objects.get(path) is None:
            self.site.recreate(path, service, "v1", "Service")

    def _place_differences(self, former: Mapping[str, Any]) -> Iterator[str]:
        title = f"DestinationRule {self.site.names.namespace}/{self._rule}"
        rule = former["destination_rule"]
        said, present = self.site.existence(title, rule, self._rule_path())
        yield from said
        if present is not None:
            before, now = rule["spec"].get("subsets"), present["spec"].get("subsets")
            yield from (f"{title}: {text}" for text in changes(before, now, "subsets"))
        title = f"Service {self.site.names.namespace}/{self._both}"
        said, _ = self.site.existence(title, former["service"], self._both_path())
        yield from said

    def _place_commands(self, former: Mapping[str, Any]) -> Iterator[str]:
        resource = f"destinationrule.{GROUP}"
        yield self.site.command_back(resource, self._rule, former["destination_rule"])
        if former["service"] is None:
            yield self.site.command_back("service", self._both, None)

    def _examine_places(self, stable: str, canary: str) -> Iterator[Finding]:  # noqa: ARG002
        found = self.site.objects.get(self._rule_path())
        if found is not None and not self._is_own(host := str(found["spec"]["host"])):
            yield from self._examine_host(host)
        else:
            both = self.site.service(self._both)
            if COLOR in selector(both):
                text = (
                    f"Service {self._both} selects {COLOR}={selector(both)[COLOR]}: the subsets "
                    f"need one that selects both colours; let it select {APP} alone"
                )
                yield Finding("router", text, fatal=True)
            elif both is None:
                self.site.beside(self._both, {})  # raises where there is nothing to copy
        body = self._made_rule(stable) if found is None else None
        try:
            self.site.objects.rehearse(
                self._rule_path(), lambda spec: self._with_subsets(spec, stable), body
            )
        except RefusedError as error:
            yield Finding("router", f"the subsets would be refused: {error}", fatal=True)

    def _examine_host(self, host: str) -> Iterator[Finding]:
        """Look at the host of a DestinationRule that is not ours."""
        names = self.site.names
        name = service_of(host, names.namespace)
        service = self.site.service(name) if name is not None else None
        advice = (
            f"Let its host be a Service that selects both colours ({APP}={names.service} alone), "
            "or name another DestinationRule in canary.router.destination_rule, which is made"
        )
        if service is None:
            text = (
                f"DestinationRule {self._rule} is about {host}, which is no Service of namespace "
                f"{names.namespace}. {advice}"
            )
            yield Finding("router", text, fatal=True)
        elif COLOR in selector(service):
            text = (
                f"DestinationRule {self._rule} is about Service {name}, which selects "
                f"{COLOR}={selector(service)[COLOR]} alone: its subsets cannot reach the other "
                f"colour. {advice}"
            )
            yield Finding("router", text, fatal=True)

    def rights(self) -> Sequence[Right]:
        # Creating cannot be restricted by name: the name is not part of the request's address.
        return (
            Right(GROUP, self.plural, ("create",)),
            Right(GROUP, self.plural, _VERBS, (self._route,)),
            Right(GROUP, DESTINATION_RULES, ("create",)),
            Right(GROUP, DESTINATION_RULES, _VERBS, (self._rule,)),
            Right("", "services", ("create",)),
            Right("", "services", ("get", "delete"), (self._both,)),
        )

    def _status_lacks(self, found: Object) -> str | None:
        rule = self.site.objects.get(self._rule_path())
        for title, item in ((self.kind, found), ("DestinationRule", rule)):
            if item is not None and (said := _status(item)) is not None:
                return f"{title}: {said}"
        return None


def _with_subsets_of(former: Spec, present: Spec) -> Spec:
    result = {key: value for key, value in present.items() if key != "subsets"}
    return {**result, "subsets": former["subsets"]} if "subsets" in former else result


def _status(item: Object) -> str | None:
    """Return what Istio says of an object that is not well; by default it says nothing."""
    status = item.get("status") or {}
    for message in status.get("validationMessages") or []:
        if str(message.get("level")).upper() in {"ERROR", "3"}:
            kind = message.get("type") or {}
            return one_line(f"{kind.get('code')} {kind.get('name') or 'is reported'}")
    reconciled = condition(item, "Reconciled")
    if reconciled and reconciled.get("status") != "True":
        return one_line(f"not every proxy has it: {reconciled.get('message') or 'not reconciled'}")
    seen, now = status.get("observedGeneration"), item["metadata"].get("generation")
    if reconciled and seen is not None and int(seen) < int(now or 0):
        return f"its status is about generation {seen}, the present one is {now}"
    return None
