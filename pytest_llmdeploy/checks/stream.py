"""One server-sent stream, followed from its first token to ``[DONE]``."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TYPE_CHECKING, Any

from pytest_llmdeploy.checks.exchange import (
    CONNECT_MARGIN,
    CheckFailedError,
    Deadline,
    Target,
    opened,
    pieces,
    read,
    shown,
)
from pytest_llmdeploy.config.models import SmokeCheck
from pytest_llmdeploy.sse import EventParser
from pytest_llmdeploy.untrusted import read_json

if TYPE_CHECKING:
    import httpx

DONE = "[DONE]"
UsageCheck = Callable[[Callable[[str], CheckFailedError], Any, int], Mapping[str, int]]


async def _events(response: httpx.Response, asked: str) -> AsyncIterator[str]:
    parser = EventParser()
    async for piece in pieces(response, asked):
        for event in parser.feed(piece):
            yield event
    for event in parser.feed(b"", last=True):
        yield event


async def check_stream(
    target: Target,
    check: SmokeCheck,
    body: Mapping[str, Any],
    deadline: Deadline,
    check_usage: UsageCheck,
) -> dict[str, Any]:
    """Ask for a stream: it starts in time, carries text, says why it ended, ends with [DONE]."""
    url = f"{target.service.api_url}/chat/completions"
    seen = _Seen(f"POST {url} with stream: true")
    first_token: float | None = None
    started = time.perf_counter()
    # From the request on: services that wait for the first token before they send headers exist.
    try:
        async with (
            asyncio.timeout(check.first_token_timeout + CONNECT_MARGIN) as starting,
            opened(
                target,
                "POST",
                url,
                deadline=deadline,
                connect_timeout=check.first_token_timeout,
                body=body,
            ) as response,
        ):
            kind = response.headers.get("content-type", "no content-type")
            if response.status_code != 200 or not kind.startswith("text/event-stream"):
                reply = await read(response, seen.asked, started)
                raise reply.fail("HTTP 200 with text/event-stream")
            async for event in _events(response, seen.asked):
                seen.take(event)
                if first_token is None and seen.text:
                    first_token = time.perf_counter() - started
                    starting.reschedule(None)
    except TimeoutError as error:
        raise seen.fail(
            f"a first token within {check.first_token_timeout:g} s (first_token_timeout)"
        ) from error
    seconds = time.perf_counter() - started
    if not seen.done:
        raise seen.fail(f"a last event {DONE}; the stream just ended after {shown(seen.text)}")
    if not seen.text.strip():
        raise seen.fail("some text before the stream's end; it was empty")
    if seen.finish_reason is None:
        raise seen.fail("a finish_reason in the last chunk; there was none")
    usage = check_usage(
        lambda wanted: seen.fail(f"{wanted} in the stream"), seen.usage, check.max_tokens
    )
    return {
        "first_token_seconds": first_token,
        "seconds": seconds,
        "finish_reason": seen.finish_reason,
        "usage": usage,
    }


class _Seen:
    """What a stream has carried so far."""

    def __init__(self, asked: str) -> None:
        self.asked = asked
        self.text = ""
        self.finish_reason: str | None = None
        self.usage: Any = None
        self.done = False

    def fail(self, expected: str) -> CheckFailedError:
        """Return the failure: what was asked and what was expected of the stream."""
        return CheckFailedError(f"{self.asked}: expected {expected}")

    def take(self, event: str) -> None:
        """Take in one event."""
        if self.done:
            raise self.fail(f"nothing after {DONE}; got {shown(event)}")
        if event == DONE:
            self.done = True
            return
        try:
            chunk = read_json(event.encode())
            if chunk.get("error"):
                raise self.fail(f"no error inside the stream; got {shown(event)}")
            self.usage = chunk.get("usage") or self.usage
            for choice in chunk["choices"][:1]:
                self.text += choice["delta"].get("content") or ""
                self.finish_reason = choice.get("finish_reason") or self.finish_reason
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise self.fail(f"chat completion chunks; got {shown(event)}") from error
