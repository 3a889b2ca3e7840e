"""A server that sends exactly the bytes it is told to: what a well-behaved one never does."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Callable, Iterable
from typing import Any

Piece = bytes | float
"""Bytes to send, or seconds to wait, which end early when the server is closed."""
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
    """Answers one request a connection with what `respond(request, number)` yields."""

    def __init__(self, respond: Respond) -> None:
        self.requests: list[bytes] = []
        self._respond = respond
        self._closed = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
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
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection:
                request = _read(connection)
                if not request:
                    return
                self.requests.append(request)
                for piece in self._respond(request, len(self.requests)):
                    if isinstance(piece, bytes):
                        connection.sendall(piece)
                    elif self._closed.wait(piece):
                        return
        except OSError:
            return  # the client has left


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
