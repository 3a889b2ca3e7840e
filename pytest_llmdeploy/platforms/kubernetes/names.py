"""What a release's objects are called, and where the API has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

APP = "app"
COLOR = "color"
"""Labels of every pod of ours; the Service selects by both."""


@dataclass(frozen=True, slots=True)
class Names:
    """The objects of one service in one namespace."""

    namespace: str
    service: str
    """Name of the Service, and what the Deployments' names begin with."""

    def deployment_name(self, color: str) -> str:
        """Return the name of a colour's Deployment."""
        return f"{self.service}-{color}"

    def own_name(self) -> str:
        """Return the name of our Lease and our ConfigMap."""
        return f"llmdeploy-{self.service}"

    def labels(self, color: str) -> dict[str, str]:
        """Return the labels of a colour's pods."""
        return {APP: self.service, COLOR: color}

    def core(self, kind: str, name: str = "") -> str:
        """Return the path of a kind of the core group, or of one object."""
        return f"/api/v1/namespaces/{self.namespace}/{kind}" + (f"/{name}" if name else "")

    def group(self, group: str, kind: str, name: str = "") -> str:
        """Return the path of a kind of another group, such as ``apps/v1``."""
        return f"/apis/{group}/namespaces/{self.namespace}/{kind}" + (f"/{name}" if name else "")

    def deployment(self, color: str) -> str:
        """Return the path of a colour's Deployment."""
        return self.group("apps/v1", "deployments", self.deployment_name(color))

    def service_path(self) -> str:
        """Return the path of the Service."""
        return self.core("services", self.service)


def selector_text(labels: Mapping[str, str]) -> str:
    """Return labels as the API's label selector."""
    return ",".join(f"{key}={value}" for key, value in labels.items())
