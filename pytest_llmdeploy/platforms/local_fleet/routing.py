"""What Envoy really does with requests, asked of its admin interface."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pytest_llmdeploy.errors import PlatformError
from pytest_llmdeploy.platforms.local_fleet.status import FleetStatus
from pytest_llmdeploy.ports import Endpoint

if TYPE_CHECKING:
    import httpx

TIMEOUT = 5.0


class EnvoyAdmin:
    """Reads; nothing is changed through it."""

    def __init__(self) -> None:
        self._http: httpx.Client | None = None

    def get(self, port: int, path: str) -> httpx.Response:
        """Return the answer to one request; raise PlatformError."""
        import httpx

        if self._http is None:
            self._http = httpx.Client(trust_env=False, timeout=TIMEOUT)
        try:
            answer = self._http.get(f"http://127.0.0.1:{port}{path}")
            answer.raise_for_status()
        except httpx.HTTPError as error:
            raise PlatformError(f"Envoy's admin interface does not answer: {error}") from error
        return answer

    def routes(self, status: FleetStatus) -> dict[str, Any]:
        """Return a dump of the routes in force."""
        path = "/config_dump?resource=dynamic_route_configs"
        dump: dict[str, Any] = self.get(status.admin_port, path).json()
        return dump

    def endpoints(self, status: FleetStatus, color: str | None = None) -> list[Endpoint]:
        """Return where requests go now, by the route in force and the hosts that Envoy has.

        Of a `color` those are its hosts, whatever share of the requests it has.
        """
        found_colors = read_weights(self.routes(status)) if color is None else [color]
        hosts = read_hosts(self.get(status.admin_port, "/clusters?format=json").json())
        replicas = {each.address: each for each in status.replicas if each.port is not None}
        found = []
        for each in found_colors:
            for address, ready in hosts.get(each, {}).items():
                replica = replicas.get(address)
                name, own = (replica.name, replica.color) if replica else (address, None)
                found.append(Endpoint(name, own, ready))
        return found

    def close(self) -> None:
        """Release connections."""
        if self._http is not None:
            self._http.close()
            self._http = None


def read_version(dump: Mapping[str, Any]) -> str | None:
    """Return the version in a dump of dynamic_route_configs; None where Envoy has no routes."""
    return next((entry.get("version_info") for entry in dump.get("configs", ())), None)


def read_weights(dump: Mapping[str, Any]) -> dict[str, int]:
    """Return the weights in a dump of dynamic_route_configs; none where no colour is selected.

    What a header leads to is not among them.
    """
    weights: dict[str, int] = {}
    for entry in dump.get("configs", ()):
        for host in entry["route_config"].get("virtual_hosts", ()):
            for route in host.get("routes", ()):
                if route["match"].get("headers"):
                    continue
                clusters = route.get("route", {}).get("weighted_clusters", {}).get("clusters", ())
                weights |= {each["name"]: each.get("weight", 0) for each in clusters}
    return {color: weight for color, weight in weights.items() if weight}


def read_hosts(clusters: Mapping[str, Any]) -> dict[str, dict[str, bool]]:
    """Return address to health, by cluster, of Envoy's /clusters."""
    return {
        cluster["name"]: {_address(host): _healthy(host) for host in cluster["host_statuses"]}
        for cluster in clusters.get("cluster_statuses", ())
        if "host_statuses" in cluster
    }


def _address(host: Mapping[str, Any]) -> str:
    address = host["address"]["socket_address"]
    return f"{address['address']}:{address['port_value']}"


def _healthy(host: Mapping[str, Any]) -> bool:
    status = host.get("health_status", {})
    bad = {key for key, value in status.items() if key.startswith("failed_") and value}
    return not bad and status.get("eds_health_status", "HEALTHY") == "HEALTHY"
