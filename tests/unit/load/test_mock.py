"""The mock keeps its schedule, says truly when it wrote, and ends with its parent."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmdeploy.load.mock import Schedule, main, read_order, stalled_until

MESSAGES = [{"role": "user", "content": "hello"}]
ROUNDING = 2e-6
"""Seconds; stamps have six decimals."""


@dataclass(frozen=True)
class Mock:
    """A running mock."""

    process: subprocess.Popen[str]
    port: int

    def connect(self) -> closing[http.client.HTTPConnection]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        connection.connect()
        return closing(connection)


@contextmanager
def running(*arguments: str) -> Iterator[Mock]:
    """Run a mock; see it end without a word of complaint."""
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest_llmdeploy.load.mock", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            name, address = process.stdout.readline().split()
            assert name == "mock"
            assert address.startswith("http://127.0.0.1:")
            assert address.endswith("/v1")
            yield Mock(process, int(address.split(":")[2].removesuffix("/v1")))
        finally:
            process.stdin.close()
            errors = process.stderr.read()
    assert (process.returncode, errors) == (0, "")


@pytest.fixture(scope="module")
def mock() -> Iterator[Mock]:
    with running("--ttft", "0.05", "--interval", "0.005", "--tokens", "6") as mock:
        yield mock


@pytest.fixture
def connection(mock: Mock) -> Iterator[http.client.HTTPConnection]:
    with mock.connect() as connection:
        yield connection


def post(
    connection: http.client.HTTPConnection, path: str = "/v1/chat/completions", **body: Any
) -> http.client.HTTPResponse:
    connection.request("POST", path, json.dumps(body))
    return connection.getresponse()


def events(response: http.client.HTTPResponse) -> list[dict[str, Any]]:
    """Return the events of a stream that ended as it should."""
    assert response.status == 200
    assert response.headers["content-type"] == "text/event-stream"
    *lines, done, rest = response.read().decode().split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    return [json.loads(line.removeprefix("data: ")) for line in lines]


def stamps(stream: list[dict[str, Any]]) -> tuple[float, list[float]]:
    """Return when the request arrived and when its tokens were written."""
    return stream[0]["arrived"], [event["written"] for event in stream if "written" in event]


# The schedule


@pytest.mark.parametrize(
    ("moment", "served"),
    [(4.9, 4.9), (5.0, 8.0), (6.5, 8.0), (7.99, 8.0), (8.0, 8.0), (24.9, 24.9), (25.0, 28.0)],
)
def test_a_stall_serves_at_its_end_what_is_due_in_it(moment: float, served: float) -> None:
    assert stalled_until(moment, 20, 3, 5) == pytest.approx(served)


def test_no_stall_serves_at_once() -> None:
    assert stalled_until(5.0, 20, 0) == 5.0


@given(st.floats(0, 1e6), st.floats(1, 100), st.floats(0.01, 0.99), st.floats(-100, 100))
def test_nothing_is_served_early_or_later_than_a_stall_lasts(
    moment: float, period: float, share: float, offset: float
) -> None:
    stall = period * share
    served = stalled_until(moment, period, stall, offset)
    assert -1e-6 <= served - moment <= stall + 1e-6


def test_a_request_in_a_stall_begins_when_it_ends() -> None:
    schedule = Schedule(ttft=0.1, interval=0.5, stall_period=20, stall=3, stall_offset=5)
    assert schedule.due(4.0, 0) == pytest.approx(4.1)
    assert schedule.due(4.0, 2) == pytest.approx(8.0)
    assert schedule.due(6.0, 0) == pytest.approx(8.1)
    assert schedule.due(6.0, 2) == pytest.approx(9.1)


# What a request may ask


def test_fewer_tokens_end_for_length_and_more_are_not_to_be_had() -> None:
    def ending(**limit: int) -> tuple[int, str]:
        order = read_order(json.dumps({"messages": MESSAGES, **limit}).encode(), 50)
        return order.tokens, order.finish

    assert ending() == (50, "stop")
    assert ending(max_tokens=7) == (7, "length")
    assert ending(max_completion_tokens=7) == (7, "length")
    assert ending(max_tokens=50) == (50, "stop")
    assert ending(max_tokens=51) == (50, "stop")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"[]", "the body is no chat request"),
        (b'{"messages": []}', "the body is no chat request"),
        (b'{"messages": [1], "max_tokens": 0}', "max_tokens is no positive number"),
        (b'{"messages": [1], "max_tokens": "9"}', "max_tokens is no positive number"),
    ],
)
def test_what_cannot_be_answered_is_said(body: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        read_order(body, 50)


# The server


def test_a_stream_is_role_tokens_end_and_done(connection: http.client.HTTPConnection) -> None:
    stream = events(post(connection, messages=MESSAGES, stream=True))
    deltas = [event["choices"][0]["delta"] for event in stream]
    assert deltas == [{"role": "assistant", "content": ""}, *[{"content": " word"}] * 6, {}]
    assert [e["choices"][0]["finish_reason"] for e in stream] == [None] * 7 + ["stop"]
    assert not any("usage" in event for event in stream)


def test_usage_comes_last_where_it_is_asked_for(connection: http.client.HTTPConnection) -> None:
    wish = {"include_usage": True}
    response = post(connection, messages=MESSAGES, stream=True, stream_options=wish, max_tokens=2)
    *stream, end, usage = events(response)
    assert len(stream) == 3
    assert end["choices"][0]["finish_reason"] == "length"
    assert usage["choices"] == []
    assert usage["usage"] == {
        "prompt_tokens": 8,
        "completion_tokens": 2,
        "total_tokens": 10,
        "prompt_tokens_details": {"cached_tokens": 0},
    }


def test_tokens_are_written_no_earlier_than_due_and_seen_after(
    connection: http.client.HTTPConnection,
) -> None:
    before = time.monotonic()
    stream = events(post(connection, messages=MESSAGES, stream=True))
    after = time.monotonic()
    arrived, written = stamps(stream)
    assert before - ROUNDING <= arrived
    assert written[-1] <= after + ROUNDING
    assert len(written) == 6
    for token, stamp in enumerate(written):
        assert stamp >= arrived + 0.05 + token * 0.005 - ROUNDING


def test_a_connection_is_kept_from_one_request_to_the_next(
    connection: http.client.HTTPConnection,
) -> None:
    socket = connection.sock
    for _ in range(3):
        assert len(events(post(connection, messages=MESSAGES, stream=True))) == 8
        assert connection.sock is socket


def test_a_connection_is_closed_where_the_client_says_so(
    connection: http.client.HTTPConnection,
) -> None:
    connection.sock.sendall(b"GET /v1/models HTTP/1.1\r\nConnection: close\r\n\r\n")
    answer = b"".join(iter(lambda: connection.sock.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")


def test_pipelined_requests_are_answered_in_order(connection: http.client.HTTPConnection) -> None:
    chat = json.dumps({"messages": MESSAGES}).encode()
    connection.sock.sendall(
        b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: %d\r\n\r\n%s" % (len(chat), chat)
        + b"POST /nowhere HTTP/1.1\r\ncontent-length: 2\r\n\r\n{}"
        + b"GET /v1/models HTTP/1.1\r\nconnection: close\r\n\r\n"
    )
    answers = b"".join(iter(lambda: connection.sock.recv(4096), b""))
    kinds = (b'"chat.completion"', b'"no such path"', b'"list"')
    places = [answers.index(kind) for kind in kinds]
    assert places == sorted(places)


def test_whole_answers_come_when_their_last_token_is_due(
    connection: http.client.HTTPConnection,
) -> None:
    answer = json.loads(post(connection, messages=MESSAGES).read())
    assert answer["choices"][0] == {
        "index": 0,
        "message": {"role": "assistant", "content": " word" * 6},
        "finish_reason": "stop",
    }
    assert answer["usage"]["completion_tokens"] == 6
    assert answer["written"] >= answer["arrived"] + 0.05 + 5 * 0.005


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("/v1/chat/completions", {}, 400, "the body is no chat request"),
        ("/v1/completions", {"prompt": "x"}, 404, "no such path"),
    ],
)
def test_errors_are_answers_too(
    connection: http.client.HTTPConnection,
    path: str,
    body: dict[str, Any],
    status: int,
    message: str,
) -> None:
    response = post(connection, path, **body)
    assert response.status == status
    assert json.loads(response.read())["error"]["message"] == message


def test_a_client_that_leaves_disturbs_nobody(mock: Mock) -> None:
    with mock.connect() as leaving, mock.connect() as staying:
        response = post(leaving, messages=MESSAGES, stream=True)
        body = json.dumps({"messages": MESSAGES, "stream": True})
        staying.request("POST", "/v1/chat/completions", body)
        response.close()
        leaving.close()
        assert len(events(staying.getresponse())) == 8


def test_a_stall_holds_back_what_is_due_in_it() -> None:
    # A stream of 1.2 s meets a stall of every second wherever it begins.
    schedule = Schedule(ttft=0.05, interval=0.02, tokens=60, stall_period=1, stall=0.3)
    arguments = ["--ttft", "0.05", "--interval", "0.02", "--tokens", "60"]
    with (
        running(*arguments, "--stall", "0.3", "--stall-period", "1") as mock,
        mock.connect() as connection,
    ):
        arrived, written = stamps(events(post(connection, messages=MESSAGES, stream=True)))
    due = [schedule.due(arrived, token) for token in range(60)]
    assert len(written) == 60
    assert all(stamp >= moment - ROUNDING for stamp, moment in zip(written, due, strict=True))
    assert any(a == pytest.approx(b, abs=ROUNDING) for a, b in pairwise(due))


# The process


def test_it_ends_on_sigterm() -> None:
    with running() as mock:
        mock.process.send_signal(signal.SIGTERM)
        assert mock.process.wait(20) == 0


def test_it_ends_when_its_input_closes_even_while_it_answers() -> None:
    with running("--ttft", "3600") as mock, mock.connect() as connection:
        connection.request("POST", "/v1/chat/completions", json.dumps({"messages": MESSAGES}))
        assert mock.process.stdin is not None
        mock.process.stdin.close()
        assert mock.process.wait(20) == 0


@pytest.mark.parametrize(
    "arguments", [("--tokens", "0"), ("--stall", "20"), ("--stall", "-1")], ids=" ".join
)
def test_a_schedule_that_cannot_be_is_refused(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    complaint = "needs at least one token, and a stall shorter than its period\n"
    assert capsys.readouterr().err.endswith(complaint)
