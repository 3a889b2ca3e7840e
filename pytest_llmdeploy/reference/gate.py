"""The layer in front of /v1: bodies, clients that leave, requests in flight, arriving faults."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from starlette.responses import HTMLResponse

from pytest_llmdeploy.reference.answers import ConnectionCutError
from pytest_llmdeploy.reference.envelope import faults_of
from pytest_llmdeploy.reference.faults import ARRIVAL, PLANTED_EXIT
from pytest_llmdeploy.reference.metrics import Metrics
from pytest_llmdeploy.reference.spoiling import Leak
from pytest_llmdeploy.reference.wire import ApiError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

BODY_LIMIT_BYTES = 1 << 20
_CHAT = "/v1/chat/completions"
_PAGE = "<!doctype html><title>Welcome</title><h1>It works</h1><p>Planted fault: html.</p>"


class Gate:
    """ASGI middleware for the routes below /v1/; others pass untouched."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics
        self._work: set[asyncio.Task[None]] = set()
        self._leak = Leak()

    @property
    def in_flight(self) -> int:
        """Return how many requests are being answered."""
        return len(self._work)

    def cut_all(self) -> int:
        """End the connections of all requests in flight; return how many there were."""
        for task in self._work:
            task.cancel()
        return len(self._work)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, and stop answering as soon as the client is gone."""
        if not scope["path"].startswith("/v1/"):
            await self._app(scope, receive, send)
            return
        book = faults_of(scope).book
        if book.value("crash-after") is not None and not book.within("crash-after"):
            os._exit(PLANTED_EXIT)
        self._leak.grow(book.value("leak") or 0.0)
        body = await _read(receive)

        async def replay() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        work = asyncio.create_task(self._answer(scope, replay, send))
        gone = asyncio.create_task(_wait_until_gone(receive))
        self._work.add(work)
        self._metrics.in_flight.inc()
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            left = not work.done()
            if left:
                work.cancel()
                await asyncio.wait({work})
        finally:
            work.cancel()
            gone.cancel()
            self._work.discard(work)
            self._metrics.in_flight.dec()
        if left:
            raise ConnectionCutError
        if work.cancelled():
            raise ApiError(503, "the service is shutting down", code="shutting_down")
        work.result()

    async def _answer(
        self, scope: Scope, receive: Callable[[], Awaitable[Message]], send: Send
    ) -> None:
        faults = faults_of(scope)
        await asyncio.sleep(faults.value("latency") or 0)
        if scope["path"] == _CHAT and faults.book.within("fail-first"):
            raise ApiError(429, "planted fault: fail-first", headers={"retry-after": "0"})
        kind = faults.first_drawn(ARRIVAL)
        if kind == "hang":
            await asyncio.Event().wait()
        elif kind == "html":
            await HTMLResponse(_PAGE)(scope, receive, send)
        elif kind is not None:
            status = int(kind.removeprefix("error-"))
            wait = faults.value("retry-after")
            headers = {"retry-after": f"{1 if wait is None else wait:g}"} if status == 429 else None
            raise ApiError(status, f"planted fault: {kind}", headers=headers)
        else:
            await self._app(scope, receive, send)


async def _read(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionCutError
        body += message.get("body", b"")
        if len(body) > BODY_LIMIT_BYTES:
            raise ApiError(413, f"the request's body is larger than {BODY_LIMIT_BYTES} bytes")
        if not message.get("more_body"):
            return bytes(body)


async def _wait_until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
