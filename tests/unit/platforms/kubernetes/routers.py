"""Routers of a small API server, for the tests of this folder."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pytest_llmdeploy.config.canary import CanaryConfig
from pytest_llmdeploy.config.release import BlueGreenConfig
from pytest_llmdeploy.platforms.kubernetes.names import Names
from pytest_llmdeploy.platforms.kubernetes.routing.choosing import choose
from pytest_llmdeploy.platforms.kubernetes.routing.replicas import Scaling
from pytest_llmdeploy.platforms.kubernetes.routing.site import Site
from pytest_llmdeploy.platforms.kubernetes.traffic import Traffic
from pytest_llmdeploy.ports import Rollout, Router
from tests.unit.platforms.kubernetes.server import Server


@dataclass
class Replicas:
    """Replicas that are there as soon as they are wanted."""

    counts: dict[str, int] = field(default_factory=lambda: {"blue": 3, "green": 3})

    def scale(self, color: str, replicas: int) -> None:
        self.counts[color] = replicas

    def rollout(self, color: str) -> Rollout:
        count = self.counts[color]
        return Rollout(count, count, count, complete=True, waiting_for="nothing")


def router_of(
    server: Server, names: Names, replicas: Replicas | None = None, **settings: Any
) -> Router:
    """Return the router that `settings` ask for; nothing holds a lock."""
    phases = [{"weight": one, "duration": 1} for one in (5, 50, 100)]
    config = CanaryConfig.model_validate({"router": settings, "phases": phases})
    api = server.api()
    site = Site(
        api=api,
        names=names,
        config=config,
        kubectl=["kubectl", "-n", "shop"],
        check_lock=lambda: None,
        clock=server.clock,
    )
    scaling = Scaling(
        fleet=replicas or Replicas(),
        traffic=Traffic(api, names, BlueGreenConfig(), None, server.clock),
        ready=lambda _color, _selector: None,
        full=3,
        timeout=1.0,
        autoscaled=lambda: ["green"] if settings.get("route") == "scaled" else [],
    )
    return choose(site, scaling)
