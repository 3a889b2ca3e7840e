"""Which pods a Service's name leads to, from its EndpointSlices. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pytest_llmdeploy.platforms.kubernetes.names import COLOR
from pytest_llmdeploy.platforms.kubernetes.pods import labels, name
from pytest_llmdeploy.ports import Endpoint

SERVICE_LABEL = "kubernetes.io/service-name"


def endpoints(
    slices: Sequence[Mapping[str, Any]], pods: Sequence[Mapping[str, Any]]
) -> list[Endpoint]:
    """Return each pod once, though IPv4 and IPv6 addresses stand in slices of their own.

    An address that is no pod goes by itself as the pod's name.
    """
    colors = {name(pod): labels(pod).get(COLOR) for pod in pods}
    ready: dict[str, bool] = {}
    for part in slices:
        for entry in part.get("endpoints") or []:
            target = entry.get("targetRef") or {}
            is_pod = target.get("kind") == "Pod"
            key = str(target["name"] if is_pod else (entry.get("addresses") or ["?"])[0])
            # Not stated means ready, says the API.
            gets_traffic = (entry.get("conditions") or {}).get("ready") is not False
            ready[key] = ready.get(key, False) or gets_traffic
    return [Endpoint(key, colors.get(key), state) for key, state in sorted(ready.items())]
