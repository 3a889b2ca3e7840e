"""One HTTP exchange within a deadline, and the words to report it with."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_llmdeploy.addresses import making_client, tls_context, uses_proxy
from pytest_llmdeploy.config.models import ServiceConfig
from pytest_llmdeploy.errors import NotMeasuredError
from pytest_llmdeploy.ports import Service
from pytest_llmdeploy.untrusted import LONGEST_ANSWER, SHOWN, TOO_LONG, read_json

if TYPE_CHECKING:
    import httpx

CONNECT_MARGIN = 0.1
"""Seconds that let a connect timeout speak first: "no connection" is not "no answer"."""


class CheckFailedError(Exception):
    """The service answered, but not as it should; the text says what was asked and what came."""


class Deadline:
    """The end of a check's time, which all its requests share."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds that remain; 0 when time is up."""
        return max(0.0, self._end - time.monotonic())

    def passed(self, asked: str) -> CheckFailedError:
        """Return the failure of the exchange that time ran out for."""
        return CheckFailedError(f"{asked}: no complete answer within {self.seconds:g} s")


@dataclass(frozen=True, slots=True)
class Target:
    """The service to check, and how to talk to it."""

    service: Service
    config: ServiceConfig
    root: Path
    """Directory that ca_file is relative to."""

    def verify(self) -> ssl.SSLContext | bool:
        """Return what httpx takes as `verify`."""
        return tls_context(self.config.verify_tls, self.config.ca_path(self.root))


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back, whole."""

    asked: str
    """``GET http://…``."""
    status: int
    headers: Mapping[str, str]
    body: bytes
    seconds: float

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode("utf-8", "replace")

    def came_back(self) -> str:
        """Describe the reply for a message."""
        kind = self.headers.get("content-type", "no content-type")
        return f"HTTP {self.status} ({kind}) {shown(self.text)}"

    def fail(self, expected: str) -> CheckFailedError:
        """Return the failure of this exchange: what was asked, expected, and what came back."""
        return CheckFailedError(f"{self.asked}: expected {expected}; got {self.came_back()}")

    def json(self, expected: str = "JSON") -> Any:
        """Return the body's JSON value; anything else fails the check."""
        try:
            return read_json(self.body)
        except ValueError as error:
            raise self.fail(expected) from error


def shown(text: str) -> str:
    """Return `text` short enough for a message."""
    text = text.strip()
    return repr(text if len(text) <= SHOWN else text[:SHOWN] + "…")


@asynccontextmanager
async def opened(
    target: Target,
    method: str,
    url: str,
    *,
    deadline: Deadline,
    connect_timeout: float | None = None,
    body: Any = None,
) -> AsyncIterator[httpx.Response]:
    """Send one request and yield the response before its body is read.

    The whole block has until `deadline`. No connection by then or within `connect_timeout`
    seconds, or a request that cannot be sent: NotMeasuredError, as nothing was found out about the
    service; an answer too late or cut short: CheckFailedError.
    """
    import httpx

    asked = f"{method} {url}"
    left = deadline.left
    if not left:
        raise deadline.passed(asked)
    limit = deadline.seconds if connect_timeout is None else connect_timeout
    verify = target.verify()
    with making_client(url):
        client = httpx.AsyncClient(
            verify=verify,
            timeout=httpx.Timeout(None, connect=min(left, limit)),
            trust_env=uses_proxy(url),
            headers=target.config.request_headers(),
        )
    try:
        async with client, asyncio.timeout(left + CONNECT_MARGIN):
            json_body = {} if body is None else {"json": body}
            async with client.stream(method, url, **json_body) as response:
                yield response
    except TimeoutError as error:
        raise deadline.passed(asked) from error
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        why = str(error) or f"no connection within {min(limit, deadline.seconds):g} s"
        raise NotMeasuredError(f"{asked}: cannot connect: {why}") from error
    except (httpx.LocalProtocolError, httpx.InvalidURL) as error:
        raise NotMeasuredError(f"{asked}: the request cannot be sent: {error}") from error
    except httpx.HTTPError as error:
        why = str(error) or type(error).__name__
        raise CheckFailedError(f"{asked}: the connection broke: {why}") from error


async def pieces(response: httpx.Response, asked: str) -> AsyncIterator[bytes]:
    """Yield the body as it comes; one longer than 1 MiB fails the check."""
    length = 0
    async for piece in response.aiter_bytes():
        length += len(piece)
        if length > LONGEST_ANSWER:
            raise CheckFailedError(f"{asked}: {TOO_LONG}")
        yield piece


async def read(response: httpx.Response, asked: str, started: float) -> Reply:
    """Return the whole answer to a request that was sent at `started` of time.perf_counter()."""
    body = b"".join([piece async for piece in pieces(response, asked)])
    seconds = time.perf_counter() - started
    return Reply(asked, response.status_code, response.headers, body, seconds)


async def exchange(
    target: Target, method: str, url: str, *, deadline: Deadline, body: Any = None
) -> Reply:
    """Send one request and return its whole answer."""
    started = time.perf_counter()
    async with opened(target, method, url, deadline=deadline, body=body) as response:
        return await read(response, f"{method} {url}", started)
