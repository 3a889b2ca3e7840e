"""States for the tests of what is computed from them."""

from __future__ import annotations

from typing import Any

from pytest_llmdeploy.platforms.local_fleet.desired import Desired, Probe, Template, Wanted
from pytest_llmdeploy.platforms.local_fleet.status import FleetStatus, ReplicaStatus

PROBE = Probe(path="/ready", delay=1.0, period=2.0, timeout=0.5, failures=3)


def template(image: str = "llm:1", **fields: Any) -> Template:
    values: dict[str, Any] = {
        "command": ("serve", "{port}"),
        "variables": {"A": "1"},
        "readiness": PROBE,
        "liveness": PROBE,
        "pre_stop": 5.0,
        "grace": 10.0,
    }
    return Template(image=image, **{**values, **fields})


def desired(**fields: Any) -> Desired:
    values: dict[str, Any] = {
        "fleet": "f1",
        "version": 7,
        "selector": "blue",
        "colors": {"blue": Wanted(1, 2)},
        "templates": {1: template()},
        "owners": (10, 11),
    }
    return Desired(**{**values, **fields})


def replica(number: int = 1, **fields: Any) -> ReplicaStatus:
    values: dict[str, Any] = {
        "name": f"llm-blue-1-{number}",
        "color": "blue",
        "generation": 1,
        "image": "llm:1",
        "port": 12000 + number,
        "pid": 100 + number,
        "ready": True,
        "terminating": False,
        "restarts": 0,
        "problem": None,
        "hopeless": False,
    }
    return ReplicaStatus(**{**values, **fields})


def status(*replicas: ReplicaStatus, seen: int = 7) -> FleetStatus:
    return FleetStatus(
        fleet="f1",
        pid=1,
        seen=seen,
        port=10001,
        admin_port=10002,
        envoy_pid=2,
        envoy_restarts=0,
        replicas=replicas,
    )
