"""A model server with a known schedule: what a client measures beyond it is the client's own error.

``python -m pytest_llmdeploy.load.mock --port 0 --ttft 0.1 --interval 0.01 --tokens 50`` answers
POST /v1/chat/completions as an OpenAI-compatible server, streamed or whole. Token k of a request
that arrived at t0 is written at ``t0 + ttft + k * interval``, or up to a millisecond later, for
epoll counts in those. Each content chunk holds the real time in ``"written"`` and the role's chunk
holds t0 in ``"arrived"``: both seconds of ``time.monotonic()``, which all processes of a machine
share. The mock ends when its standard input closes, or on SIGTERM.
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
import json
import os
import re
import resource
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

_BACKLOG = 4096
_LONGEST_HEAD = 64 * 1024
_PROMPT_TOKENS = 8
_WORD = " word"
_STAMP = b"%17.6f"
"""Of constant width, so that the size of a chunk is known beforehand; JSON allows the spaces."""


def stalled_until(moment: float, period: float, duration: float, offset: float = 0.0) -> float:
    """Return when the server serves what is due at `moment`: then, or at the end of the stall.

    It stalls in ``[k * period + offset, k * period + offset + duration)`` for every whole k.
    """
    if not duration:
        return moment
    into = (moment - offset) % period
    return moment - into + duration if into < duration else moment


@dataclass(frozen=True, slots=True)
class Schedule:
    """When the tokens of an answer are written; all in seconds but `tokens`."""

    ttft: float = 0.1
    interval: float = 0.01
    tokens: int = 50
    """Per answer, unless the request asks for fewer."""
    stall_period: float = 20.0
    stall: float = 0.0
    """How long each stall lasts; 0 for none. A stall holds back every token and new request."""
    stall_offset: float = 0.0
    """Stalls begin at this and at every whole period before and after, by `time.monotonic()`."""

    def served(self, moment: float) -> float:
        """Return when what is due at `moment` is served."""
        return stalled_until(moment, self.stall_period, self.stall, self.stall_offset)

    def due(self, arrived: float, token: int) -> float:
        """Return when a token, from 0, of the request that arrived then is to be written."""
        return self.served(self.served(arrived) + self.ttft + token * self.interval)


class Wheel:
    """Resume each answer when it is due: one timer of the event loop for all of them.

    An answer is an iterator that yields when it wants to be resumed next.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._heap: list[tuple[float, int, Iterator[float]]] = []
        self._count = 0
        self._timer: asyncio.TimerHandle | None = None

    def add(self, answer: Iterator[float]) -> None:
        """Run an answer up to its first wait, and from then on whenever it is due."""
        due = next(answer, None)
        if due is not None:
            self._count += 1
            heapq.heappush(self._heap, (due, self._count, answer))
            self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            if not self._heap or self._timer.when() <= self._heap[0][0]:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(self._heap[0][0], self._turn) if self._heap else None

    def _turn(self) -> None:
        heap, now = self._heap, monotonic()
        while heap and heap[0][0] <= now:
            _, number, answer = heapq.heappop(heap)
            due = next(answer, None)
            if due is not None:
                heapq.heappush(heap, (due, number, answer))
        self._timer = None
        self._arm()


def _chunk(payload: bytes) -> bytes:
    """Frame one event as one HTTP chunk; `payload` may hold one stamp to be formatted."""
    size = len(payload % 0.0 if _STAMP in payload else payload)
    return b"%x\r\n%s\r\n" % (size, payload)


def _event(choices: Sequence[object], stamp: str | None = None, **more: object) -> bytes:
    data = {"id": "mock", "object": "chat.completion.chunk", "created": 0, "model": "mock"}
    text = json.dumps({**data, "choices": choices, **more}, separators=(",", ":")).encode()
    if stamp is not None:
        text = text[:-1] + b',"%s":%s}' % (stamp.encode(), _STAMP)
    return _chunk(b"data: " + text + b"\n\n")


def _choice(delta: dict[str, str], finish: str | None = None) -> list[dict[str, Any]]:
    return [{"index": 0, "delta": delta, "finish_reason": finish}]


def _usage(tokens: int) -> dict[str, Any]:
    return {
        "prompt_tokens": _PROMPT_TOKENS,
        "completion_tokens": tokens,
        "total_tokens": _PROMPT_TOKENS + tokens,
        "prompt_tokens_details": {"cached_tokens": 0},
    }


_OPENING = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)
_ROLE = _event(_choice({"role": "assistant", "content": ""}), "arrived")
_TOKEN = _event(_choice({"content": _WORD}), "written")
_FINISH = {reason: _event(_choice({}, reason)) for reason in ("stop", "length")}
_DONE = _chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Order:
    """What a request asks for."""

    tokens: int
    finish: str
    stream: bool
    usage: bool


def read_order(body: bytes, most: int) -> Order:
    """Read the body of a chat request; raise ValueError for what the mock cannot answer."""
    data = json.loads(body)
    if not isinstance(data, dict) or not data.get("messages"):
        raise ValueError("the body is no chat request")
    limits = [data.get("max_tokens"), data.get("max_completion_tokens")]
    wanted = next((limit for limit in limits if limit is not None), most)
    if not isinstance(wanted, int) or wanted < 1:
        raise ValueError("max_tokens is no positive number")
    options = data.get("stream_options")
    return Order(
        tokens=min(wanted, most),
        finish="length" if wanted < most else "stop",
        stream=bool(data.get("stream")),
        usage=isinstance(options, dict) and bool(options.get("include_usage")),
    )


