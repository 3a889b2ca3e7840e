"""A server that sends exactly the bytes it is told to: what a well-behaved one never does."""

from __future__ import annotations

import json
import re
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any


class Then(Enum):
    """What to do with the connection in place of closing it."""

    RESET = "reset"
    """Close it with TCP's RST."""
    NEXT = "next"
    """Wait for the next request on it."""


Piece = bytes | float | Then
"""Bytes to send, seconds to wait, which end early when the server is closed, or what to do then."""
Respond = Callable[[bytes, int], Iterable[Piece]]
FOREVER = 3600.0


def http(status: str, body: bytes = b"", kind: str = "application/json", *headers: str) -> bytes:
    """Return a whole HTTP answer."""
    lines = [f"HTTP/1.1 {status}", f"content-type: {kind}", f"content-length: {len(body)}"]
    return "\r\n".join([*lines, "connection: close", *headers, "", ""]).encode() + body


def as_json(value: object, status: str = "200 OK", *headers: str) -> bytes:
    """Return a whole HTTP answer with a JSON body."""
    return http(status, json.dumps(value).encode(), "application/json", *headers)


def completion(text: Any = "Paris", **message: Any) -> dict[str, Any]:
    """Return a chat completion."""
    return {
        "id": "c",
        "object": "chat.completion",
        "created": 0,
        "model": "raw",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text, **message},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }


class RawServer:
    """Answers requests with what `respond(request, number)` yields, and then closes."""

    def __init__(self, respond: Respond, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[bytes] = []
        self.connections = 0
        self._respond = respond
        self._tls = tls
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        scheme = "http" if tls is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Stop listening and end what is being answered."""
        self._closed.set()
        # A close alone would leave the accepting thread waiting.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def __enter__(self) -> RawServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
            with connection:
                while self._answer(connection):
                    pass
        except OSError:
            connection.close()  # the client has left

    def _answer(self, connection: socket.socket) -> bool:
        """Answer one request; return whether another may follow."""
        request = _read(connection)
        if not request:
            return False
        with self._lock:
            self.requests.append(request)
            number = len(self.requests)
        for piece in self._respond(request, number):
            if isinstance(piece, bytes):
                connection.sendall(piece)
            elif piece is Then.NEXT:
                return True
            elif piece is Then.RESET:
                # Lingering for no time at all is how TCP is asked for an RST.
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return False
            elif isinstance(piece, float | int) and self._closed.wait(piece):
                return False
        return False


def _read(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65_536)
        if not piece:
            return b""
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: *(\d+)", head)
    while length and len(body) < int(length[1]):
        body += connection.recv(65_536)
    return head + b"\r\n\r\n" + body
