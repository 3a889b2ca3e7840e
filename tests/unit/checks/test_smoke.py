"""The checks against servers that send exactly what a test wants."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmdeploy.checks.exchange import CheckFailedError, Target
from pytest_llmdeploy.checks.measure import measure_health, measure_smoke
from pytest_llmdeploy.checks.smoke import check_usage, smoke_checks
from pytest_llmdeploy.config.models import HttpCheck, ServiceConfig, SmokeCheck, SmokeConfig
from pytest_llmdeploy.errors import NotMeasuredError
from pytest_llmdeploy.ports import Service
from pytest_llmdeploy.verdicts import Verdict
from tests.raw_server import FOREVER, Piece, RawServer, as_json, completion, http

OK = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
USAGE = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}


def target(server: RawServer, **config: Any) -> Target:
    settings = ServiceConfig(**{"model": "raw", **config})
    return Target(Service(server.url, server.url + "/v1"), settings, Path())


def smoke(sent: bytes | list[Piece], kind: str = "stream", **more: Any) -> tuple[Verdict, str]:
    """Make one smoke check against a server that sends these bytes; return what it concluded."""
    pieces: list[Piece] = [sent] if isinstance(sent, bytes) else sent
    check = SmokeCheck.model_validate({"kind": kind, "timeout": 20, **more})
    with RawServer(lambda _request, _number: pieces) as server:
        measured = measure_smoke(target(server), check)
    return measured.verdict, measured.reason.replace(server.url, "URL")


def event(value: object) -> bytes:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f"data: {text}\n\n".encode()


def chunk(text: str | None = None, finish: str | None = None, **more: Any) -> bytes:
    delta = {} if text is None else {"content": text}
    return event({"choices": [{"delta": delta, "finish_reason": finish}], **more})


END = chunk(None, "stop", usage=USAGE) + event("[DONE]")
STREAM = "POST URL/v1/chat/completions with stream: true: expected "


@pytest.mark.parametrize(
    "sent",
    [
        OK + chunk("Hi") + END,
        OK + b": keep-alive\n\n" + chunk("") + chunk("a\u2028b") + END,
        OK + chunk("Hi", error=None) + END.removesuffix(b"\n"),
        OK + chunk("Hi", "stop") + event({"choices": [], "usage": USAGE}) + event("[DONE]"),
    ],
)
def test_streams_as_they_should_be(sent: bytes) -> None:
    assert smoke(sent) == (Verdict.PASS, "as expected")


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (OK, "a last event [DONE]; the stream just ended after ''"),
        (OK + chunk("Hi"), "a last event [DONE]; the stream just ended after 'Hi'"),
        (OK + END + chunk("x"), "nothing after [DONE]; got '{\"choices\": [{\"delta\": "
         '{"content": "x"}, "finish_reason": null}]}\''),
        (OK + chunk(" \n") + END, "some text before the stream's end; it was empty"),
        (OK + event("{oops") + END, "chat completion chunks; got '{oops'"),
        (OK + event("[]") + END, "chat completion chunks; got '[]'"),
        (OK + event("[" * 100_000), f"chat completion chunks; got '{'[' * 200}…'"),
        (OK + event({"choices": [{"delta": {"content": 5}}]}),
         'chat completion chunks; got \'{"choices": [{"delta": {"content": 5}}]}\''),
        (OK + chunk("Hi") + event({"error": "out of memory"}),
         "no error inside the stream; got '{\"error\": \"out of memory\"}'"),
        (OK + chunk("Hi", "stop") + event("[DONE]"),
         "usage with prompt_tokens, completion_tokens, total_tokens in the stream"),
    ],
)  # fmt: skip
def test_broken_streams(sent: bytes, reason: str) -> None:
    assert smoke(sent) == (Verdict.FAIL, STREAM + reason)


def test_the_first_token_counts_from_the_request_on() -> None:
    late_headers: list[Piece] = [0.6, OK + chunk("Hi") + END]
    late_token: list[Piece] = [OK, chunk(""), 0.6, chunk("Hi") + END]
    for pieces in (late_headers, late_token):
        assert smoke(pieces, first_token_timeout=0.3) == (
            Verdict.FAIL,
            STREAM + "a first token within 0.3 s (first_token_timeout)",
        )
    slow_rest: list[Piece] = [OK + chunk("Hi"), 0.8, END]
    assert smoke(slow_rest, first_token_timeout=0.5)[0] is Verdict.PASS


def test_all_requests_of_a_check_share_its_deadline() -> None:
    def slow(_request: bytes, _number: int) -> Iterator[Piece]:
        yield 0.35
        yield as_json({"data": [{"id": "m"}]})

    with RawServer(slow) as server:
        unnamed = target(server, model=None)
        measured = measure_smoke(unnamed, SmokeCheck(kind="completion", timeout=0.5))
    assert measured.verdict is Verdict.FAIL
    assert measured.reason == (
        f"POST {server.url}/v1/chat/completions: no complete answer within 0.5 s"
    )


@pytest.mark.parametrize("status", ["401 Unauthorized", "403 Forbidden", "429 Too Many Requests"])
def test_a_request_that_was_not_read_was_not_refused(status: str) -> None:
    sent = as_json({"error": {"message": "no"}}, status)
    assert smoke(sent, "bad-request") == (
        Verdict.FAIL,
        "POST URL/v1/chat/completions: expected HTTP 4xx for a request whose messages are not a "
        f'list; got HTTP {status[:3]} (application/json) \'{{"error": {{"message": "no"}}}}\'',
    )


@pytest.mark.parametrize("status", ["400 Bad Request", "422 Unprocessable"])
def test_a_bad_request_is_refused(status: str) -> None:
    sent = as_json({"error": {"message": "messages: not a list"}}, status)
    assert smoke(sent, "bad-request")[0] is Verdict.PASS


@pytest.mark.parametrize(
    ("kind", "sent", "reason"),
    [
        (
            "models",
            as_json({"data": [{"id": "other"}]}),
            "GET URL/v1/models: expected the model 'raw' (service.model) among the listed ones; "
            'got HTTP 200 (application/json) \'{"data": [{"id": "other"}]}\'',
        ),
        (
            "models",
            as_json({"data": []}),
            "GET URL/v1/models: expected at least one model with an id; got HTTP 200 "
            "(application/json) '{\"data\": []}'",
        ),
        (
            "completion",
            http("200 OK", b"[" * 100_000),
            "POST URL/v1/chat/completions: expected a chat completion with "
            f"choices[0].message.content; got HTTP 200 (application/json) '{'[' * 200}…'",
        ),
        (
            "bad-request",
            as_json(["no"], "400 Bad Request"),
            'POST URL/v1/chat/completions: expected an error of the form {"error": {"message": …}};'
            " got HTTP 400 (application/json) '[\"no\"]'",
        ),
        (
            "tls",
            b"",
            "URL/: expected an https:// address; got plain http://",
        ),
    ],
)
def test_other_failures(kind: str, sent: bytes, reason: str) -> None:
    assert smoke(sent, kind) == (Verdict.FAIL, reason)


def test_halves_of_characters_do_not_reach_the_report() -> None:
    measured: dict[str, Any] = {}
    with RawServer(lambda _request, _number: [as_json({"data": [{"id": "m\ud800"}]})]) as server:
        check = SmokeCheck(kind="models", timeout=20)
        measured.update(measure_smoke(target(server, model=None), check).detail)
    assert measured["models"] == ["m?"]


def test_a_header_that_cannot_be_sent_is_no_failure_of_the_service() -> None:
    with (
        RawServer(lambda _request, _number: [as_json({})]) as server,
        pytest.raises(NotMeasuredError) as caught,
    ):
        measure_health(target(server, headers={"x-team": " a"}), HttpCheck(name="h", path="/h"))
    assert str(caught.value) == (
        f"GET {server.url}/h: the request cannot be sent: Illegal header value b' a'"
    )
    assert server.requests == []


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        ({"status": 204}, "HTTP 204"),
        ({"contains": "fine"}, "an answer that contains 'fine'"),
        ({"json": {"a.0.b": 2}}, "a.0.b to be 2, not 1"),
        ({"json": {"a.1": 1}}, "a field 'a.1' in the JSON answer"),
        ({"json": {"a.0.b": True}}, "a.0.b to be True, not 1"),
        ({"json": {"a.0.b": 1}}, None),
    ],
)
def test_a_request_of_the_users_own(wanted: dict[str, Any], reason: str | None) -> None:
    check = HttpCheck.model_validate({"name": "own", "path": "/x", "timeout": 20, **wanted})
    with RawServer(lambda _request, _number: [as_json({"a": [{"b": 1}]})]) as server:
        measured = measure_health(target(server), check)
    if reason is None:
        assert measured.verdict is Verdict.PASS
    else:
        assert measured.verdict is Verdict.FAIL
        assert measured.reason == (
            f"GET {server.url}/x: expected {reason}; got HTTP 200 (application/json) "
            '\'{"a": [{"b": 1}]}\''
        )


def test_a_completion_as_it_should_be() -> None:
    assert smoke(as_json(completion()), "completion") == (Verdict.PASS, "as expected")


Numbers = st.integers(-3, 30)


@given(prompt=Numbers, answer=Numbers, total=Numbers, most=st.integers(1, 30))
def test_usage_must_add_up(prompt: int, answer: int, total: int, most: int) -> None:
    usage = {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": total}
    fine = prompt >= 1 and 1 <= answer <= most and prompt + answer == total
    assert _passes(lambda: check_usage(CheckFailedError, usage, most)) is fine


@given(st.one_of(st.none(), st.integers(), st.text(), st.dictionaries(st.text(), st.integers())))
def test_usage_of_another_shape_fails(usage: Any) -> None:
    assert not _passes(lambda: check_usage(CheckFailedError, usage, 10))


def _passes(check: Callable[[], object]) -> bool:
    try:
        check()
    except CheckFailedError:
        return False
    return True


def test_the_checks_that_apply() -> None:
    def kinds(url: str | None, **service: str) -> list[str]:
        return [c.kind for c in smoke_checks(SmokeConfig(), ServiceConfig(**service), url)]

    always = ["models", "completion", "stream", "bad-request"]
    assert kinds(None) == always
    assert kinds("http://a") == always
    assert kinds("https://a", version_header="x-v") == [*always, "version-header", "tls"]
    assert smoke_checks(SmokeConfig(checks=()), ServiceConfig(), "https://a") == []


@pytest.mark.parametrize(
    ("url", "reason"),
    [("http://llm:port", "Invalid port: 'port'"), ("http://[::1", "Invalid port: ':1'")],
)
def test_what_is_no_address_was_not_asked(url: str, reason: str) -> None:
    aim = Target(Service(url, url + "/v1"), ServiceConfig(model="m"), Path())
    with pytest.raises(NotMeasuredError) as caught:
        measure_health(aim, HttpCheck(name="up", path="/health"))
    assert str(caught.value) == f"GET {url}/health: the request cannot be sent: {reason}"


def test_a_name_about_certificates_is_no_bad_certificate(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: Any, **__: Any) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    url = "https://certificates.example.invalid"
    aim = Target(Service(url, url + "/v1"), ServiceConfig(model="m"), Path())
    with pytest.raises(NotMeasuredError) as caught:
        measure_smoke(aim, SmokeCheck(kind="tls"))
    assert str(caught.value) == (
        f"GET {url}/: cannot connect: [Errno {socket.EAI_NONAME}] Name or service not known"
    )


def test_a_proxy_that_needs_a_further_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://proxy.example:1080")
    monkeypatch.setitem(sys.modules, "socksio", None)
    aim = Target(Service("http://llm.example", ""), ServiceConfig(model="m"), Path())
    with pytest.raises(NotMeasuredError) as caught:
        measure_health(aim, HttpCheck(name="up", path="/health"))
    assert str(caught.value) == (
        "http://llm.example/health cannot be asked with this process's proxy and certificate"
        " variables: Using SOCKS proxy, but the 'socksio' package is not installed. Make sure to"
        " install httpx using `pip install httpx[socks]`."
    )


@pytest.fixture
def within_a_loop() -> Iterator[Callable[[Callable[[], Any]], Any]]:
    """Return what calls a function while an event loop runs in this thread."""
    loop = asyncio.new_event_loop()

    async def call(function: Callable[[], Any]) -> Any:
        return function()

    yield lambda function: loop.run_until_complete(call(function))
    loop.close()


def test_checks_within_a_running_loop(within_a_loop: Callable[..., Any]) -> None:
    check = HttpCheck(name="up", path="/health", timeout=20)
    with RawServer(lambda _request, _number: [http("200 OK")]) as server:
        passed = within_a_loop(lambda: measure_health(target(server), check))
    assert passed.verdict is Verdict.PASS
    with RawServer(lambda _request, _number: [http("500 Oops")]) as server:
        failed = within_a_loop(lambda: measure_health(target(server), check))
        url = server.url
    assert (failed.verdict, failed.reason) == (
        Verdict.FAIL,
        f"GET {url}/health: expected HTTP 200; got HTTP 500 (application/json) ''",
    )


@pytest.mark.timeout(30)
def test_ctrl_c_ends_a_check_within_a_running_loop(within_a_loop: Callable[..., Any]) -> None:
    def interrupt(_request: bytes, _number: int) -> Iterator[Piece]:
        os.kill(os.getpid(), signal.SIGINT)
        yield FOREVER

    check = HttpCheck(name="up", path="/health", timeout=600)
    with RawServer(interrupt) as server, pytest.raises(KeyboardInterrupt):
        within_a_loop(lambda: measure_health(target(server), check))
