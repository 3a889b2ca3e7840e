"""One HTTP exchange with an API server; the only module that imports ``kubernetes``.

Of that package only what majors 35 to 37 share is used: the kubeconfig's loader, the connection
pool that its configuration makes, and the WebSocket that it opens. The generated classes changed
with every major, and refuse fields that are newer than they are.
"""

from __future__ import annotations

import os
import ssl
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from pytest_llmdeploy.addresses import certificate_refused, uses_proxy
from pytest_llmdeploy.errors import MissingExtraError, PlatformError
from pytest_llmdeploy.threads import in_daemon_thread
from pytest_llmdeploy.untrusted import one_line

CONNECT_TIMEOUT = 5.0
"""Seconds until a connection to the API server must stand."""
READ_TIMEOUT = 10.0
"""Seconds that the API server may be silent."""
LOGIN_TIMEOUT = 60.0
"""Seconds for what the kubeconfig says about logging in."""
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


class LateTransport:
    """A transport that is made by the first request: what it needs may have to be made as well."""

    def __init__(self, make: Callable[[], Transport]) -> None:
        self._make = make
        self._made: Transport | None = None
        self._making = threading.Lock()

    def _transport(self) -> Transport:
        with self._making:
            if self._made is None:
                self._made = self._make()
            return self._made

    def send(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> Answer:
        """Return the answer to one request; raise NoAnswerError where there is none."""
        return self._transport().send(method, path, body, headers)

    def open_channel(self, path: str) -> Any:
        """Return a WebSocket; raise NoAnswerError where the server does not open one."""
        return self._transport().open_channel(path)

    def close(self) -> None:
        """Release connections, where there are any."""
        if self._made is not None:
            self._made.close()


def require_client() -> None:
    """Raise MissingExtraError where the client's package is not installed."""
    if find_spec("kubernetes") is None:
        raise MissingExtraError("a Kubernetes cluster", "kubernetes", "kubernetes")


class KubernetesTransport:
    """Requests with the credentials of one kubeconfig context, named explicitly."""

    def __init__(self, kubeconfig: Sequence[Path], context: str) -> None:
        require_client()
        files = os.pathsep.join(map(str, kubeconfig))
        title = f"context '{context}' of {files or 'no kubeconfig'}"
        # A kubeconfig may name a program that logs in, and that has no deadline of its own.
        loading = in_daemon_thread(lambda: self._load(files, context, title))
        try:
            self._configuration, self._pool = loading.result(LOGIN_TIMEOUT)
        except TimeoutError as error:
            raise PlatformError(f"{title}: no login within {LOGIN_TIMEOUT:g} s") from error

    @staticmethod
    def _load(files: str, context: str, title: str) -> tuple[Any, Any]:
        from kubernetes.client.rest import RESTClientObject
        from kubernetes.config import ConfigException, new_client_from_config

        try:
            client = new_client_from_config(files, context=context, persist_config=False)
            configuration = client.configuration
            _settle_proxy(configuration)
            configuration.connection_pool_maxsize = CONNECTIONS
            return configuration, RESTClientObject(configuration).pool_manager
        except (ConfigException, OSError, ValueError, TypeError, ssl.SSLError) as error:
            raise PlatformError(f"{title} cannot be used: {one_line(str(error))}") from error

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
            # A server that is just being restarted breaks off handshakes, too.
            refused = certificate_refused(error)
            raise NoAnswerError(one_line(str(error)), sent=not refused, hopeless=refused) from error
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


def _settle_proxy(configuration: Any) -> None:
    """Never ask this machine through a proxy; heed NO_PROXY, which major 35 forgets."""
    if not uses_proxy(configuration.host):
        configuration.proxy = None
    named = os.environ.get("no_proxy") or os.environ.get("NO_PROXY")
    configuration.no_proxy = configuration.no_proxy or named
