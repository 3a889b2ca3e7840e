"""The rights that a release needs in its namespace, and which of them are missing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pytest_llmdeploy.platforms.kubernetes.api import Api
from pytest_llmdeploy.platforms.kubernetes.names import Names
from pytest_llmdeploy.ports import COLORS

_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


@dataclass(frozen=True, slots=True)
class Right:
    """One rule of a Role."""

    group: str
    """API group; empty for the core group."""
    resource: str
    """Such as ``deployments`` or ``pods/log``."""
    verbs: tuple[str, ...]
    names: tuple[str, ...] = ()
    """The objects it is restricted to; empty: all in the namespace."""

    def rule(self) -> str:
        """Return the rule as it stands in a Role, on one line."""
        parts = [f'apiGroups: ["{self.group}"]', f'resources: ["{self.resource}"]']
        if self.names:
            parts.append(f"resourceNames: [{', '.join(self.names)}]")
        return f"{{{', '.join(parts)}, verbs: [{', '.join(self.verbs)}]}}"


def needed(names: Names) -> tuple[Right, ...]:
    """Return the rights without which a release cannot be made and taken back."""
    deployments = tuple(names.deployment_name(color) for color in COLORS)
    service, own = (names.service,), (names.own_name(),)
    # Creating cannot be restricted by name: the name is not part of the request's address.
    return (
        Right("apps", "deployments", ("create",)),
        Right("apps", "deployments", ("get", "patch", "update", "delete"), deployments),
        Right("apps", "replicasets", ("list",)),
        Right("", "pods", ("list",)),
        Right("", "pods/log", ("get",)),
        Right("", "pods/portforward", ("get", "create")),
        Right("", "events", ("list",)),
        Right("", "services", ("create",)),
        Right("", "services", ("get", "patch", "delete"), service),
        Right("discovery.k8s.io", "endpointslices", ("list",)),
        Right("", "configmaps", ("create",)),
        Right("", "configmaps", ("get", "update"), own),
        Right("coordination.k8s.io", "leases", ("create",)),
        Right("coordination.k8s.io", "leases", ("get", "update"), own),
    )


def missing(api: Api, names: Names, rights: Sequence[Right]) -> Iterator[Right]:
    """Yield what the API server would refuse, verb for verb."""
    for right in rights:
        refused = [
            verb
            for verb in right.verbs
            if not all(_allowed(api, names, right, verb, name) for name in right.names or ("",))
        ]
        if refused:
            yield Right(right.group, right.resource, tuple(refused), right.names)


def _allowed(api: Api, names: Names, right: Right, verb: str, name: str) -> bool:
    resource, _, subresource = right.resource.partition("/")
    attributes = {
        "namespace": names.namespace,
        "group": right.group,
        "resource": resource,
        "subresource": subresource,
        "verb": verb,
        "name": name,
    }
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {key: value for key, value in attributes.items() if value}},
    }
    return bool(api.review(_REVIEWS, review)["status"]["allowed"])
