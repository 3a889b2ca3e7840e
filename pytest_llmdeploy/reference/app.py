"""The routes of the service, put together with what stands in front of them."""

from __future__ import annotations

import asyncio
import base64
import struct
import time
from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING

from starlette.responses import Response
from starlette.routing import Route, Router

from pytest_llmdeploy.reference.answers import (
    PLAIN_FAULTS,
    STREAM_FAULTS,
    JsonAnswer,
    stream,
    whole,
)
from pytest_llmdeploy.reference.engines import Ending, Engine
from pytest_llmdeploy.reference.envelope import Envelope, faults_of
from pytest_llmdeploy.reference.faults import FaultBook
from pytest_llmdeploy.reference.gate import Gate
from pytest_llmdeploy.reference.metrics import CONTENT_TYPE_LATEST, Metrics
from pytest_llmdeploy.reference.settings import Settings
from pytest_llmdeploy.reference.spoiling import slowed, slowness, spoilt
from pytest_llmdeploy.reference.wire import (
    ChatOrder,
    check_model,
    read_chat,
    read_object,
    read_texts,
)

if TYPE_CHECKING:
    from starlette.requests import Request


class Service:
    """The whole ASGI application, and the little that changes while it runs."""

    def __init__(self, settings: Settings, engine: Engine, faults: FaultBook) -> None:
        self._settings = settings
        self._engine = engine
        self._model = settings.model_name or engine.name
        self._metrics = Metrics(settings.version, settings.color)
        self._started = time.monotonic()
        self._created = int(time.time())
        self.draining = False
        """Set on the first signal: /ready fails from then on."""
        routes = [
            Route("/v1/chat/completions", self.chat, methods=["POST"]),
            Route("/v1/embeddings", self.embeddings, methods=["POST"]),
            Route("/v1/models", self.models),
            Route("/health", self.health),
            Route("/ready", self.ready),
            Route("/metrics", self.metrics),
        ]
        self.gate = Gate(Router(routes, redirect_slashes=False), self._metrics)
        self.app = Envelope(
            self.gate,
            metrics=self._metrics,
            faults=faults,
            version=settings.version,
            engine=engine.name,
            paths={route.path for route in routes},
        )

    async def chat(self, request: Request) -> Response:
        """Answer POST /v1/chat/completions."""
        data = read_object(await request.body())
        order = read_chat(data, self._model, self._settings.max_tokens)
        faults = faults_of(request.scope)
        planted = faults.drawn(STREAM_FAULTS if order.stream else PLAIN_FAULTS)
        ttft_factor, slower = faults.value("ttft-factor") or 1.0, slowness(faults)
        items = self._generate(order, planted, ttft_factor, slower)
        if order.stream:
            return await stream(items, order, self._model, planted)
        return await whole(items, self._model, planted)

    async def _generate(
        self, order: ChatOrder, planted: Collection[str], ttft_factor: float, slower: float
    ) -> AsyncGenerator[list[str] | Ending, None]:
        """Yield what the engine yields, measured, and changed by the faults that concern it."""
        empty = "empty-answer" in planted
        if empty:
            order = replace(order, max_tokens=1)
        clock = time.perf_counter
        begun, waiting = clock(), True
        latest = begun
        pieces = self._engine.generate(order)
        async with aclosing(slowed(pieces, slower) if slower > 1 else pieces) as items:
            async for item in items:
                if isinstance(item, Ending):
                    if empty:
                        item = Ending("stop", item.prompt_tokens, 0)  # noqa: PLW2901
                    self._metrics.prompt_tokens.observe(item.prompt_tokens)
                    self._metrics.completion_tokens.observe(item.completion_tokens)
                elif empty:
                    continue
                elif waiting:
                    waiting = False
                    await asyncio.sleep(max(0.0, ttft_factor - 1) * (clock() - begun))
                    latest = clock()
                    self._metrics.ttft.observe(latest - begun)
                elif item:
                    before, latest = latest, clock()
                    self._metrics.inter_token.observe((latest - before) / len(item))
                if "worse-answers" in planted and not isinstance(item, Ending):
                    item = spoilt(item)  # noqa: PLW2901
                yield item

    async def embeddings(self, request: Request) -> Response:
        """Answer POST /v1/embeddings."""
        data = read_object(await request.body())
        check_model(data, self._model)
        texts, packed = read_texts(data)
        vectors, tokens = await self._engine.embed(texts)
        items = [
            {
                "object": "embedding",
                "index": index,
                "embedding": _pack(vector) if packed else vector,
            }
            for index, vector in enumerate(vectors)
        ]
        return self._json(
            request,
            {
                "object": "list",
                "model": self._model,
                "data": items,
                "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
            },
        )

    async def models(self, request: Request) -> Response:
        """Answer GET /v1/models."""
        model = {
            "id": self._model,
            "object": "model",
            "created": self._created,
            "owned_by": "pytest-llmdeploy",
        }
        return self._json(request, {"object": "list", "data": [model]})

    @staticmethod
    def _json(request: Request, data: object) -> Response:
        return JsonAnswer(data, planted=faults_of(request.scope).drawn(("garbage-json",)))

    async def health(self, request: Request) -> Response:
        """Answer GET /health: the process is alive, and which one it is."""
        degraded = faults_of(request.scope).value("unhealthy") is not None
        return JsonAnswer(
            {
                "status": "degraded" if degraded else "ok",
                "version": self._settings.version,
                "color": self._settings.color,
                "environment": self._settings.environment,
                "model": self._model,
                "engine": self._engine.name,
                "uptime_seconds": round(time.monotonic() - self._started, 3),
                "in_flight": self.gate.in_flight,
            }
        )

    async def ready(self, request: Request) -> Response:
        """Answer GET /ready: 200 while new requests are welcome."""
        if self.draining:
            return JsonAnswer({"status": "draining"}, 503)
        if faults_of(request.scope).value("not-ready") is not None:
            return JsonAnswer({"status": "not-ready"}, 503)
        return JsonAnswer({"status": "ready"})

    async def metrics(self, request: Request) -> Response:
        """Answer GET /metrics in Prometheus' text format."""
        page = self._metrics.render()
        if faults_of(request.scope).value("no-metrics") is not None:
            lines = page.splitlines(keepends=True)
            page = b"".join(line for line in lines if b"llm_" not in line)
        return Response(page, headers={"content-type": CONTENT_TYPE_LATEST})


def _pack(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
