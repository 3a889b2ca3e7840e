"""Whatever a service does wrong, each request it hits is in the ledger, once and in its class."""

from __future__ import annotations

import gzip
import json
import socket
import ssl
import time
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import trustme

from pytest_llmdeploy.load.connection import AFTER_DONE
from pytest_llmdeploy.load.controller import Progress, run_traffic
from pytest_llmdeploy.load.ledger import Record, read_ledger
from pytest_llmdeploy.load.questions import Questions
from pytest_llmdeploy.load.spec import Target, Timeouts
from tests.contract.conftest import Start
from tests.contract.traffic import (
    CHAT,
    CHUNKED,
    DONE,
    HALF,
    HI,
    LAST_CHUNK,
    PATIENT,
    ROLE,
    STOP,
    USAGE,
    WHOLE,
    body_of,
    chunk,
    event,
    head,
    prompt_of,
    send,
    stream,
    traffic,
)
from tests.raw_server import FOREVER, Piece, RawServer, Then, as_json, completion, http

KEPT = "closed a kept connection"
TIMES = 3
"""How often each fault is asked for."""
IMPATIENT = Timeouts(connect=5.0, first_token=1.5, idle=1.5, total=4.0)
UNTIL_READ = 1.0
"""Seconds; an RST takes away what the other side has not yet read."""
PACKED = gzip.compress(b"".join(WHOLE))
SPLIT = event({"content": "über — 汉字 🙂"}).replace(b"\\u00fc", "ü".encode())
BROTLI = b"\x0b\x02\x80hello\x03"
HTML = b"<html><body>502 from some proxy</body></html>"
THOUGHT = event({"reasoning_content": "hm"})
HUGE = event({"content": "x" * (1 << 20)})


@dataclass(frozen=True)
class Case:
    """What a server sends, and what the ledger is to say of it."""

    pieces: Iterable[Piece]
    end: str
    detail: str | None = None
    keys: Mapping[str, Any] | None = None
    """Values of the record."""


def raw(text: str) -> bytes:
    """Return an event stream of this text, in an HTTP message with a length."""
    body = text.encode()
    return head(f"content-length: {len(body)}") + body


def cut(*events: bytes, then: Piece | None = None) -> list[Piece]:
    """Return a stream that ends in the midst of a chunk."""
    whole = b"".join(map(chunk, events))
    return [CHUNKED, whole + chunk(HI)[:20], *([] if then is None else [then])]


def bytewise(data: bytes) -> list[Piece]:
    """Return a stream of one byte a chunk."""
    return [CHUNKED, *(chunk(data[i : i + 1]) for i in range(len(data))), LAST_CHUNK]


def trickle(piece: bytes, seconds: float = 0.2) -> Iterable[Piece]:
    """Return a piece over and over."""
    return [part for _ in range(100) for part in (piece, seconds)]


def slow(data: bytes) -> Iterable[Piece]:
    """Return a byte a moment, for ever."""
    return [part for i in range(len(data)) for part in (data[i : i + 1], 0.2)]


