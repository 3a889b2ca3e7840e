"""One HTTP/1.1 exchange over a socket, each piece stamped when it is read.

Libraries read streams in blocks, or wait for lines in layers above the socket; both show in the
times of tokens. Here a piece is stamped as soon as the socket has it; llhttp, by way of Locust's
own geventhttpclient, takes the message apart. Waiting is gevent's, whether it is patched in or not:
one watcher a connection and one timer an exchange, for a timer each read cost a third of its time.
"""

from __future__ import annotations

import errno
import json
import math
import socket
import ssl
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from gevent import Timeout, get_hub
from geventhttpclient.response import HTTPParseError, HTTPResponse

from pytest_llmdeploy.load.answer import Answer
from pytest_llmdeploy.load.ledger import EndClass
from pytest_llmdeploy.load.spec import Target, Timeouts

BLOCK = 1 << 16
_READ = 1
"""libev's flag for a descriptor from which can be read."""
AFTER_DONE = 1.0
"""Seconds that a stream has to end its message after [DONE], for the connection's reuse."""


OUR_LIMITS = {errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.ENOMEM}
"""Why this machine makes no connection, whatever the service does."""


class ExchangeError(Exception):
    """The request ended without a whole answer: how, and what was seen."""

    def __init__(self, end: EndClass, detail: str) -> None:
        super().__init__(detail)
        self.end = end
        self.detail = detail


class OwnLimitError(Exception):
    """The load generator's own machine has no more sockets or ports to give."""


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
        self._message = _Message()
        self._pending = sock.pending if isinstance(sock, ssl.SSLSocket) else None
        self._readable = get_hub().loop.io(sock.fileno(), _READ)

    def header(self, name: str) -> str:
        """Return a header of the latest answer; empty where it has none, or did not begin."""
        return self._message.header(name) if self._message.headers_complete else ""

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
        self._readable.close()
        self.socket.close()

    def send(self, request: bytes, timeout: float) -> None:
        """Send the bytes of a request; raise OSError."""
        self._message = _Message()
        self.reusable = False
        self.exchanges += 1
        self.socket.settimeout(timeout)
        try:
            self.socket.sendall(request)
        finally:
            self.socket.settimeout(0.0)

    def receive(self) -> bytes:
        """Wait for bytes and return them, none at the connection's end; raise OSError."""
        while True:
            # Waits first: a read that has nothing to read costs as much as one that has.
            if self._pending is None or not self._pending():
                get_hub().wait(self._readable)
            try:
                return self.socket.recv(BLOCK)
            except (BlockingIOError, ssl.SSLWantReadError):
                continue

    def settle(self) -> None:
        """Read what is left of the latest answer after its [DONE], so that another may follow."""
        message = self._message
        if not message.message_complete:
            with suppress(OSError, HTTPParseError), Timeout(AFTER_DONE, exception=False):
                while not message.message_complete and (data := self.receive()):
                    message.feed(data)
        self.reusable = message.message_complete and not message.should_close()

    def exchange(self, request: bytes, answer: Answer, timeouts: Timeouts, sent: float) -> None:
        """Send the request and read its answer; raise ExchangeError where it has none.

        `sent` is the moment from which timeouts count, by time.monotonic. Returns as soon as the
        answer is whole; `settle` reads what HTTP has to say after that.
        """
        alarm = Alarm(answer, timeouts, sent)
        refused: OSError | None = None
        try:
            self.send(request, alarm.left())
        except OSError as error:
            if _is_ours(error):
                raise ExchangeError(*alarm.verdict()) from error
            refused = error  # an answer may be there all the same: "too large", say
        try:
            while self._take(answer, alarm):
                pass
        except OSError as error:
            raise _broken(answer, refused or error) from error
        finally:
            alarm.cancel()

    def _take(self, answer: Answer, alarm: Alarm) -> bool:
        """Take what comes next; return whether more of the answer is to come."""
        message = self._message
        alarm.set()
        try:
            data = self.receive()
        except Timeout as timeout:
            if not alarm.is_due(timeout):
                return True
            raise ExchangeError(*alarm.verdict()) from timeout
        alarm.heard = now = time.monotonic()
        wrong: HTTPParseError | None = None
        try:
            message.feed(data)
        except HTTPParseError as error:
            wrong = error
        if message.headers_complete and answer.status is None and message.get_code() >= 200:
            encoding = message.header("content-encoding")
            answer.begin(message.get_code(), message.header("content-type"), encoding)
        if message.pieces:
            piece = b"".join(message.pieces)
            message.pieces.clear()
            answer.feed(piece, now)
        if data and wrong is not None and not answer.done:
            raise ExchangeError(EndClass.MALFORMED, f"no HTTP: {wrong.args[0]}") from wrong
        if data and not (message.message_complete and answer.status is not None):
            return not answer.done
        if answer.status is None:
            kept = " a kept connection" if self.exchanges > 1 else ""
            raise ExchangeError(EndClass.RESET, f"closed{kept} before an answer began")
        answer.end(now, complete=message.message_complete)
        return False


