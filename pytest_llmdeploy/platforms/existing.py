"""A service that already answers at an address: nothing is started and nothing is changed."""

from __future__ import annotations

from pytest_llmdeploy.ports import Service


class ExistingPlatform:
    """The service behind ``environments.NAME.url``."""

    def __init__(self, url: str, base_path: str) -> None:
        root = url.rstrip("/")
        self._service = Service(url=root, api_url=root + base_path)

    def service(self) -> Service:
        """Return the service; whether it answers is for the checks to find out."""
        return self._service