NO_FRAMING = head()
LINES = b"".join(WHOLE).decode()
STREAMS = {
    "fine": Case(stream(*WHOLE), "ok", None, {"chunks": 2, "tokens": 2, "prompt_tokens": 3}),
    "not framed": Case([NO_FRAMING, LINES.encode()], "ok", None, {"chunks": 2}),
    "one byte at a time": Case(bytewise(b"".join(WHOLE)), "ok", None, {"chunks": 2}),
    "after early hints": Case(
        [b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n", *stream(*WHOLE)], "ok", None, {"chunks": 2}
    ),
    "gzip": Case(
        [head(f"content-length: {len(PACKED)}", "content-encoding: gzip"), PACKED],
        "ok",
        None,
        {"chunks": 2, "tokens": 2},
    ),
    "deflate": Case(
        [NO_FRAMING[:-2] + b"content-encoding: deflate\r\n\r\n", zlib.compress(b"".join(WHOLE))],
        "ok",
        None,
        {"chunks": 2, "tokens": 2},
    ),
    "CRLF": Case([raw(LINES.replace("\n", "\r\n"))], "ok", None, {"chunks": 2}),
    "comments": Case([raw(": ping\n\n" + LINES.replace("\n\n", "\n: x\n\n: y\n\n"))], "ok"),
    "data over several lines": Case(
        [raw(LINES.replace('{"choices"', '{\ndata: "choices"'))], "ok", None, {"chunks": 2}
    ),
    "other fields": Case([raw("retry: 1\n\n" + LINES.replace("data", "id: 1\ndata"))], "ok"),
    "text cut within a letter": Case(
        bytewise(SPLIT + STOP + DONE), "ok", None, {"chunks": 1, "gaps": None}
    ),
    "a megabyte in one event": Case(stream(HUGE, HI, STOP, DONE), "ok", None, {"chunks": 2}),
    "role only": Case(stream(ROLE, STOP, DONE), "ok", None, {"first": None, "chunks": None}),
    "tool calls": Case(
        stream(ROLE, event({"tool_calls": [{"index": 0}]}), event({}, "tool_calls"), DONE),
        "ok",
        None,
        {"chunks": 1},
    ),
    "reasoning": Case(
        stream(ROLE, THOUGHT, THOUGHT, HI, STOP, DONE), "ok", None, {"chunks": 3, "gaps": 2}
    ),
    "reasoning only": Case(
        stream(ROLE, THOUGHT, event({}, "length"), DONE), "ok", None, {"first": None, "chunks": 1}
    ),
    "several choices": Case(
        stream(
            HI.replace(b'"index": 0', b'"index": 1'),
            HI,
            STOP.replace(b'"index": 0', b'"index": 1'),
            STOP,
            DONE,
        ),
        "ok",
        None,
        {"chunks": 2},
    ),
    "usage null": Case(
        stream(event({"content": "hi"}, usage=None), STOP, DONE), "ok", None, {"tokens": None}
    ),
    "no length until [DONE]": Case([CHUNKED, *map(chunk, WHOLE)], "ok", None, {"chunks": 2}),
    "RST after [DONE]": Case([CHUNKED, *map(chunk, WHOLE), UNTIL_READ, Then.RESET], "ok"),
    "FIN in the midst of a chunk": Case(
        cut(ROLE, HI, HI), "truncated", "the stream broke off after some content", {"chunks": 2}
    ),
    "FIN before any content": Case(
        cut(ROLE), "truncated", "the stream broke off before any content", {"chunks": None}
    ),
    "FIN after the head": Case(
        [CHUNKED], "truncated", "the stream broke off before any content", {"status": 200}
    ),
    "not framed and cut within an event": Case(
        [NO_FRAMING, ROLE + HI + HI[:20]],
        "truncated",
        "the stream broke off after some content",
        {"chunks": 1},
    ),
    "RST in the midst": Case(
        [*cut(ROLE, HI), UNTIL_READ, Then.RESET],
        "reset",
        "Connection reset by peer after some content",
        {"chunks": 1, "status": 200},
    ),
    "RST before an answer": Case(
        [Then.RESET], "reset", "Connection reset by peer before an answer began", {"status": None}
    ),
    "FIN before an answer": Case([], "reset", "closed before an answer began", {"status": None}),
    "FIN within the head": Case([CHUNKED[:30]], "reset", "closed before an answer began"),
    "error event": Case(
        stream(ROLE, HI, event(error={"message": "out of memory", "code": 500})),
        "error_event",
        "out of memory",
        {"chunks": 1, "status": 200},
    ),
    "error event, then [DONE]": Case(
        stream(ROLE, event(error="overloaded"), STOP, DONE), "error_event", "overloaded"
    ),
    "finish_reason error": Case(
        stream(HI, event({}, "error"), DONE), "error_event", "finish_reason is 'error'"
    ),
    "error as JSON": Case([as_json({"error": {"message": "no"}})], "error_event", "no"),
    "no [DONE]": Case(
        stream(HI, STOP, USAGE), "truncated", "the stream ended without [DONE] after some content"
    ),
    "no finish_reason": Case(
        stream(HI, USAGE, DONE),
        "truncated",
        "the answer ended without a finish_reason after some content",
    ),
    "429": Case(
        [as_json({"error": {"message": "slow down"}}, "429 Too Many Requests")],
        "http_429",
        "status 429: slow down",
        {"status": 429},
    ),
    "503": Case(
        [http("503 Service Unavailable", b"no", "text/plain")],
        "http_5xx",
        "status 503",
        {"status": 503},
    ),
    "503 as a stream": Case(
        [head(status="503 Unavailable"), event(error={"message": "busy"})],
        "http_5xx",
        "status 503: busy",
    ),
    "503 that breaks off": Case(
        [head("content-length: 99", status="503 Unavailable", kind="text/plain"), Then.RESET],
        "http_5xx",
        "status 503",
    ),
    "404": Case([http("404 Not Found", b"", "text/html")], "http_4xx", "status 404"),
    "302": Case(
        [http("302 Found", b"", "text/html", "location: /login")], "malformed", "status 302"
    ),
    "204": Case([head(status="204 No Content")], "malformed", "status 204"),
    "never answers": Case(
        [FOREVER], "first_token_timeout", "no content within timeouts.first_token (1.5 s)"
    ),
    "slow head": Case(
        slow(CHUNKED), "first_token_timeout", "no content within timeouts.first_token (1.5 s)"
    ),
    "a role and no more": Case(
        [CHUNKED, chunk(ROLE), FOREVER],
        "first_token_timeout",
        "no content within timeouts.first_token (1.5 s)",
        {"status": 200},
    ),
    "comments only": Case(
        [CHUNKED, *trickle(chunk(b": ping\n\n"))],
        "first_token_timeout",
        "no content within timeouts.first_token (1.5 s)",
    ),
    "stalls half-way": Case(
        [CHUNKED, chunk(ROLE), chunk(HI), chunk(HI), FOREVER],
        "idle_timeout",
        "nothing more within timeouts.idle (1.5 s)",
        {"chunks": 2},
    ),
    "never says [DONE]": Case(
        [CHUNKED, chunk(HI), chunk(STOP), FOREVER],
        "idle_timeout",
        "nothing more within timeouts.idle (1.5 s)",
    ),
    "endless trickle": Case(
        [CHUNKED, *trickle(chunk(HI))], "total_timeout", "not whole within timeouts.total (4 s)"
    ),
    "HTML": Case(
        [http("200 OK", HTML, "text/html")], "malformed", "status 200, but no event stream"
    ),
    "HTML that says it were a stream": Case(
        [raw(HTML.decode())], "truncated", "the stream ended without [DONE] before any content"
    ),
    "JSON": Case([as_json(completion())], "malformed", "status 200, but no event stream"),
    "events that are no JSON": Case(
        stream(HI, b"data: {hi}\n\n", STOP, DONE), "malformed", "an event that is no JSON: '{hi}'"
    ),
    "events that are no objects": Case(
        stream(HI, b"data: [1]\n\n", STOP, DONE), "malformed", "an event that is no object: '[1]'"
    ),
    "brotli that nobody asked for": Case(
        [head("content-encoding: br"), BROTLI],
        "malformed",
        "content-encoding br, which was not asked for",
    ),
    "gzip that is none": Case(
        [head("content-encoding: gzip"), LINES.encode()],
        "malformed",
        "broken compression: Error -3 while decompressing data: incorrect header check",
    ),
    "gzip that breaks": Case(
        [head("content-encoding: gzip"), PACKED[:10] + b"\xff" * 50],
        "malformed",
        "broken compression: Error -3 while decompressing data: invalid block type",
    ),
    "gzip that ends early": Case(
        [head("content-encoding: gzip"), PACKED[:-30]],
        "truncated",
        None,
    ),
    "broken chunks": Case(
        [CHUNKED + chunk(HI) + b"wrong\r\n"],
        "malformed",
        "no HTTP: Invalid character in chunk size",
        {"chunks": 1},
    ),
    "not HTTP": Case(
        [b"SSH-2.0-OpenSSH_9.6\r\n"], "malformed", "no HTTP: Expected HTTP/, RTSP/ or ICE/"
    ),
    "HTTP/2": Case(
        [b"\x00\x00\x12\x04" + b"\x00" * 20], "malformed", "no HTTP: Expected HTTP/, RTSP/ or ICE/"
    ),
}
GOOD = json.dumps(completion("Paris")).encode()
PACKED_GOOD = gzip.compress(GOOD)


def changed(**choice: Any) -> dict[str, Any]:
    """Return a completion whose choice is another."""
    whole = completion()
    whole["choices"][0] |= choice
    return whole


PLAIN = {
    "fine": Case(
        [as_json(completion())], "ok", None, {"tokens": 1, "first": None, "stream": False}
    ),
    "in chunks": Case(
        [
            head("transfer-encoding: chunked", kind="application/json"),
            chunk(GOOD[:50]),
            chunk(GOOD[50:]),
            LAST_CHUNK,
        ],
        "ok",
        None,
        {"tokens": 1},
    ),
    "gzip": Case(
        [
            head(
                "content-encoding: gzip",
                f"content-length: {len(PACKED_GOOD)}",
                kind="application/json",
            ),
            PACKED_GOOD,
        ],
        "ok",
        None,
        {"tokens": 1},
    ),
    "cut": Case(
        [as_json(completion())[:-9]], "truncated", "the answer broke off after some content"
    ),
    "RST": Case(
        [as_json(completion())[:-9], UNTIL_READ, Then.RESET],
        "reset",
        "Connection reset by peer after some content",
    ),
    "HTML": Case(
        [http("200 OK", HTML, "text/html")],
        "malformed",
        "no chat completion: '<html><body>502 from some proxy</body></html>'",
    ),
    "empty": Case([http("200 OK")], "malformed", "no chat completion: ''"),
    "no choices": Case(
        [as_json({"choices": []})], "malformed", "no chat completion: '{\"choices\": []}'"
    ),
    "no message": Case([as_json({"choices": [{"message": 1}]})], "malformed"),
    "an error": Case([as_json({"error": {"message": "no"}})], "error_event", "no"),
    "finish_reason error": Case(
        [as_json(changed(finish_reason="error"))], "error_event", "finish_reason is 'error'"
    ),
    "no finish_reason": Case(
        [as_json(changed(finish_reason=None))],
        "truncated",
        "the answer ended without a finish_reason after some content",
    ),
    "a stream": Case(
        stream(*WHOLE), "malformed", "an event stream, which was not asked for", {"status": 200}
    ),
    "usage null": Case(
        [as_json({**completion(), "usage": None})], "ok", None, {"tokens": None, "stream": False}
    ),
    "stalls half-way": Case(
        [as_json(completion())[:-9], FOREVER],
        "idle_timeout",
        "nothing more within timeouts.idle (1.5 s)",
    ),
    "never answers": Case(
        [FOREVER], "first_token_timeout", "no content within timeouts.first_token (1.5 s)"
    ),
    "429": Case([as_json({}, "429 Too Many Requests")], "http_429", "status 429"),
}


class Catalogue:
    """One run in which each case was asked for as often."""

    def __init__(self, cases: Mapping[str, Case], tmp_path: Path, streamed: float) -> None:
        def respond(request: bytes, _number: int) -> Iterable[Piece]:
            return cases[prompt_of(request)].pieces

        number = len(cases) * TIMES
        with RawServer(respond) as server:
            spec = traffic(
                server.url,
                number,
                prompts=tuple(cases),
                streamed=streamed,
                timeouts=IMPATIENT,
                max_in_flight=number,
            )
            self.sent = send(spec, tmp_path)
        questions = Questions(spec)
        self.hit: dict[str, list[Record]] = {name: [] for name in cases}
        for record in self.sent.records:
            prompt = questions.question(record["i"]).messages[-1]["content"]
            self.hit[prompt].append(record)

    def check(self, name: str, case: Case) -> None:
        """See that each request of the case is in the ledger as it is to be."""
        hit = self.hit[name]
        assert Counter(record["class"] for record in hit) == {case.end: TIMES}, hit
        if case.detail is not None or case.end == "ok":
            # Some of them may come over a connection that was kept, which is said.
            details = [
                (record.get("detail") or "").replace(KEPT, "closed") or None for record in hit
            ]
            assert details == [case.detail] * TIMES
        for key, value in (case.keys or {}).items():
            assert [record.get(key) for record in hit] == [value] * TIMES, key
        for record in hit:
            waited = record["end"] - record["sent"]
            assert waited >= WAITS.get(case.end, 0.0), "nothing is given up before its time"


WAITS = {"first_token_timeout": 1.5, "idle_timeout": 1.5, "total_timeout": 4.0}


@pytest.fixture(scope="module")
def streamed(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    """The run of all cases of streams."""
    return Catalogue(STREAMS, tmp_path_factory.mktemp("streamed"), 1.0)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    """The run of all cases of answers in one piece."""
    return Catalogue(PLAIN, tmp_path_factory.mktemp("whole"), 0.0)


@pytest.mark.parametrize("name", STREAMS)
def test_streams(streamed: Catalogue, name: str) -> None:
    streamed.check(name, STREAMS[name])


@pytest.mark.parametrize("name", PLAIN)
def test_answers_in_one_piece(whole: Catalogue, name: str) -> None:
    whole.check(name, PLAIN[name])


def test_reasoning_has_a_time_of_its_own(streamed: Catalogue) -> None:
    for record in streamed.hit["reasoning"]:
        assert record["sent"] <= record["reason"] <= record["first"] <= record["last"]
    for record in streamed.hit["reasoning only"]:
        assert record["reason"] == record["last"]
    assert not any("reason" in record for record in streamed.hit["fine"])


# Connections


def served(*answers: Iterable[Piece]) -> RawServer:
    """Return a server that gives these answers in turn."""
    return RawServer(lambda _request, number: answers[(number - 1) % len(answers)])


def test_a_port_that_nobody_listens_on(tmp_path: Path) -> None:
    with served() as server:
        url = server.url
    sent = send(traffic(url, 5), tmp_path)
    assert sent.classes == {"connect": 5}
    assert {record["detail"] for record in sent.records} == {"cannot connect: Connection refused"}
    assert not any("sent" in record for record in sent.records)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def secured(url: str, **options: Any) -> tuple[Target, ...]:
    return (Target(url.replace("http:", "https:") + CHAT, {}, "m", **options),)


def test_tls(tmp_path: Path, authority: trustme.CA) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    pem = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(pem))
    users: dict[str, Any] = {"steps": (), "users": 1, "duration": 0.3}
    with RawServer(lambda _request, _number: stream(HUGE, *WHOLE), tls=context) as server:
        unknown = send(traffic(server.url, 3, targets=secured(server.url)), tmp_path)
        assert server.requests == []
        known = secured(server.url, ca_file=str(pem))
        believed = send(traffic(server.url, 0, targets=known, **users), tmp_path)
        after = server.connections
        unchecked = secured(server.url, verify_tls=False)
        blind = send(traffic(server.url, 3, targets=unchecked), tmp_path)
    assert unknown.classes == {"connect": 3}
    assert unknown.records[0]["detail"].startswith(
        "no TLS session: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed"
    )
    assert set(believed.classes) == {"ok"}
    assert {record["chunks"] for record in believed.records} == {3}
    assert after == 4, "a connection that worked is used again"
    assert blind.classes == {"ok": 3}


def test_a_handshake_that_is_not_answered(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        timeouts = replace(PATIENT, connect=0.5)
        sent = send(traffic(url, 3, targets=secured(url), timeouts=timeouts), tmp_path)
    assert sent.classes == {"connect": 3}
    assert {record["detail"] for record in sent.records} == {"no TLS session: timed out"}


ONE_USER: dict[str, Any] = {"steps": (), "users": 1, "duration": 0.5}


def test_a_connection_is_used_again(tmp_path: Path) -> None:
    packed: list[Piece] = [CHUNKED + b"".join(map(chunk, WHOLE)), 0.01, LAST_CHUNK, Then.NEXT]
    answer: list[Piece] = [as_json(completion()).replace(b"connection: close\r\n", b""), Then.NEXT]
    with served(stream(*WHOLE), packed) as server:
        sent = send(traffic(server.url, 0, **ONE_USER), tmp_path)
        assert set(sent.classes) == {"ok"}
        assert (len(server.requests), server.connections) == (len(sent.records), 1)
    with served(answer) as server:
        sent = send(traffic(server.url, 0, **ONE_USER, streamed=0.0), tmp_path)
        assert set(sent.classes) == {"ok"}
        assert (len(server.requests), server.connections) == (len(sent.records), 1)


def test_a_kept_connection_that_was_closed_meanwhile_is_no_failure(tmp_path: Path) -> None:
    with served(stream(*WHOLE, then=b"")) as server:
        spec = traffic(server.url, 0, **{**ONE_USER, "duration": 1.0}, think_time=0.2)
        sent = send(spec, tmp_path)
    assert set(sent.classes) == {"ok"}
    assert server.connections == len(sent.records) > 1


def test_a_kept_connection_that_is_closed_on_the_request_is_one(tmp_path: Path) -> None:
    with served(stream(*WHOLE), []) as server:
        sent = send(traffic(server.url, 0, **ONE_USER), tmp_path)
    number = len(sent.records)
    assert sent.classes == {"ok": number - number // 2, "reset": number // 2}
    assert {record["detail"] for record in sent.of("reset")} == {
        "closed a kept connection before an answer began"
    }


def test_what_follows_an_answer_unasked_is_not_the_next_answer(tmp_path: Path) -> None:
    with served([*stream(*WHOLE, then=0.01), b"HTTP/1.1 500 No\r\n\r\n", Then.NEXT]) as server:
        spec = traffic(server.url, 0, **{**ONE_USER, "duration": 1.0}, think_time=0.2)
        sent = send(spec, tmp_path)
    assert set(sent.classes) == {"ok"}
    assert server.connections == len(sent.records) > 1


def test_an_answer_ends_with_its_done_whatever_http_has_to_say(tmp_path: Path) -> None:
    with served([CHUNKED + b"".join(map(chunk, WHOLE)), FOREVER]) as server:
        sent = send(traffic(server.url, 3), tmp_path)
    assert sent.classes == {"ok": 3}
    for record in sent.records:
        assert record["end"] - record["last"] < AFTER_DONE / 2, "not when waiting was given up"


def test_clients(tmp_path: Path) -> None:
    shares = {"keep_alive": 2, "new_connection": 1, "long_stream": 1}
    with served(stream(*WHOLE)) as server:
        spec = traffic(server.url, 40, clients=shares, streamed=0.0, long_stream_tokens=333)
        spec = replace(spec, output_tokens=(5, 9))
        sent = send(spec, tmp_path)
    questions = Questions(spec)
    by_client = Counter(record["client"] for record in sent.records)
    assert by_client == Counter(questions.question(number).client for number in range(40))
    assert set(by_client) == set(shares)
    # A stream was asked for by the long ones alone; to the others it is no answer.
    assert sent.classes == {
        "ok": by_client["long_stream"],
        "malformed": 40 - by_client["long_stream"],
    }
    bodies = [body_of(request) for request in server.requests]
    assert Counter(body["stream"] for body in bodies) == {
        True: by_client["long_stream"],
        False: 40 - by_client["long_stream"],
    }
    assert {body["max_tokens"] for body in bodies if body["stream"]} == {333}
    assert {body["max_tokens"] for body in bodies if not body["stream"]} <= set(range(5, 10))
    closing = sum(b"\r\nconnection: close\r\n" in request for request in server.requests)
    assert closing == by_client["new_connection"]


@pytest.mark.parametrize("client", ["new_connection", "long_stream"])
def test_these_clients_have_a_connection_for_each_request(tmp_path: Path, client: str) -> None:
    with served(stream(*WHOLE)) as server:
        sent = send(traffic(server.url, 0, **ONE_USER, clients={client: 1}), tmp_path)
    assert set(sent.classes) == {"ok"}
    assert server.connections == len(server.requests) == len(sent.records)


def test_a_request_is_what_the_target_says(tmp_path: Path) -> None:
    with served(stream(*WHOLE)) as server:
        url = f"{server.url}/api/chat?version=2"
        target = Target(url, {"authorization": "Bearer k", "x-a": "é"}, "large")
        spec = traffic(server.url, 3, targets=(target,), parameters={"temperature": 0})
        assert send(spec, tmp_path).classes == {"ok": 3}
    for request in server.requests:
        lines = request.partition(b"\r\n\r\n")[0].split(b"\r\n")
        assert lines[0] == b"POST /api/chat?version=2 HTTP/1.1"
        assert {b"authorization: Bearer k", b"x-a: \xe9", b"accept-encoding: identity"} < {*lines}
        body = body_of(request)
        assert (body["model"], body["temperature"], body["stream"]) == ("large", 0, True)
        assert body["stream_options"] == {"include_usage": True}


def test_versions_are_known_of_failures_too(tmp_path: Path) -> None:
    two = "x-version: 2"
    answers: list[Iterable[Piece]] = [
        [head("transfer-encoding: chunked", two), chunk(b"".join(WHOLE)), LAST_CHUNK],
        [head("transfer-encoding: chunked", two), chunk(HI)],
        [http("503 Service Unavailable", b"", "text/plain", two)],
        [head("transfer-encoding: chunked", two), FOREVER],
        [],
    ]
    with served(*answers) as server:
        targets = (Target(server.url + CHAT, {}, "m", version_header="X-Version"),)
        timeouts = replace(PATIENT, first_token=0.5)
        sent = send(traffic(server.url, 10, targets=targets, timeouts=timeouts), tmp_path)
    found = Counter((record["class"], record.get("version")) for record in sent.records)
    assert found == {
        ("ok", "2"): 2,
        ("truncated", "2"): 2,
        ("http_5xx", "2"): 2,
        ("first_token_timeout", "2"): 2,
        ("reset", None): 2,
    }


# The run


def test_what_is_open_when_the_drain_is_over(tmp_path: Path) -> None:
    with served(HALF, stream(*WHOLE)) as server:
        sent = send(traffic(server.url, 10, drain=1.0), tmp_path)
    assert sent.classes == {"in_flight": 5, "ok": 5}
    for record in sent.of("in_flight"):
        assert (record["status"], record["chunks"]) == (200, 2)
        assert record["end"] >= 1.1
        assert "detail" not in record


def test_users_do_not_outlast_the_drain(tmp_path: Path) -> None:
    with served(HALF) as server:
        spec = traffic(server.url, 0, steps=(), users=3, duration=0.5, drain=0.5)
        sent = send(spec, tmp_path)
    assert sent.classes == {"in_flight": 3}
    assert sent.result.lost == ()


@pytest.mark.parametrize("burst", [False, True])
def test_no_more_are_open_than_may_be(tmp_path: Path, burst: bool) -> None:
    arrivals: dict[str, Any] = {"steps": (), "trace": (0.0,) * 10} if burst else {}
    with served(HALF) as server:
        spec = traffic(server.url, 10, max_in_flight=3, drain=1.0, **arrivals)
        sent = send(spec, tmp_path)
    assert sent.classes == {"in_flight": 3, "dropped": 7}
    assert len(server.requests) == 3
    assert {record["detail"] for record in sent.of("dropped")} == {"3 requests were open"}
    assert not any("sent" in record for record in sent.of("dropped"))


@pytest.mark.parametrize("kind", ["open", "closed", "conversations"])
def test_a_run_that_is_stopped_gives_up_what_is_open(tmp_path: Path, kind: str) -> None:
    kinds: dict[str, dict[str, Any]] = {
        "open": {},
        "closed": {"steps": (), "users": 5, "duration": 60.0},
        "conversations": {"turns": 3},
    }

    def watch(progress: Progress) -> str | None:
        return "enough" if progress.sent >= 5 else None

    with served(HALF) as server:
        spec = traffic(server.url, 600, rate=10.0, **kinds[kind])
        begun = time.monotonic()
        sent = send(spec, tmp_path, watch=watch)
    assert time.monotonic() - begun < 40, "not after a minute of traffic"
    number = len(sent.records)
    assert 5 <= number < 600
    assert sent.classes == {"cancelled": number}
    assert {record["detail"] for record in sent.records} == {"enough"}
    assert (sent.result.stopped, sent.result.lost) == ("enough", ())


def test_a_run_stops_at_its_cap_of_tokens(tmp_path: Path) -> None:
    with served(stream(*WHOLE)) as server:
        spec = traffic(server.url, 600, rate=10.0, max_tokens_total=10)
        sent = send(spec, tmp_path, processes=2)
    assert sent.result.stopped == "the cap of 10 completion tokens was reached"
    assert sum(record.get("tokens", 0) for record in sent.records) >= 10
    assert len(sent.records) < 100


def test_a_turn_holds_what_was_said_before_it(tmp_path: Path) -> None:
    def respond(request: bytes, _number: int) -> Iterable[Piece]:
        said = f"answer to {prompt_of(request)}"
        return stream(ROLE, *(event({"content": word}) for word in said), STOP, DONE)

    with RawServer(respond) as server:
        spec = traffic(server.url, 4, turns=3, words=5, rest=20.0)
        sent = send(spec, tmp_path)
    assert sent.classes == {"ok": 12}
    assert {(record["i"], record["turn"]) for record in sent.records} == {
        (number, turn) for number in range(4) for turn in range(3)
    }
    questions = Questions(spec)
    expected = []
    for number in range(4):
        messages: list[Mapping[str, Any]] = []
        for turn in range(3):
            messages += questions.question(number, turn).messages
            expected.append(list(messages))
            said = f"answer to {messages[-1]['content']}"
            messages.append({"role": "assistant", "content": said})
    asked = [body_of(request)["messages"] for request in server.requests]
    assert sorted(asked, key=json.dumps) == sorted(expected, key=json.dumps)
    ends = {(record["i"], record["turn"]): record["end"] for record in sent.records}
    for record in sent.records:
        if record["turn"]:
            assert record["at"] >= ends[record["i"], record["turn"] - 1]


def test_a_conversation_ends_with_the_turn_that_fails(tmp_path: Path) -> None:
    def respond(request: bytes, _number: int) -> Iterable[Piece]:
        return stream(HI) if len(body_of(request)["messages"]) > 1 else stream(*WHOLE)

    with RawServer(respond) as server:
        folder = tmp_path / "run"
        result = run_traffic(traffic(server.url, 4, turns=3, rest=20.0), folder)
    found = Counter((record["turn"], record["class"]) for record in read_ledger(result.ledger))
    assert found == {(0, "ok"): 4, (1, "truncated"): 4}
    assert (result.intended, result.lost) == (8, ())


@pytest.mark.parametrize("streamed", [1.0, 0.0])
def test_planted_faults_of_the_reference_service(
    start: Start, tmp_path: Path, streamed: float
) -> None:
    body = "cut-stream" if streamed else "garbage-json"
    faults = f"error-500=0.1,error-429=0.1,html=0.1,{body}=0.1"
    quick = ("--ttft", "0", "--token-interval", "0")
    service = start(*quick, "--model-name", "m", "--fault", faults)
    targets = (Target(service.url + CHAT, {}, "m", version_header="x-llm-version"),)
    spec = traffic(service.url, 100, rate=50.0, targets=targets, streamed=streamed)
    sent = send(replace(spec, output_tokens=(3, 3)), tmp_path)
    # Every tenth request is hit; one that is hit already leaves the next fault to the next.
    expected = {"http_5xx": 10, "http_429": 9, "malformed": 9, "ok": 65}
    expected["truncated" if streamed else "malformed"] = 7 if streamed else 16
    assert sent.classes == expected
    assert {record["version"] for record in sent.records if "version" in record} == {"1.0.0"}
