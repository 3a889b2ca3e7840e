"""One HTTP exchange within a deadline, and the words to report it with."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_llmdeploy.addresses import tls_context, uses_proxy
from pytest_llmdeploy.config.models import ServiceConfig
from pytest_llmdeploy.errors import NotMeasuredError
from pytest_llmdeploy.ports import Service

if TYPE_CHECKING:
    import httpx

LONGEST_ANSWER = 1024 * 1024
"""Bytes; a check needs no more."""
SHOWN = 200
"""Characters of an answer that a message quotes."""


class CheckFailedError(Exception):
    """The service answered, but not as it should; the text says what was asked and what came."""


@dataclass(frozen=True, slots=True)
class Target:
    """The service to check, and how to talk to it."""

    service: Service
    config: ServiceConfig
    root: Path
    """Directory that ca_file is relative to."""

    def headers(self) -> dict[str, str]:
        """Return the headers of every request."""
        key = {"Authorization": f"Bearer {self.config.api_key}"} if self.config.api_key else {}
        return {**key, **self.config.headers}

    def verify(self) -> ssl.SSLContext | bool:
        """Return what httpx takes as `verify`."""
        ca_file = self.root / self.config.ca_file if self.config.ca_file else None
        return tls_context(self.config.verify_tls, ca_file)


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
            return json.loads(self.body)
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
    timeout: float,
    body: Any = None,
    verify: ssl.SSLContext | bool | None = None,
) -> AsyncIterator[httpx.Response]:
    """Send one request and yield the response before its body is read.

    The whole block has `timeout` seconds. No connection within them: NotMeasuredError, as nothing
    was found out about the service; an answer too late or cut short: CheckFailedError.
    """
    import httpx

    asked = f"{method} {url}"
    limits = httpx.Timeout(None, connect=timeout)
    client = httpx.AsyncClient(
        verify=target.verify() if verify is None else verify,
        timeout=limits,
        trust_env=uses_proxy(url),
        headers=target.headers(),
    )
    # The margin lets the connect timeout speak first: "no connection" is not "no answer".
    margin = 0.1
    try:
        async with client, asyncio.timeout(timeout + margin):
            json_body = {} if body is None else {"json": body}
            async with client.stream(method, url, **json_body) as response:
                yield response
    except TimeoutError as error:
        raise CheckFailedError(f"{asked}: no complete answer within {timeout:g} s") from error
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        why = str(error) or f"no connection within {timeout:g} s"
        raise NotMeasuredError(f"{asked}: cannot connect: {why}") from error
    except httpx.HTTPError as error:
        why = str(error) or type(error).__name__
        raise CheckFailedError(f"{asked}: the connection broke: {why}") from error


async def exchange(
    target: Target, method: str, url: str, *, timeout: float, body: Any = None
) -> Reply:
    """Send one request and read its whole answer, at most 1 MiB of it."""
    started = time.perf_counter()
    async with opened(target, method, url, timeout=timeout, body=body) as response:
        content = b""
        async for chunk in response.aiter_bytes():
            content += chunk
            if len(content) > LONGEST_ANSWER:
                raise CheckFailedError(f"{method} {url}: the answer is longer than 1 MiB")
        seconds = time.perf_counter() - started
        return Reply(f"{method} {url}", response.status_code, response.headers, content, seconds)
