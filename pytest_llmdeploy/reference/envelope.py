"""The outermost layer: every answer carries the version, every error has the OpenAI shape."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection
from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, Response

from pytest_llmdeploy.reference.answers import ConnectionCutError, JsonAnswer
from pytest_llmdeploy.reference.faults import HEADER, FaultBook, FaultError, RequestFaults
from pytest_llmdeploy.reference.metrics import Metrics
from pytest_llmdeploy.reference.wire import ApiError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_FAULTS = "llmdeploy.faults"
_LEFT = 499
_VERSION = b"x-llm-version"
_log = logging.getLogger("reference")


def faults_of(scope: Scope) -> RequestFaults:
    """Return what is planted for the request of `scope`."""
    faults: RequestFaults = scope[_FAULTS]
    return faults


class Envelope:
    """ASGI middleware around the whole service."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        metrics: Metrics,
        faults: FaultBook,
        version: str,
        engine: str,
        paths: Collection[str],
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._book = faults
        self._headers = [
            (_VERSION, version.encode()),
            (b"x-llm-engine", engine.encode()),
        ]
        self._misnamed = [(_VERSION, version.encode() + b"-wrong"), *self._headers[1:]]
        self._paths = paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request, whatever happens inside."""
        assert scope["type"] == "http", "uvicorn runs without lifespan and websockets"
        route = scope["path"] if scope["path"] in self._paths else "other"
        begun = time.perf_counter()
        faults = RequestFaults(self._book)
        status = 0
        misnamed = False

        async def send_named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                nameless = faults.value("no-version-header") is not None
                names = self._misnamed if misnamed else self._headers
                message["headers"] = [*message["headers"], *names[nameless:]]
            await send(message)

        try:
            try:
                faults = RequestFaults(self._book, Headers(scope=scope).get(HEADER, ""))
            except FaultError as exc:
                raise ApiError(400, f"header {HEADER}: {exc}", code="invalid_fault") from exc
            scope[_FAULTS] = faults
            misnamed = route.startswith("/v1/") and bool(faults.drawn(("wrong-version",)))
            # With an app in the scope, the router raises its 404 and 405 instead of answering.
            scope["app"] = self
            await self._app(scope, receive, send_named)
        except ConnectionCutError:
            pass  # returning with the answer unfinished makes uvicorn close the connection
        except Exception as exc:  # noqa: BLE001 - the last resort that keeps tracebacks inside
            if not status:
                await _error(exc, scope, faults)(scope, receive, send_named)
            elif not isinstance(exc, ApiError):
                _log.exception("%s broke off", route)
        finally:
            self._metrics.requests.labels(route, status or _LEFT).inc()
            self._metrics.latency.labels(route).observe(time.perf_counter() - begun)


def _error(exc: Exception, scope: Scope, faults: RequestFaults) -> Response:
    if isinstance(exc, HTTPException):
        message = f"{scope['method']} {scope['path']}: {exc.detail}"
        exc = ApiError(exc.status_code, message, headers=exc.headers)
    if not isinstance(exc, ApiError):
        _log.error("unexpected error", exc_info=exc)
        exc = ApiError(500, "the service made an internal error")
    mine = scope["path"].startswith("/v1/") and exc.status < 500 and exc.status != 429
    if mine and faults.value("bad-error-shape") is not None:
        return PlainTextResponse("Internal Server Error", 500)
    return JsonAnswer(exc.body, exc.status, exc.headers)
