"""One HTTP/1.1 exchange over a socket, each piece stamped when it is read.

Libraries read streams in blocks, or wait for lines in layers above the socket; both show in the
times of tokens. Here a piece is stamped as soon as the socket has it; llhttp, by way of Locust's
own geventhttpclient, takes the message apart. Sockets are gevent's where it is patched in.
"""

from __future__ import annotations

import json
import socket
import ssl
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from geventhttpclient.response import HTTPParseError, HTTPResponse

from pytest_llmdeploy.load.answer import Answer
from pytest_llmdeploy.load.ledger import EndClass
from pytest_llmdeploy.load.spec import Target, Timeouts

BLOCK = 1 << 16
AFTER_DONE = 1.0
"""Seconds that a stream has to end its message after [DONE], for the connection's reuse."""


class ExchangeError(Exception):
    """The request ended without a whole answer: how, and what was seen."""

    def __init__(self, end: EndClass, detail: str) -> None:
        super().__init__(detail)
        self.end = end
        self.detail = detail


class _Message(HTTPResponse):
    """Hands the pieces of the body on instead of collecting them."""

    def __init__(self) -> None:
        super().__init__("POST")
        self.pieces: list[bytes] = []

    def _on_body(self, buf: bytearray) -> None:
        self.pieces.append(bytes(buf))

    def header(self, name: str) -> str:
        """Return a header's value; the last where it stands there more than once."""
        value = self.get(name)
        return (value[-1] if isinstance(value, list) else value) or ""


class Connection:
    """A connection to a target."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.exchanges = 0
        self.reusable = False

    def is_open(self) -> bool:
        """Return whether the other side has neither closed nor sent what nobody asked for."""
        try:
            self.socket.settimeout(0.0)
            self.socket.recv(1)
        except (BlockingIOError, ssl.SSLWantReadError):
            return True
        except OSError:
            return False
        return False

    def close(self) -> None:
        """Close it."""
        self.socket.close()


class Line:
    """The way to one target: opens connections, keeps those that may be used again."""

    def __init__(self, target: Target, connect_timeout: float) -> None:
        address = urlsplit(target.url)
        self._host = address.hostname or ""
        self._port = address.port or (443 if address.scheme == "https" else 80)
        self._connect_timeout = connect_timeout
        self._tls = _tls(target) if address.scheme == "https" else None
        self._idle: list[Connection] = []
        path = address.path or "/"
        self._head = _head(path, address.netloc.rpartition("@")[2], target.headers)
        self.target = target

    def take(self, *, fresh: bool) -> Connection:
        """Return a kept connection, or open one; raise ExchangeError."""
        while self._idle and not fresh:
            connection = self._idle.pop()
            if connection.is_open():
                return connection
            connection.close()
        return self._open()

    def give(self, connection: Connection, *, keep: bool) -> None:
        """Take a connection back."""
        if keep and connection.reusable:
            self._idle.append(connection)
        else:
            connection.close()

    def request(self, body: Mapping[str, Any], *, close: bool) -> bytes:
        """Return the bytes of a request."""
        content = json.dumps(body).encode()
        end = b"connection: close\r\n" if close else b""
        return b"%scontent-length: %d\r\n%s\r\n%s" % (self._head, len(content), end, content)

    def _open(self) -> Connection:
        try:
            sock = socket.create_connection((self._host, self._port), self._connect_timeout)
        except OSError as error:
            raise ExchangeError(EndClass.CONNECT, f"cannot connect: {_why(error)}") from error
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                sock = self._tls.wrap_socket(sock, server_hostname=self._host)
        except OSError as error:
            sock.close()
            raise ExchangeError(EndClass.CONNECT, f"no TLS session: {_why(error)}") from error
        return Connection(sock)


def exchange(
    connection: Connection, request: bytes, answer: Answer, timeouts: Timeouts, sent: float
) -> _Message:
    """Send the request and read its answer to the end; raise ExchangeError where it has none.

    `sent` is the moment from which timeouts count, by time.monotonic.
    """
    message = _Message()
    connection.reusable = False
    connection.exchanges += 1
    sock = connection.socket
    try:
        sock.settimeout(timeouts.connect)
        sock.sendall(request)
    except OSError as error:
        raise ExchangeError(EndClass.RESET, f"while sending: {_why(error)}") from error
    now, done_at = sent, None
    while True:
        end, deadline = _deadline(answer, message, timeouts, sent=sent, now=now, done_at=done_at)
        try:
            sock.settimeout(max(deadline - time.monotonic(), 1e-4))
            data = sock.recv(BLOCK)
        except TimeoutError as error:
            if done_at is not None:
                return message
            raise ExchangeError(end, f"nothing more after {now - sent:.3f} s") from error
        except OSError as error:
            if done_at is not None:
                return message
            raise ExchangeError(EndClass.RESET, _why(error)) from error
        now = time.monotonic()
        _parse(message, data)
        if message.headers_complete and answer.status is None and message.get_code() >= 200:
            encoding = message.header("content-encoding")
            answer.begin(message.get_code(), message.header("content-type"), encoding)
        if message.pieces:
            piece = b"".join(message.pieces)
            message.pieces.clear()
            answer.feed(piece, now)
        if answer.done and done_at is None:
            done_at = now
        if not data or (message.message_complete and message.get_code() >= 200):
            return _ended(connection, message, answer, now, closed=not data)


def _deadline(
    answer: Answer,
    message: _Message,
    timeouts: Timeouts,
    *,
    sent: float,
    now: float,
    done_at: float | None,
) -> tuple[EndClass, float]:
    """Return when to give up next, and what that would be."""
    if done_at is not None:
        return EndClass.OK, done_at + AFTER_DONE
    total = sent + timeouts.total
    begun = answer.chunks or (answer.plain and message.headers_complete)
    end = EndClass.IDLE_TIMEOUT if begun else EndClass.FIRST_TOKEN_TIMEOUT
    deadline = now + timeouts.idle if begun else sent + timeouts.first_token
    return (EndClass.TOTAL_TIMEOUT, total) if total <= deadline else (end, deadline)


def _parse(message: _Message, data: bytes) -> None:
    try:
        message.feed(data)
    except HTTPParseError as error:
        if data:
            raise ExchangeError(EndClass.MALFORMED, f"no HTTP: {error}") from error
        # The end of a connection in the midst of a message; `_ended` says so.


def _ended(
    connection: Connection, message: _Message, answer: Answer, now: float, *, closed: bool
) -> _Message:
    if answer.status is None:
        kept = " a kept connection" if connection.exchanges > 1 else ""
        raise ExchangeError(EndClass.RESET, f"closed{kept} before an answer began")
    framed = message.header("content-length") or message.header("transfer-encoding")
    answer.end(now, complete=message.message_complete or (closed and not framed))
    connection.reusable = not closed and not message.should_close()
    return message


def _head(path: str, host: str, headers: Mapping[str, str]) -> bytes:
    lines = [
        f"POST {path} HTTP/1.1",
        f"host: {host}",
        "content-type: application/json",
        "accept-encoding: identity",
        "user-agent: pytest-llmdeploy",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return "\r\n".join([*lines, ""]).encode("latin-1")


def _tls(target: Target) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=target.ca_file)
    if not target.verify_tls:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _why(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return "timed out"
    return error.strerror or str(error) or type(error).__name__
