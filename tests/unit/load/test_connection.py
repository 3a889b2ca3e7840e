"""One exchange over a socket: what is sent, when it is given up, and what may be used again."""

from __future__ import annotations

import errno
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import gevent
import pytest

from pytest_llmdeploy.load import connection
from pytest_llmdeploy.load.answer import Answer
from pytest_llmdeploy.load.connection import Alarm, Connection, ExchangeError, Line, OwnLimitError
from pytest_llmdeploy.load.ledger import EndClass
from pytest_llmdeploy.load.spec import Target, Timeouts
from tests.raw_server import FOREVER, Piece, RawServer, Then

PATIENT = Timeouts(connect=20.0, first_token=20.0, idle=20.0, total=40.0)
REQUEST = b"POST / HTTP/1.1\r\ncontent-length: 0\r\n\r\n"
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
EVENTS = (
    b'data: {"choices": [{"delta": {"content": "a"}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'
)
ANSWER = HEAD + b"%x\r\n%s\r\n" % (len(EVENTS), EVENTS)
LAST = b"0\r\n\r\n"


class Pair:
    """A connection, and the other end of it."""

    def __init__(self, ours: socket.socket, theirs: socket.socket) -> None:
        self.connection = Connection(ours)
        self.server = theirs

    def exchange(self, timeouts: Timeouts = PATIENT) -> Answer:
        answer = Answer(stream=True)
        self.connection.exchange(REQUEST, answer, timeouts, time.monotonic())
        return answer

    def failure(self, timeouts: Timeouts = PATIENT) -> tuple[EndClass, str]:
        with pytest.raises(ExchangeError) as caught:
            self.exchange(timeouts)
        return caught.value.end, caught.value.detail


@contextmanager
def connected(kind: type[socket.socket] = socket.socket) -> Iterator[Pair]:
    """Yield a connection whose socket is of this class."""
    one, theirs = socket.socketpair()
    ours = kind(one.family, one.type, one.proto, one.detach())
    pair = Pair(ours, theirs)
    try:
        yield pair
    finally:
        pair.connection.close()
        theirs.close()


@pytest.fixture
def pair() -> Iterator[Pair]:
    with connected() as pair:
        yield pair


@contextmanager
def line(*pieces: Piece, timeout: float = 20.0) -> Iterator[tuple[Line, RawServer]]:
    """Yield the way to a server that answers each request with the same."""
    with RawServer(lambda _request, _number: pieces) as server:
        yield Line(Target(server.url, {}, "m"), timeout), server


def asked(way: Line, *, fresh: bool = False) -> Connection:
    """Ask over a connection of the line's and give it back."""
    taken = way.take(fresh=fresh)
    taken.exchange(REQUEST, Answer(stream=True), PATIENT, time.monotonic())
    way.give(taken, keep=not fresh)
    return taken


def test_an_answer_is_there_with_its_done(pair: Pair) -> None:
    pair.server.sendall(ANSWER)
    answer = pair.exchange()
    assert answer.verdict() == (EndClass.OK, None)
    assert answer.last == answer.ended, "they came in one piece"
    assert pair.server.recv(1000) == REQUEST
    assert not pair.connection.reusable


def test_the_rest_of_the_message_makes_the_connection_reusable(pair: Pair) -> None:
    pair.server.sendall(ANSWER)
    pair.exchange()
    pair.server.sendall(LAST)
    pair.connection.settle()
    assert pair.connection.reusable
    pair.server.sendall(ANSWER + LAST)
    assert pair.exchange().verdict() == (EndClass.OK, None)
    pair.connection.settle()
    assert pair.connection.reusable
    assert pair.connection.exchanges == 2


@pytest.mark.parametrize("rest", [b"", b"zz\r\n", b"0\r\n", LAST + b"HTTP/1.1 200", b"5\r\nhello"])
def test_a_message_that_does_not_end_well_does_not(
    pair: Pair, rest: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "AFTER_DONE", 0.2)
    pair.server.sendall(ANSWER)
    pair.exchange()
    pair.server.sendall(rest)
    pair.connection.settle()
    assert not pair.connection.reusable


