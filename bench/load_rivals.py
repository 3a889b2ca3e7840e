"""One way to read many streams at once: ``python bench/load_rivals.py KIND URL STREAMS SECONDS``.

URL is that of a `pytest_llmdeploy.load.mock`, up to and with ``/v1``. Prints one JSON line.

Every kind keeps STREAMS requests open, one after the other on each, begun evenly over the length of
an answer: a herd in step would measure something else. Ours is open loop at the rate that comes to
as many. What is kept while reading is the time and the piece as the client's user gets it; what
the server wrote when is read from the pieces when all is over, so that no kind pays for it.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from load_figures import ANSWER, TOKENS, Exchange, Meter, summary

GRACE = 5.0
"""Seconds after which what was begun in time is given up."""
MESSAGES: list[Any] = [{"role": "user", "content": "What is the capital of France?"}]
BODY = json.dumps({"model": "mock", "messages": MESSAGES, "stream": True})
HEADERS = {"content-type": "application/json"}
PATH = "/chat/completions"


Ask = Callable[[Exchange], Awaitable[None]]


# asyncio


async def drive(ask: Ask, streams: int, seconds: float) -> dict[str, Any]:
    """Keep the streams going."""
    import asyncio

    log: list[Exchange] = []
    meter = Meter()

    async def one(number: int) -> None:
        await asyncio.sleep(number * ANSWER / streams)
        while time.monotonic() < meter.begun + seconds:
            exchange = Exchange(time.monotonic())
            log.append(exchange)
            await ask(exchange)
            exchange.ended = True

    tasks = [asyncio.create_task(one(number)) for number in range(streams)]
    done, late = await asyncio.wait(tasks, timeout=seconds + GRACE)
    figures = summary(log, seconds, meter)
    for task in late:
        task.cancel()
    for task in done:
        task.result()
    return figures


@asynccontextmanager
async def floor(url: str) -> AsyncIterator[Ask]:
    """Read bytes from sockets and do nothing with them: no client can be cheaper in asyncio."""
    import asyncio
    from urllib.parse import urlsplit

    address = urlsplit(url)
    head = f"POST {address.path}{PATH} HTTP/1.1\r\nhost: mock\r\ncontent-length: {len(BODY)}"
    request = f"{head}\r\n\r\n{BODY}".encode()
    host, port = address.hostname or "", address.port or 80
    free: list[Any] = []

    class Reader(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            self.exchange.add(data)
            if data.endswith(b"\r\n0\r\n\r\n"):
                self.whole.set_result(None)

        async def ask(self, exchange: Exchange) -> None:
            self.exchange = exchange
            self.whole = asyncio.get_running_loop().create_future()
            self.transport.write(request)
            await self.whole

    async def ask(exchange: Exchange) -> None:
        if free:
            reader = free.pop()
        else:
            loop = asyncio.get_running_loop()
            _, reader = await loop.create_connection(Reader, host, port)
        await reader.ask(exchange)
        free.append(reader)

    yield ask


@asynccontextmanager
async def with_aiohttp(url: str) -> AsyncIterator[Ask]:
    """Read with aiohttp, piece by piece."""
    import aiohttp

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def ask(exchange: Exchange) -> None:
            async with session.post(url + PATH, data=BODY, headers=HEADERS) as response:
                async for piece in response.content.iter_any():
                    exchange.add(piece)

        yield ask


@asynccontextmanager
async def with_httpx(url: str) -> AsyncIterator[Ask]:
    """Read with httpx, line by line."""
    import httpx

    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(limits=limits, timeout=60) as client:

        async def ask(exchange: Exchange) -> None:
            async with client.stream("POST", url + PATH, content=BODY, headers=HEADERS) as response:
                async for line in response.aiter_lines():
                    exchange.add(line)

        yield ask


def with_openai(transport: str | None) -> Callable[[str], Any]:
    """Return the way with the openai package, on its own transport or another."""

    @asynccontextmanager
    async def way(url: str) -> AsyncIterator[Ask]:
        import openai

        async with AsyncExitStack() as stack:
            http: Any = None
            if transport == "aiohttp":
                http = await stack.enter_async_context(openai.DefaultAioHttpClient())
            client = openai.AsyncOpenAI(
                base_url=url, api_key="none", max_retries=0, timeout=60, http_client=http
            )

            async def ask(exchange: Exchange) -> None:
                stream = await client.chat.completions.create(
                    model="mock", messages=MESSAGES, stream=True
                )
                async for chunk in stream:
                    exchange.add(chunk)

            yield ask

    return way


def by_asyncio(way: Callable[[str], Any]) -> Callable[[str, int, float], dict[str, Any]]:
    """Return how to run one of the ways above."""

    def run(url: str, streams: int, seconds: float) -> dict[str, Any]:
        import asyncio

        async def session() -> dict[str, Any]:
            async with way(url) as ask:
                return await drive(ask, streams, seconds)

        return asyncio.run(session())

    return run


# Locust


def by_locust(user: str) -> Callable[[str, int, float], dict[str, Any]]:
    """Return how to run Locust users that read with `iter_lines`."""

    def run(url: str, streams: int, seconds: float) -> dict[str, Any]:
        import locust

        log: list[Exchange] = []
        numbers = iter(range(streams))
        meter = Meter()

        def on_start(_self: Any) -> None:
            import gevent

            gevent.sleep(next(numbers) * ANSWER / streams)

        def ask(self: Any) -> None:
            if time.monotonic() >= meter.begun + seconds:
                raise locust.exception.StopUser
            exchange = Exchange(time.monotonic())
            log.append(exchange)
            if user == "FastHttpUser":
                lines = self.client.iter_lines(url + PATH, "POST", data=BODY, headers=HEADERS)
            else:
                response = self.client.post(url + PATH, BODY, headers=HEADERS, stream=True)
                lines = response.iter_lines()
            for line in lines:
                exchange.add(line)
            exchange.ended = True

        members = {"host": url, "on_start": on_start, "tasks": [ask]}
        _run_users(type("Streams", (getattr(locust, user),), members), streams, seconds)
        return summary(log, seconds, meter)

    return run


def _run_users(user: Any, count: int, seconds: float) -> Any:
    """Run users until they have ended by themselves, or `GRACE` after their time."""
    import gevent
    import locust
    from locust.env import Environment

    environment = Environment(user_classes=[user], events=locust.events)
    runner = environment.create_local_runner()
    begun = time.monotonic()
    runner.start(count, spawn_rate=count)
    while runner.user_count == 0:
        gevent.sleep(0.01)
    while runner.user_count and time.monotonic() < begun + seconds + GRACE:
        gevent.sleep(0.05)
    runner.quit()
    return environment


def paced_locust(url: str, users: int, seconds: float) -> dict[str, Any]:
    """Ask twice a second with each user by `constant_throughput`, as users of Locust would."""
    import locust

    body = json.dumps({"model": "mock", "messages": MESSAGES, "max_tokens": 1})
    latencies: list[float] = []
    begun = time.monotonic()

    def ask(self: Any) -> None:
        if (now := time.monotonic()) >= begun + seconds:
            raise locust.exception.StopUser
        self.client.post(url + PATH, body, headers=HEADERS)
        latencies.append(time.monotonic() - now)

    members = {"host": url, "wait_time": locust.constant_throughput(2), "tasks": [ask]}
    _run_users(type("Paced", (locust.FastHttpUser,), members), users, seconds)
    return {"latencies": latencies}


# Ours


def ours(url: str, streams: int, seconds: float) -> dict[str, Any]:
    """Run our load generator as its process does, with a tap on what it reads."""
    import locust  # noqa: F401 - patches sockets, before anything else has them

    # isort: split
    from unittest.mock import patch

    import gevent

    from pytest_llmdeploy.load import generator
    from pytest_llmdeploy.load.answer import Answer
    from pytest_llmdeploy.load.spec import Step, Target, TrafficSpec, WorkerSpec

    log: list[Exchange] = []

    class Tapped(Answer):
        """Keeps the pieces beside what it does with them."""

        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            self.exchange = Exchange(time.monotonic())
            log.append(self.exchange)

        def feed(self, piece: bytes, now: float) -> None:
            """Take a piece."""
            self.exchange.pieces.append((now, piece))
            super().feed(piece, now)

        def end(self, now: float, *, complete: bool) -> None:
            """Take the end."""
            super().end(now, complete=complete)
            self.exchange.ended = complete

    rate = streams / ANSWER
    traffic = TrafficSpec(
        targets=(Target(url + PATH, HEADERS, "mock"),),
        steps=(Step(rate, rate, seconds),),
        arrivals="constant",
        output_tokens=(TOKENS, TOKENS),
        drain=GRACE,
    )
    with TemporaryDirectory() as folder, patch.object(generator, "Answer", Tapped):
        ledger, result = (str(Path(folder, name)) for name in ("ledger", "result"))
        spec = WorkerSpec(traffic, secrets=(), ledger=ledger, result=result)
        meter = Meter()
        running = generator.Generator(spec, meter.begun)
        watch = gevent.spawn(running.watch_loop)
        running.run_schedule()
        running.drain()
        watch.kill()
        return summary(log, seconds, meter)


KINDS: dict[str, Callable[[str, int, float], dict[str, Any]]] = {
    "floor": by_asyncio(floor),
    "ours": ours,
    "aiohttp": by_asyncio(with_aiohttp),
    "httpx": by_asyncio(with_httpx),
    "openai": by_asyncio(with_openai(None)),
    "openai-aiohttp": by_asyncio(with_openai("aiohttp")),
    "locust-fast": by_locust("FastHttpUser"),
    "locust-http": by_locust("HttpUser"),
    "locust-paced": paced_locust,
}


if __name__ == "__main__":
    kind, address, number, length = sys.argv[1:]
    try:
        result = KINDS[kind](address, int(number), float(length))
    except ModuleNotFoundError as error:
        result = {"missing": error.name}
    print("\n" + json.dumps(result), flush=True)
