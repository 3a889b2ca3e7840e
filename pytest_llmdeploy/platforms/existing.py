"""A service that already answers at an address: nothing is started and nothing is changed."""

from __future__ import annotations

from pathlib import Path

from pytest_llmdeploy.addresses import tls_context, uses_proxy
from pytest_llmdeploy.config.models import ServiceConfig
from pytest_llmdeploy.errors import NotMeasuredError
from pytest_llmdeploy.ports import ENGINE_HEADER, SCRIPTED, Service
from pytest_llmdeploy.threads import in_daemon_thread

LOOK_TIMEOUT = 2.0
"""Seconds for the one request that asks which version answers."""


class ExistingPlatform:
    """The service behind ``environments.NAME.url``."""

    def __init__(self, url: str, service: ServiceConfig, root: Path) -> None:
        self._url = url.rstrip("/")
        self._config = service
        self._root = root
        self._service: Service | None = None

    def service(self) -> Service:
        """Return the service; whether it answers well, or at all, is for the checks to find out."""
        if self._service is None:
            look = in_daemon_thread(self._look)  # a server that trickles has no other deadline
            try:
                headers = look.result(LOOK_TIMEOUT)
            except TimeoutError:
                headers = {}
            self._service = Service(
                url=self._url,
                api_url=self._url + self._config.base_path,
                version=headers.get((self._config.version_header or "").lower()),
                scripted=headers.get(ENGINE_HEADER) == SCRIPTED,
            )
        return self._service

    def _look(self) -> dict[str, str]:
        """Return the headers of one answer, in lower case; none where there is no answer."""
        import httpx

        try:
            with httpx.stream(
                "GET",
                f"{self._url}{self._config.base_path}/models",
                headers=self._config.request_headers(),
                timeout=LOOK_TIMEOUT,
                verify=tls_context(self._config.verify_tls, self._config.ca_path(self._root)),
                trust_env=uses_proxy(self._url),
            ) as answer:
                return dict(answer.headers)
        except (
            httpx.HTTPError,
            httpx.InvalidURL,
            NotMeasuredError,
            ImportError,
            ValueError,
            OSError,
        ):
            return {}  # the checks will say what is wrong, better than a look can
