"""Envoy's configuration: the bootstrap, and the files that it watches. Pure.

Both clusters are always defined and have an endpoints file each, which may be empty. So a route
never leads to a cluster that Envoy does not know or that is still warming: that order of events is
how weights and selectors lose requests elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_llmdeploy.platforms.local_fleet.desired import HeaderRoute
from pytest_llmdeploy.ports import COLOR_HEADER, COLORS

LISTENER = "entry"
ROUTES_FILE = "routes.json"
UPSTREAM_IDLE_TIMEOUT = "4s"
"""Shorter than servers keep idle connections (uvicorn 5 s): no request meets one just closed."""
STREAM_IDLE_TIMEOUT = "3600s"
NO_COLOR_STATUS = 503
_NO_LIMIT = 1_000_000_000
_CONFIG = "type.googleapis.com/envoy.config."
_FILTERS = "type.googleapis.com/envoy.extensions.filters."


@dataclass(frozen=True, slots=True)
class Routes:
    """Where requests shall go."""

    weights: Mapping[str, int]
    """Share of each colour; no weight at all is answered with 503."""
    header: HeaderRoute | None = None
    """Comes before the weights."""
    named: bool = False
    """Answers name the colour, those that Envoy makes up for it too."""


def endpoints_file(color: str) -> str:
    """Return the name of the file with a colour's endpoints."""
    return f"endpoints-{color}.json"


def bootstrap(folder: Path, port: int, admin_port: int) -> dict[str, Any]:
    """Return what Envoy reads at its start; routes and endpoints are files below `folder`."""
    return {
        "node": {"id": "llmdeploy", "cluster": "llmdeploy"},
        "admin": {"address": _address(admin_port)},
        "static_resources": {
            "listeners": [_listener(folder, port)],
            "clusters": [_cluster(folder, color) for color in COLORS],
        },
    }


def routes(wanted: Routes, version: int) -> dict[str, Any]:
    """Return the routes file."""
    rules = [{"match": {"prefix": "/"}, **_by_weight(wanted)}]
    if (header := wanted.header) is not None:
        match = {"name": header.header, "string_match": {"exact": header.value}}
        alone = Routes({header.color: 100}, named=wanted.named)
        rules.insert(0, {"match": {"prefix": "/", "headers": [match]}, **_by_weight(alone)})
    # Of routes that it has already Envoy would not take the version: so no two are the same.
    host = {"name": f"all-{version}", "domains": ["*"], "routes": rules}
    return _discovery(
        {
            "@type": f"{_CONFIG}route.v3.RouteConfiguration",
            "name": LISTENER,
            "virtual_hosts": [host],
        },
        version,
    )


def _by_weight(wanted: Routes) -> dict[str, Any]:
    if not any(wanted.weights.values()):
        body = {"inline_string": "no colour is selected\n"}
        return {"direct_response": {"status": NO_COLOR_STATUS, "body": body}}
    clusters = [
        {
            "name": color,
            "weight": wanted.weights.get(color, 0),
            **({"response_headers_to_add": [_naming(color)]} if wanted.named else {}),
        }
        for color in COLORS
    ]
    return {"route": {"weighted_clusters": {"clusters": clusters}, "timeout": "0s"}}


def _naming(color: str) -> dict[str, Any]:
    """Return the header by which also a failure to reach a colour is known to be that colour's."""
    return {
        "header": {"key": COLOR_HEADER, "value": color},
        "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
    }


def endpoints(color: str, ports: Sequence[int], version: int) -> dict[str, Any]:
    """Return the endpoints file of a colour."""
    found = [{"endpoint": {"address": _address(port)}} for port in ports]
    return _discovery(
        {
            "@type": f"{_CONFIG}endpoint.v3.ClusterLoadAssignment",
            "cluster_name": color,
            "endpoints": [{"lb_endpoints": found}] if found else [],
        },
        version,
    )


def _discovery(resource: Mapping[str, Any], version: int) -> dict[str, Any]:
    return {"version_info": str(version), "resources": [resource]}


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _watched(path: Path) -> dict[str, Any]:
    return {"resource_api_version": "V3", "path_config_source": {"path": str(path)}}


def _listener(folder: Path, port: int) -> dict[str, Any]:
    manager = {
        "@type": f"{_FILTERS}network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": LISTENER,
        "rds": {
            "route_config_name": LISTENER,
            "config_source": _watched(folder / ROUTES_FILE),
        },
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {
                    "@type": f"{_FILTERS}http.router.v3.Router",
                    "suppress_envoy_headers": True,
                },
            }
        ],
        # The service's own headers reach its users as they are.
        "server_header_transformation": "PASS_THROUGH",
        "generate_request_id": False,
        "stream_idle_timeout": STREAM_IDLE_TIMEOUT,
    }
    chain = {
        "filters": [
            {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}
        ]
    }
    return {"name": LISTENER, "address": _address(port), "filter_chains": [chain]}


def _cluster(folder: Path, color: str) -> dict[str, Any]:
    options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    return {
        "name": color,
        "type": "EDS",
        "eds_cluster_config": {"eds_config": _watched(folder / endpoints_file(color))},
        "connect_timeout": "2s",
        "lb_policy": "ROUND_ROBIN",
        # Below a share of healthy endpoints Envoy would send requests to the others, too.
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        # The defaults refuse what is above 1024 at once; it is the replicas that limit here.
        "circuit_breakers": {
            "thresholds": [
                {
                    "max_connections": _NO_LIMIT,
                    "max_pending_requests": _NO_LIMIT,
                    "max_requests": _NO_LIMIT,
                }
            ]
        },
        "typed_extension_protocol_options": {
            options: {
                "@type": f"type.googleapis.com/{options}",
                "common_http_protocol_options": {"idle_timeout": UPSTREAM_IDLE_TIMEOUT},
                "explicit_http_config": {"http_protocol_options": {}},
            }
        },
    }
