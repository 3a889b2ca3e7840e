"""One HTTP exchange with an API server; the only module that imports ``kubernetes``.

Of that package only what majors 35 to 37 share is used: the kubeconfig's loader, the connection
pool that its configuration makes, and the WebSocket that it opens. The generated classes changed
with every major, and refuse fields that are newer than they are.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pytest_llmdeploy.addresses import uses_proxy
from pytest_llmdeploy.errors import MissingExtraError, PlatformError
from pytest_llmdeploy.threads import in_daemon_thread
from pytest_llmdeploy.untrusted import one_line

CONNECT_TIMEOUT = 5.0
"""Seconds until a connection to the API server must stand."""
READ_TIMEOUT = 10.0
"""Seconds that the API server may be silent."""
CONNECTIONS = 8
"""Connections kept open; threads that renew a lease and forward ports ask beside the release."""
PORT_PROTOCOL = "v4.channel.k8s.io"


@dataclass(frozen=True, slots=True)
class Answer:
    """What the API server answered."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    """Names in small letters."""


class NoAnswerError(Exception):
    """The exchange broke."""

    def __init__(self, reason: str, *, sent: bool, hopeless: bool = False) -> None:
        super().__init__(reason)
        self.sent = sent
        """The request may have reached the server."""
        self.hopeless = hopeless
        """It will not be better the next time: a certificate, say."""


class Transport(Protocol):
    """How requests get to an API server."""

    def send(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> Answer:
        """Return the answer to one request; raise NoAnswerError where there is none."""
        ...

    def open_channel(self, path: str) -> Any:
        """Return a WebSocket; raise NoAnswerError where the server does not open one."""
        ...

    def close(self) -> None:
        """Release connections."""
        ...


class KubernetesTransport:
    """Requests with the credentials of one kubeconfig context, named explicitly."""

    def __init__(self, kubeconfig: Sequence[Path], context: str) -> None:
        try:
            from kubernetes.client.rest import RESTClientObject
            from kubernetes.config import ConfigException, new_client_from_config
        except ImportError as error:
            raise MissingExtraError("a Kubernetes cluster", "kubernetes", "kubernetes") from error
        files = os.pathsep.join(map(str, kubeconfig))
        try:
            client = new_client_from_config(files, context=context, persist_config=False)
            self._configuration: Any = client.configuration
            self._settle_proxy()
            self._configuration.connection_pool_maxsize = CONNECTIONS
            self._pool: Any = RESTClientObject(self._configuration).pool_manager
        except (ConfigException, OSError, ValueError, TypeError, ssl.SSLError) as error:
            raise PlatformError(
                f"context '{context}' of {files or 'no kubeconfig'} cannot be used: "
                f"{one_line(str(error))}"
            ) from error

    def _settle_proxy(self) -> None:
        """Never ask this machine through a proxy; heed NO_PROXY, which major 35 forgets."""
        configuration = self._configuration
        if not uses_proxy(configuration.host):
            configuration.proxy = None
        named = os.environ.get("no_proxy") or os.environ.get("NO_PROXY")
        configuration.no_proxy = configuration.no_proxy or named

    def _credentials(self) -> dict[str, str]:
        # Refreshes a token that an exec plugin of the kubeconfig gave for a limited time.
        settings = self._configuration.auth_settings().values()
        return {setting["key"]: setting["value"] for setting in settings if setting["value"]}

    def send(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> Answer:
        """Return the answer to one request; raise NoAnswerError where there is none."""
        import urllib3
        from urllib3.exceptions import (
            ConnectTimeoutError,
            HTTPError,
            NewConnectionError,
            ProxyError,
            SSLError,
        )

        try:
            answer = self._pool.request(
                method,
                self._configuration.host + path,
                body=body,
                headers={**headers, **self._credentials()},
                timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT, read=READ_TIMEOUT),
                retries=False,
            )
        except SSLError as error:
            raise NoAnswerError(one_line(str(error)), sent=False, hopeless=True) from error
        except (NewConnectionError, ConnectTimeoutError, ProxyError) as error:
            raise NoAnswerError(one_line(str(error)), sent=False) from error
        except (HTTPError, OSError) as error:
            raise NoAnswerError(one_line(str(error)), sent=True) from error
        small = {name.lower(): value for name, value in answer.headers.items()}
        return Answer(answer.status, answer.data, small)

    def open_channel(self, path: str) -> Any:
        """Return a WebSocket; raise NoAnswerError where the server does not open one."""
        from kubernetes.stream.ws_client import create_websocket
        from websocket import WebSocketException

        host = self._configuration.host
        url = f"ws{host.removeprefix('http')}{path}"
        headers = {**self._credentials(), "sec-websocket-protocol": PORT_PROTOCOL}
        # Connecting has no deadline of its own there.
        opening = in_daemon_thread(lambda: create_websocket(self._configuration, url, headers))
        try:
            return opening.result(CONNECT_TIMEOUT + READ_TIMEOUT)
        except TimeoutError as error:
            raise NoAnswerError("no answer in time", sent=True) from error
        except (WebSocketException, OSError) as error:
            raise NoAnswerError(one_line(str(error)), sent=True) from error

    def close(self) -> None:
        """Release connections."""
        self._pool.clear()
