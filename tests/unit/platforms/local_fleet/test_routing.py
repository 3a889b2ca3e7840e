"""Reading what Envoy says of itself."""

from __future__ import annotations

from typing import Any

from pytest_llmdeploy.platforms.local_fleet.desired import HeaderRoute
from pytest_llmdeploy.platforms.local_fleet.envoy_files import Routes, routes
from pytest_llmdeploy.platforms.local_fleet.routing import (
    read_hosts,
    read_version,
    read_weights,
)


def dump(weights: dict[str, int], header: HeaderRoute | None = None) -> dict[str, Any]:
    file = routes(Routes(weights, header), 1)
    version = file["version_info"]
    return {"configs": [{"version_info": version, "route_config": file["resources"][0]}]}


def test_weights() -> None:
    assert read_weights(dump({"blue": 100, "green": 0})) == {"blue": 100}
    assert read_weights(dump({"blue": 90, "green": 10})) == {"blue": 90, "green": 10}
    assert read_weights(dump({"blue": 0, "green": 0})) == {}
    header = HeaderRoute("canary", "true", "green")
    assert read_weights(dump({"blue": 100, "green": 0}, header)) == {"blue": 100}
    assert read_weights({}) == {}


def test_version() -> None:
    assert read_version(dump({"blue": 100})) == "1"
    assert read_version({}) is None


def host(port: int, **health: Any) -> dict[str, Any]:
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    return {"address": address, "health_status": {"eds_health_status": "HEALTHY", **health}}


def test_hosts() -> None:
    hosts = [
        host(1),
        host(2, failed_outlier_check=True),
        host(3, eds_health_status="DRAINING"),
        {**host(4), "health_status": {}},
    ]
    clusters = {"cluster_statuses": [{"name": "blue", "host_statuses": hosts}, {"name": "green"}]}
    assert read_hosts(clusters) == {
        "blue": {
            "127.0.0.1:1": True,
            "127.0.0.1:2": False,
            "127.0.0.1:3": False,
            "127.0.0.1:4": True,
        }
    }
    assert read_hosts({}) == {}
