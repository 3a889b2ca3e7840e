"""From the file's settings to what checks and load talk to."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from pytest_llmdeploy.checks.exchange import Target
from pytest_llmdeploy.checks.measure import first_model
from pytest_llmdeploy.ports import Service

if TYPE_CHECKING:
    from pytest_llmdeploy.config.loader import LoadedConfig
    from pytest_llmdeploy.load.spec import Target as LoadTarget


def service_at(loaded: LoadedConfig, url: str) -> Service:
    """Return the file's service as it answers at a root address."""
    return Service(url, url + loaded.service.base_path)


def check_target(loaded: LoadedConfig, service: Service) -> Target:
    """Return what health and smoke checks talk to."""
    return Target(service, loaded.service, loaded.root)


def load_target(loaded: LoadedConfig, service: Service) -> LoadTarget:
    """Return what load talks to; raise NotMeasuredError where the service names no model."""
    from pytest_llmdeploy.load.spec import Target as LoadTarget

    config = loaded.service
    ca_file = config.ca_path(loaded.root)
    return LoadTarget(
        url=f"{service.api_url}/chat/completions",
        headers=config.request_headers(),
        model=config.model or first_model(check_target(loaded, service), config.timeout),
        version_header=config.version_header,
        verify_tls=config.verify_tls,
        ca_file=str(ca_file) if ca_file else None,
    )


def digest(loaded: LoadedConfig) -> str:
    """Return what tells files of one run apart in the names of its folders."""
    return hashlib.sha256(str(loaded.path).encode()).hexdigest()[:6]
