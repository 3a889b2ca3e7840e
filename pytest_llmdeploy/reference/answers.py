"""The OpenAI wire format outwards: what an engine yields as one JSON object or as a stream."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from starlette.responses import Response, StreamingResponse

from pytest_llmdeploy.reference.engines import Ending
from pytest_llmdeploy.reference.wire import ChatOrder

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

Items = AsyncGenerator[list[str] | Ending, None]
PLAIN_FAULTS = (
    "garbage-json",
    "cut-stream",
    "no-finish",
    "wrong-usage",
    "empty-answer",
    "worse-answers",
)
STREAM_FAULTS = (
    "cut-stream",
    "no-done",
    "no-finish",
    "error-event",
    "wrong-usage",
    "empty-answer",
    "worse-answers",
)
_DONE = b"data: [DONE]\n\n"


class ConnectionCutError(Exception):
    """Raised to end the connection without ending the answer on it."""


class JsonAnswer(Response):
    """A JSON answer in ASCII, whole or broken by planted faults."""

    def __init__(
        self,
        data: object,
        status: int = 200,
        headers: dict[str, str] | None = None,
        planted: Collection[str] = (),
    ) -> None:
        body = json.dumps(data, separators=(",", ":")).encode()
        if "garbage-json" in planted:
            body = body[: len(body) // 2]
        self._sent = len(body) // 2 if "cut-stream" in planted else len(body)
        super().__init__(body, status, headers, "application/json")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer, or as much of the announced length as is to arrive."""
        if self._sent == len(self.body):
            await super().__call__(scope, receive, send)
            return
        start = {"type": "http.response.start", "status": self.status_code}
        await send(start | {"headers": self.raw_headers})
        body = bytes(self.body[: self._sent])
        await send({"type": "http.response.body", "body": body, "more_body": True})
        raise ConnectionCutError


class EventStream(StreamingResponse):
    """Server-sent events. The gate in front watches for clients that leave, so this needs not."""

    def __init__(self, events: AsyncGenerator[bytes, None]) -> None:
        super().__init__(
            events, headers={"cache-control": "no-cache"}, media_type="text/event-stream"
        )
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Send the events; their generator is closed however this ends."""
        async with aclosing(self._events):
            await self.stream_response(send)


def usage(ending: Ending, planted: Collection[str]) -> dict[str, int]:
    """Return the usage object; a wrong one claims too many tokens and does not add up."""
    completion = ending.completion_tokens
    total = ending.prompt_tokens + completion
    if "wrong-usage" in planted:
        completion = 2 * completion + 10
    return {
        "prompt_tokens": ending.prompt_tokens,
        "completion_tokens": completion,
        "total_tokens": total,
    }


async def whole(items: Items, model: str, planted: Collection[str]) -> JsonAnswer:
    """Return the plain answer once the engine is done."""
    texts: list[str] = []
    ending = Ending("stop", 0, 0)
    async with aclosing(items):
        async for item in items:
            if isinstance(item, Ending):
                ending = item
            else:
                texts += item
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": "".join(texts)},
        "logprobs": None,
        "finish_reason": None if "no-finish" in planted else ending.finish_reason,
    }
    head = _head("chat.completion", model)
    return JsonAnswer(
        head | {"choices": [choice], "usage": usage(ending, planted)}, planted=planted
    )


async def stream(
    items: Items, order: ChatOrder, model: str, planted: Collection[str]
) -> EventStream:
    """Return the stream as soon as the engine has accepted the order: its first piece is there."""
    first = await anext(items)
    return EventStream(_events(first, items, order, model, planted))


async def _events(
    first: list[str] | Ending,
    items: Items,
    order: ChatOrder,
    model: str,
    planted: Collection[str],
) -> AsyncGenerator[bytes, None]:
    head = _head("chat.completion.chunk", model)
    if order.include_usage:
        head["usage"] = None
    # Written once: encoding the head again for every token would double the cost of a stream.
    prefix = b"data: " + json.dumps(head, separators=(",", ":")).encode()[:-1] + b',"choices":['
    yield prefix + _choice({"role": "assistant", "content": ""})
    item: list[str] | Ending | None = first
    async with aclosing(items):
        while isinstance(item, list):
            yield b"".join(prefix + _choice({"content": text}) for text in item)
            if "cut-stream" in planted:
                raise ConnectionCutError
            if "error-event" in planted:
                yield b'data: {"error":{"message":"planted fault: error-event",' + (
                    b'"type":"server_error","param":null,"code":null}}\n\n' + _DONE
                )
                return
            item = await anext(items, None)
    assert isinstance(item, Ending), "an engine's last item is its Ending"
    if "no-finish" not in planted:
        yield prefix + _choice({}, item.finish_reason)
    if order.include_usage:
        last = head | {"choices": [], "usage": usage(item, planted)}
        yield b"data: " + json.dumps(last, separators=(",", ":")).encode() + b"\n\n"
    if "no-done" not in planted:
        yield _DONE


def _choice(delta: dict[str, str], finish_reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return json.dumps(choice, separators=(",", ":")).encode() + b"]}\n\n"


def _head(kind: str, model: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{secrets.token_hex(12)}",
        "object": kind,
        "created": int(time.time()),
        "model": model,
    }
