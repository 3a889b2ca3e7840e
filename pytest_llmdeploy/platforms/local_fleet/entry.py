"""The service as users reach it: what answers at Envoy's listener."""

from __future__ import annotations

from pytest_llmdeploy.config.models import EnvironmentConfig, ServiceConfig
from pytest_llmdeploy.errors import PlatformError
from pytest_llmdeploy.platforms.local_fleet.layout import Layout
from pytest_llmdeploy.platforms.local_fleet.status import FleetStatus
from pytest_llmdeploy.ports import ENGINE_HEADER, REFERENCE_VERSION_HEADER, SCRIPTED, Service

TIMEOUT = 5.0


def served(
    status: FleetStatus, environment: EnvironmentConfig, service: ServiceConfig, layout: Layout
) -> Service:
    """Return the service; raise PlatformError where nobody answers."""
    import httpx

    url = f"http://127.0.0.1:{status.port}"
    try:
        answer = httpx.get(url + environment.ready_path, timeout=TIMEOUT, trust_env=False)
    except httpx.HTTPError as error:
        raise PlatformError(f"Envoy does not answer at {url}: {error}") from error
    ours = REFERENCE_VERSION_HEADER if environment.reference is not None else ""
    return Service(
        url=url,
        api_url=url + service.base_path,
        version=answer.headers.get(service.version_header or ours),
        log_path=str(layout.envoy_log),
        scripted=answer.headers.get(ENGINE_HEADER) == SCRIPTED,
    )