class Connection(asyncio.Protocol):
    """Answers the requests of one connection, one after the other."""

    def __init__(self, schedule: Schedule, wheel: Wheel) -> None:
        self._schedule = schedule
        self._wheel = wheel
        self._received = b""
        self._busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Begin to answer once a request is whole."""
        self._received += data
        if not self._busy:
            self._next()

    def _next(self) -> None:
        head, end, rest = self._received.partition(b"\r\n\r\n")
        if not end:
            if len(head) > _LONGEST_HEAD:
                self._transport.close()
            return
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        size = int(length[1]) if length else 0
        if len(rest) < size:
            return
        self._received = rest[size:]
        self._busy = True
        self._wheel.add(self._answer(head, rest[:size], monotonic()))

    def _answer(self, head: bytes, body: bytes, arrived: float) -> Iterator[float]:
        method, path, *_ = *head.split(maxsplit=2), b"", b""
        if method == b"GET":
            model = {"id": "mock", "object": "model", "created": 0, "owned_by": "mock"}
            yield from self._whole(arrived, "200 OK", {"object": "list", "data": [model]})
        elif path.split(b"?")[0] != b"/v1/chat/completions":
            yield from self._whole(arrived, "404 Not Found", _error("no such path"))
        else:
            try:
                order = read_order(body, self._schedule.tokens)
            except ValueError as error:
                yield from self._whole(arrived, "400 Bad Request", _error(str(error)))
            else:
                yield from (self._stream if order.stream else self._completion)(order, arrived)
        if re.search(rb"(?i)\r\nconnection: *close", head):
            self._transport.close()
        elif not self._transport.is_closing():
            self._busy = False
            self._next()

    def _stream(self, order: Order, arrived: float) -> Iterator[float]:
        transport, due = self._transport, self._schedule.due
        usage = _event([], usage=_usage(order.tokens)) if order.usage else b""
        before, after = _OPENING + _ROLE % arrived, b""
        for token in range(order.tokens):
            yield due(arrived, token)
            if transport.is_closing():
                return
            if token == order.tokens - 1:
                after = _FINISH[order.finish] + usage + _DONE
            transport.write(before + _TOKEN % monotonic() + after)
            before = b""

    def _completion(self, order: Order, arrived: float) -> Iterator[float]:
        last = self._schedule.due(arrived, order.tokens - 1)
        message = {"role": "assistant", "content": _WORD * order.tokens}
        choice = {"index": 0, "message": message, "finish_reason": order.finish}
        answer = {"id": "mock", "object": "chat.completion", "created": 0, "model": "mock"}
        extra = {"choices": [choice], "usage": _usage(order.tokens), "arrived": arrived}
        yield from self._whole(last, "200 OK", {**answer, **extra})

    def _whole(self, due: float, status: str, value: dict[str, Any]) -> Iterator[float]:
        yield self._schedule.served(due)
        body = json.dumps({**value, "written": monotonic()}).encode()
        head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\n"
        self._transport.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)


def _error(message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "code": None}}


async def serve(port: int, schedule: Schedule) -> None:
    """Serve on 127.0.0.1 until standard input closes or SIGTERM comes; print the address first."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    wheel = Wheel(loop)
    server = await loop.create_server(
        lambda: Connection(schedule, wheel), "127.0.0.1", port, backlog=_BACKLOG
    )
    address = server.sockets[0].getsockname()
    sys.stdout.write(f"mock http://{address[0]}:{address[1]}/v1\n")
    sys.stdout.flush()

    # A thread and not the loop: epoll refuses files and /dev/null.
    def watch() -> None:
        while os.read(0, 4096):
            pass
        loop.call_soon_threadsafe(ended.set)

    threading.Thread(target=watch, daemon=True).start()
    await ended.wait()
    server.close()


def main(arguments: Sequence[str]) -> int:
    """Run the mock from a command line; return its exit code."""
    usual = Schedule()
    parser = argparse.ArgumentParser(prog="python -m pytest_llmdeploy.load.mock")
    parser.add_argument("--port", type=int, default=0, help="Port; 0 for any free one")
    parser.add_argument("--ttft", type=float, default=usual.ttft, help="Seconds to the first token")
    parser.add_argument("--interval", type=float, default=usual.interval, help="Seconds a token")
    parser.add_argument("--tokens", type=int, default=usual.tokens, help="Most tokens an answer")
    parser.add_argument("--stall", type=float, default=usual.stall, help="Seconds of each stall")
    parser.add_argument(
        "--stall-period",
        type=float,
        default=usual.stall_period,
        help="Seconds from one stall's begin to the next's",
    )
    parser.add_argument(
        "--stall-offset",
        type=float,
        default=usual.stall_offset,
        help="A stall's begin by the machine's monotonic clock",
    )
    parser.add_argument("--pin", type=int, help="CPU to run on")
    options = vars(parser.parse_args(arguments))
    port, pin = options.pop("port"), options.pop("pin")
    schedule = Schedule(**options)
    if schedule.tokens < 1 or not 0 <= schedule.stall < schedule.stall_period:
        parser.error("needs at least one token, and a stall shorter than its period")
    if pin is not None:
        os.sched_setaffinity(0, {pin})
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    asyncio.run(serve(port, schedule))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