def test_a_connection_that_closes_after_done_is_not_used_again(pair: Pair) -> None:
    pair.server.sendall(ANSWER)
    pair.server.close()
    assert pair.exchange().verdict() == (EndClass.OK, None)
    pair.connection.settle()
    assert not pair.connection.reusable


def test_connection_close_is_obeyed(pair: Pair) -> None:
    pair.server.sendall(ANSWER.replace(b"transfer", b"connection: close\r\ntransfer", 1) + LAST)
    pair.exchange()
    pair.connection.settle()
    assert not pair.connection.reusable


def test_headers(pair: Pair) -> None:
    assert pair.connection.header("x-version") == ""
    headers = b"X-Version: 1\r\nX-Version: 2\r\nx-empty:\r\ntransfer"
    pair.server.sendall(ANSWER.replace(b"transfer", headers, 1) + LAST)
    pair.exchange()
    assert pair.connection.header("x-version") == "2"
    assert pair.connection.header("x-empty") == pair.connection.header("x-none") == ""
    pair.server.close()
    pair.failure()
    assert pair.connection.header("x-version") == "", "the next answer did not begin"


class Refusing(socket.socket):
    """A socket whose other end does not read what it is sent."""

    def sendall(self, *_: Any) -> None:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")


def test_an_answer_to_a_request_that_was_not_read() -> None:
    with connected(Refusing) as pair:
        pair.server.sendall(b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n")
        answer = pair.exchange()
        assert answer.verdict() == (EndClass.HTTP_4XX, "status 413")
    with connected(Refusing) as pair:
        pair.server.close()
        assert pair.failure() == (EndClass.RESET, "closed before an answer began")


class Unreachable(socket.socket):
    """A socket of which the system has given up what was sent."""

    def sendall(self, *_: Any) -> None:
        raise TimeoutError(errno.ETIMEDOUT, "Connection timed out")

    def recv(self, *_: Any) -> bytes:
        raise ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")


def test_a_timeout_of_the_system_is_none_of_ours() -> None:
    with connected(Unreachable) as pair:
        pair.server.close()
        assert pair.failure() == (EndClass.RESET, "Connection timed out before an answer began")


def test_a_request_that_is_never_read() -> None:
    with connected() as pair:
        huge = b"x" * (32 << 20)
        with pytest.raises(ExchangeError) as caught:
            timeouts = replace(PATIENT, first_token=0.3)
            pair.connection.exchange(huge, Answer(stream=True), timeouts, time.monotonic())
    assert caught.value.end == EndClass.FIRST_TOKEN_TIMEOUT
    assert caught.value.detail == "no content within timeouts.first_token (0.3 s)"


@pytest.mark.parametrize(
    ("sent", "timeouts", "end"),
    [
        (b"", {"first_token": 0.3}, EndClass.FIRST_TOKEN_TIMEOUT),
        (HEAD, {"first_token": 0.3}, EndClass.FIRST_TOKEN_TIMEOUT),
        (HEAD + ANSWER[len(HEAD) :][:40], {"first_token": 0.3}, EndClass.FIRST_TOKEN_TIMEOUT),
        (b"HTTP/1.1 200 OK\r\n\r\n{", {"idle": 0.3}, EndClass.IDLE_TIMEOUT),
        (b"", {"total": 0.3}, EndClass.TOTAL_TIMEOUT),
        (HEAD, {"total": 0.3}, EndClass.TOTAL_TIMEOUT),
        (ANSWER.replace(b"[DONE]", b"{}    "), {"idle": 0.3}, EndClass.IDLE_TIMEOUT),
        (ANSWER.replace(b"[DONE]", b"{}    "), {"total": 0.3}, EndClass.TOTAL_TIMEOUT),
    ],
)
def test_timeouts(pair: Pair, sent: bytes, timeouts: dict[str, float], end: EndClass) -> None:
    pair.server.sendall(sent)
    begun = time.monotonic()
    found, detail = pair.failure(replace(PATIENT, **timeouts))
    assert time.monotonic() - begun >= 0.3
    assert found is end
    assert f"timeouts.{next(iter(timeouts))} (0.3 s)" in detail


def test_an_idle_timeout_shorter_than_the_first_tokens(pair: Pair) -> None:
    """The one timer is set for 20 s; the first content makes it due in 0.3 s."""
    with gevent.Timeout(10):
        sender = gevent.spawn_later(0.2, pair.server.sendall, ANSWER.replace(b"[DONE]", b"{}"))
        assert pair.failure(replace(PATIENT, idle=0.3))[0] is EndClass.IDLE_TIMEOUT
        sender.join()


def test_what_comes_in_time_puts_an_idle_timeout_off(pair: Pair) -> None:
    body = ANSWER[len(HEAD) :]

    def trickle() -> None:
        pair.server.sendall(HEAD)
        for byte in body:
            pair.server.sendall(bytes([byte]))
            gevent.sleep(1.5 / len(body))

    sender = gevent.spawn(trickle)
    # Less than the answer takes, and far more than passes between two of its bytes.
    answer = pair.exchange(replace(PATIENT, idle=1.0))
    assert answer.verdict() == (EndClass.OK, None)
    sender.join()


def test_a_timeout_of_somebody_else_is_not_ours(pair: Pair) -> None:
    with pytest.raises(gevent.Timeout) as caught, gevent.Timeout(0.2) as theirs:
        pair.exchange()
    assert caught.value is theirs


def test_no_timer_outlives_its_exchange(pair: Pair) -> None:
    pair.server.sendall(ANSWER)
    pair.exchange(replace(PATIENT, first_token=0.2, idle=0.2, total=0.2))
    gevent.sleep(0.4)  # a timer left behind would be raised here


def test_an_alarm_is_set_anew_only_for_an_earlier_moment() -> None:
    answer = Answer(stream=True)
    alarm = Alarm(answer, Timeouts(first_token=5.0, idle=9.0, total=100.0), time.monotonic())
    alarm.set()
    first = alarm._timer
    answer.status, answer.chunks = 200, 1
    alarm.heard = time.monotonic()
    alarm.set()
    assert alarm._timer is first, "the deadline is later now; the timer finds that out"
    assert first is not None
    assert not alarm.is_due(first)
    alarm.set()
    assert alarm._timer is not first
    alarm.cancel()


def test_connections_are_kept_and_taken_again() -> None:
    with line(ANSWER + LAST, Then.NEXT) as (way, server):
        first = asked(way)
        assert asked(way) is first
        assert asked(way, fresh=True) is not first
        assert asked(way) is first
        assert server.connections == 2
        way.take(fresh=False).close()


def test_a_kept_connection_that_was_closed_is_not_taken() -> None:
    with line(ANSWER + LAST) as (way, _):
        first = asked(way)
        with gevent.Timeout(10):
            while first.is_open():
                gevent.sleep(0.01)
        second = way.take(fresh=False)
        assert second is not first
        assert second.exchanges == 0
        second.close()


def test_a_connection_is_not_kept_after_a_failure() -> None:
    with line(HEAD) as (way, _):
        taken = way.take(fresh=False)
        with pytest.raises(gevent.Timeout), gevent.Timeout(0.0):
            taken.exchange(REQUEST, Answer(stream=True), PATIENT, time.monotonic())
        way.give(taken, keep=False)
        assert taken.socket.fileno() == -1


def test_a_client_that_is_ended_while_it_settles_leaves_no_socket() -> None:
    with line(ANSWER, FOREVER) as (way, _):
        taken = way.take(fresh=False)
        taken.exchange(REQUEST, Answer(stream=True), PATIENT, time.monotonic())
        with pytest.raises(gevent.Timeout), gevent.Timeout(0.1):
            way.give(taken, keep=True)
        assert taken.socket.fileno() == -1


def failed_connect(way: Line) -> tuple[EndClass, str]:
    with pytest.raises(ExchangeError) as caught:
        way.take(fresh=False)
    return caught.value.end, caught.value.detail


def test_what_cannot_be_connected_to() -> None:
    with line() as (way, _):
        pass
    assert failed_connect(way) == (EndClass.CONNECT, "cannot connect: Connection refused")
    label = "x" * 64
    end, detail = failed_connect(Line(Target(f"http://{label}.invalid", {}, ""), 1.0))
    assert end is EndClass.CONNECT
    assert detail.startswith("cannot connect: ")


@pytest.mark.parametrize(
    ("number", "ours"),
    [
        (errno.EMFILE, True),
        (errno.ENFILE, True),
        (errno.EADDRNOTAVAIL, True),
        (errno.ENETUNREACH, False),
        (errno.EHOSTUNREACH, False),
    ],
)
def test_no_more_sockets_are_our_own_limit(
    monkeypatch: pytest.MonkeyPatch, number: int, ours: bool
) -> None:
    def connect(*_: object, **__: object) -> socket.socket:
        raise OSError(number, "why")

    monkeypatch.setattr(socket, "create_connection", connect)
    way = Line(Target("http://127.0.0.1:9", {}, ""), 1.0)
    if ours:
        with pytest.raises(OwnLimitError, match="why"):
            way.take(fresh=False)
    else:
        assert failed_connect(way) == (EndClass.CONNECT, "cannot connect: why")


@pytest.mark.parametrize(
    "numbers",
    [(errno.EADDRNOTAVAIL, errno.ECONNREFUSED), (errno.ECONNREFUSED, errno.EADDRNOTAVAIL)],
)
def test_a_limit_of_ours_on_one_address_hides_no_refusal_of_another(
    monkeypatch: pytest.MonkeyPatch, numbers: tuple[int, int]
) -> None:
    def connect(*_: object, all_errors: bool) -> socket.socket:
        assert all_errors
        raise ExceptionGroup("", [OSError(number, os.strerror(number)) for number in numbers])

    monkeypatch.setattr(socket, "create_connection", connect)
    way = Line(Target("http://localhost:9", {}, ""), 1.0)
    assert failed_connect(way) == (EndClass.CONNECT, "cannot connect: Connection refused")


def test_a_limit_of_ours_on_all_addresses_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(*_: object, **__: object) -> socket.socket:
        raise ExceptionGroup("", [OSError(errno.EADDRNOTAVAIL, "none left")] * 2)

    monkeypatch.setattr(socket, "create_connection", connect)
    with pytest.raises(OwnLimitError, match="none left"):
        Line(Target("http://localhost:9", {}, ""), 1.0).take(fresh=False)


def test_one_deadline_for_all_of_connecting(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a lookup that is not answered, and as many addresses."""
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: gevent.sleep(60))
    begun = time.monotonic()
    way = Line(Target("http://nowhere.invalid", {}, ""), 0.2)
    assert failed_connect(way) == (EndClass.CONNECT, "cannot connect: timed out")
    assert 0.2 <= time.monotonic() - begun < 30


def test_a_timeout_of_somebody_else_while_connecting_is_not_ours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: gevent.sleep(60))
    way = Line(Target("http://nowhere.invalid", {}, ""), 20.0)
    with pytest.raises(gevent.Timeout) as caught, gevent.Timeout(0.1) as theirs:
        way.take(fresh=False)
    assert caught.value is theirs


def test_an_authority_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Line(Target("https://127.0.0.1", {}, "", ca_file=str(tmp_path / "none.pem")), 1.0)


@pytest.mark.parametrize(
    ("url", "first", "host"),
    [
        ("http://127.0.0.1:9", "POST / HTTP/1.1", "127.0.0.1:9"),
        ("http://h/v1/chat?a=b&c", "POST /v1/chat?a=b&c HTTP/1.1", "h"),
        ("http://u:p@h:1/x", "POST /x HTTP/1.1", "h:1"),
        ("http://[::1]:9/x", "POST /x HTTP/1.1", "[::1]:9"),
    ],
)
def test_the_bytes_of_a_request(url: str, first: str, host: str) -> None:
    way = Line(Target(url, {"authorization": "Bearer k"}, "m"), 1.0)
    head, _, body = way.request({"text": "ü"}, close=False).partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == first
    assert {f"host: {host}", "authorization: Bearer k", "accept-encoding: identity"} < set(lines)
    assert f"content-length: {len(body)}" in lines
    assert json.loads(body) == {"text": "ü"}
    assert not any(line.startswith("connection:") for line in lines)
    assert b"\r\nconnection: close\r\n" in way.request({}, close=True)