class Alarm:
    """The timeouts of one exchange, with one timer that is set anew only where it must."""

    def __init__(self, answer: Answer, timeouts: Timeouts, sent: float) -> None:
        self._answer = answer
        self._timeouts = timeouts
        self._sent = sent
        self.heard = sent
        """When something came last."""
        self._timer: Timeout | None = None
        self._timer_at = math.inf

    def _deadline(self) -> tuple[float, EndClass]:
        """Return when to give up next, and what that would be."""
        total = self._sent + self._timeouts.total
        answer = self._answer
        if answer.chunks or (answer.plain and answer.status is not None):
            deadline, end = self.heard + self._timeouts.idle, EndClass.IDLE_TIMEOUT
        else:
            deadline, end = self._sent + self._timeouts.first_token, EndClass.FIRST_TOKEN_TIMEOUT
        return (total, EndClass.TOTAL_TIMEOUT) if total <= deadline else (deadline, end)

    def left(self) -> float:
        """Return the seconds until giving up; more than none."""
        return max(self._deadline()[0] - time.monotonic(), 1e-4)

    def set(self) -> None:
        """See to a Timeout in this greenlet at the deadline, or before it."""
        if self._deadline()[0] < self._timer_at:
            self.cancel()
            self._timer_at = self._deadline()[0]
            self._timer = Timeout.start_new(self.left())

    def cancel(self) -> None:
        """Let no Timeout come."""
        if self._timer is not None:
            self._timer.close()
        self._timer, self._timer_at = None, math.inf

    def is_due(self, timeout: Timeout) -> bool:
        """Return whether it is time to give up; raise a Timeout that is somebody else's."""
        if timeout is not self._timer:
            raise timeout
        self.cancel()
        return self._deadline()[0] <= time.monotonic()

    def verdict(self) -> tuple[EndClass, str]:
        """Return what giving up now is, and why."""
        end = self._deadline()[1]
        timeouts = self._timeouts
        return end, {
            EndClass.IDLE_TIMEOUT: f"nothing more within timeouts.idle ({timeouts.idle:g} s)",
            EndClass.FIRST_TOKEN_TIMEOUT: (
                f"no content within timeouts.first_token ({timeouts.first_token:g} s)"
            ),
            EndClass.TOTAL_TIMEOUT: f"not whole within timeouts.total ({timeouts.total:g} s)",
        }[end]


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
        if address.query:
            path += f"?{address.query}"
        self._head = _head(path, address.netloc.rpartition("@")[2], target.headers)
        self.target = target

    def take(self, *, fresh: bool) -> Connection:
        """Return a kept connection, or open one; raise ExchangeError, or OwnLimitError."""
        while self._idle and not fresh:
            connection = self._idle.pop()
            if connection.is_open():
                return connection
            connection.close()
        return self._open()

    def give(self, connection: Connection, *, keep: bool) -> None:
        """Take a connection back after an exchange; one that is kept is settled first."""
        try:
            if keep:
                connection.settle()
        finally:
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
        # One deadline for all: a host's lookup has none, and each of its addresses gets the whole.
        deadline = time.monotonic() + self._connect_timeout
        stage, sock = "cannot connect", None
        with Timeout(self._connect_timeout) as alarm:
            try:
                sock = self._connected()
                stage = "no TLS session"
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if self._tls is not None:
                    sock.settimeout(max(deadline - time.monotonic(), 1e-4))
                    sock = self._tls.wrap_socket(sock, server_hostname=self._host)
                return Connection(sock)
            except BaseException as error:
                if sock is not None:
                    sock.close()
                if error is not alarm and not isinstance(error, OSError):
                    raise
                raise ExchangeError(EndClass.CONNECT, f"{stage}: {_why(error)}") from error

    def _connected(self) -> socket.socket:
        """Return a socket; raise ExchangeError, or OwnLimitError."""
        address, errors = (self._host, self._port), list[Exception]()
        try:
            return socket.create_connection(address, self._connect_timeout, all_errors=True)
        except ExceptionGroup as group:
            errors += group.exceptions
        except (OSError, UnicodeError) as error:
            errors.append(error)
        # One address that this machine cannot reach says nothing about those that refused it.
        others = [each for each in errors if getattr(each, "errno", None) not in OUR_LIMITS]
        if not others:
            raise OwnLimitError(_why(errors[0])) from errors[0]
        raise ExchangeError(EndClass.CONNECT, f"cannot connect: {_why(others[0])}") from others[0]


def _broken(answer: Answer, error: OSError) -> ExchangeError:
    return ExchangeError(EndClass.RESET, f"{_why(error)} {answer.seen}")


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


def _is_ours(error: OSError) -> bool:
    """Return whether it was a timeout of ours, and not the system's that had given up."""
    return isinstance(error, TimeoutError) and error.errno is None


def _why(error: BaseException) -> str:
    if isinstance(error, Timeout) or (isinstance(error, OSError) and _is_ours(error)):
        return "timed out"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
