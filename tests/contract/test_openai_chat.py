"""The chat client against the reference service and against servers that break the rules."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import time
import zlib
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from pytest_llmdeploy.errors import NotMeasuredError, ThrottledError, UnreachableError
from pytest_llmdeploy.models.openai_chat import Endpoint, OpenAIChatModel, sync_client
from pytest_llmdeploy.ports import Answer
from tests.contract.conftest import Running, Start
from tests.raw_server import FOREVER, Piece, RawServer, as_json, completion, http

QUESTION = [{"role": "user", "content": "Say exactly: Paris"}]
TIMEOUT = 20.0
FINE = as_json(completion(), "200 OK", "x-llm-version: 7")


def ask(
    endpoint: Endpoint, *, retries: int = 3, timeout: float = TIMEOUT, **parameters: Any
) -> Answer:
    """Ask once, with a client of its own."""

    async def asking() -> Answer:
        model = OpenAIChatModel(endpoint, retries=retries)
        try:
            return await model.ask(QUESTION, parameters, timeout)
        finally:
            await model.aclose()

    return asyncio.run(asking())


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the waits between attempts, none of which is waited."""
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    return waited


def raw(server: RawServer, **more: Any) -> Endpoint:
    return Endpoint(server.url + "/v1", **{"model": "m", **more})


def broken(server: RawServer, error: type[NotMeasuredError] = NotMeasuredError, **more: Any) -> str:
    """Ask without retries and return the error's text; its type must be `error` itself."""
    with pytest.raises(NotMeasuredError) as caught:
        ask(raw(server), **{"retries": 0, **more})
    assert type(caught.value) is error
    return str(caught.value).replace(server.url, "URL")


def test_an_answer_with_all_its_parts(scripted: Running) -> None:
    endpoint = Endpoint(scripted.url + "/v1", version_header="X-LLM-Version")
    answer = ask(endpoint, max_tokens=5)
    assert answer.latency > 0
    assert answer == Answer(
        text="Paris",
        finish_reason="stop",
        prompt_tokens=7,
        completion_tokens=1,
        latency=answer.latency,
        model="scripted",
        version="1.0.0",
        attempts=1,
        extra={},
    )


def test_what_is_sent() -> None:
    with RawServer(lambda _request, _number: [FINE]) as server:
        endpoint = raw(server, api_key="k-123", headers={"x-tenant": "blue"})
        assert ask(endpoint, temperature=0, guided_choice=["a"]).version is None
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v1/chat/completions HTTP/1.1\r\n")
    lines = {line.lower() for line in head.split(b"\r\n")}
    assert {b"authorization: bearer k-123", b"x-tenant: blue"} <= lines
    assert json.loads(body) == {
        "model": "m",
        "messages": QUESTION,
        "temperature": 0,
        "guided_choice": ["a"],
    }
    assert "k-123" not in repr(endpoint)
    assert "blue" not in repr(endpoint)


def test_what_else_the_message_holds_is_extra() -> None:
    calls = [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    sent = as_json(completion(None, tool_calls=calls, refusal=None, reasoning="because"))
    with RawServer(lambda _request, _number: [sent]) as server:
        answer = ask(raw(server))
    assert answer.text == ""
    assert answer.extra == {"tool_calls": calls, "reasoning": "because"}


def test_retries_until_it_answers(waits: list[float]) -> None:
    again = as_json({"error": {"message": "busy"}}, "503 Unavailable", "retry-after: 0")
    with RawServer(lambda _request, number: [again if number < 3 else FINE]) as server:
        answer = ask(raw(server), retries=2)
    assert (answer.text, answer.attempts) == ("Paris", 3)
    assert waits == [0, 0]


def test_retries_end(start: Start, waits: list[float]) -> None:
    again = as_json({"error": {"message": "busy"}}, "503 Unavailable", "retry-after: 0")
    with RawServer(lambda _request, _number: [again]) as server:
        with pytest.raises(NotMeasuredError) as caught:
            ask(raw(server), retries=2)
        assert str(caught.value) == f"{server.url}/v1: HTTP 503: busy (attempt 3)"
    assert caught.value.attempts == 3
    assert waits == [0, 0]


def test_a_refusal_because_of_too_many_requests_is_told_at_once(
    start: Start, waits: list[float]
) -> None:
    service = start("--fault", "fail-first=3", "--ttft", "0")
    with pytest.raises(ThrottledError) as caught:
        ask(Endpoint(service.url + "/v1", "scripted"), retries=2)
    assert str(caught.value) == f"{service.url}/v1: HTTP 429: planted fault: fail-first"
    assert caught.value.wait == 0
    assert waits == []


def test_an_account_without_money_is_not_waited_for() -> None:
    error = {"message": "You exceeded your current quota", "code": "insufficient_quota"}
    poor = as_json({"error": error}, "429 Too Many Requests")
    with RawServer(lambda _request, _number: [poor]) as server:
        said = broken(server, UnreachableError)
    assert said == "URL/v1: HTTP 429: You exceeded your current quota"


def test_log_probabilities_are_those_of_the_tokens() -> None:
    told = completion()
    told["choices"][0]["logprobs"] = {"content": [{"logprob": -0.5}, {"logprob": -1}]}
    with RawServer(lambda _request, _number: [as_json(told)]) as server:
        assert ask(raw(server)).logprobs == [-0.5, -1.0]
    told["choices"][0]["logprobs"] = {"content": [{"logprob": "high"}]}
    with RawServer(lambda _request, _number: [as_json(told)]) as server:
        assert ask(raw(server)).logprobs is None


@pytest.mark.parametrize(
    ("header", "wait"),
    [
        ("retry-after: 7", 7),
        ("retry-after: 2.5", 2.5),
        ("retry-after-ms: 1500\r\nretry-after: 9", 1.5),
        ("retry-after: -3", None),
        ("retry-after: soon", None),
        ("retry-after: Wed, 21 Oct 2015 07:28:00 GMT", 0),
        ("x-nothing: 1", None),
    ],
)
def test_retry_after(waits: list[float], header: str, wait: float | None) -> None:
    again = as_json({"error": {"message": "busy"}}, "503 Unavailable", header)
    with RawServer(lambda _request, number: [again if number == 1 else FINE]) as server:
        assert ask(raw(server)).attempts == 2
    if wait is None:
        assert 0.3 < waits[0] < 0.7  # our own backoff
    else:
        assert waits == [wait]


def test_retry_after_as_a_date_to_come(waits: list[float]) -> None:
    date = formatdate(time.time() + 30, usegmt=True)
    again = http("503 Unavailable", b"", "text/plain", f"retry-after: {date}")
    with RawServer(lambda _request, number: [again if number == 1 else FINE]) as server:
        assert ask(raw(server)).attempts == 2
    assert 20 < waits[0] <= 30


def test_a_wait_beyond_the_longest_is_not_waited(waits: list[float]) -> None:
    again = as_json({"error": {"message": "busy"}}, "503 Unavailable", "retry-after: 3600")
    with RawServer(lambda _request, _number: [again]) as server:
        assert broken(server, retries=5) == "URL/v1: HTTP 503: busy"
    assert len(server.requests) == 1
    assert waits == []


def test_backoff_doubles(waits: list[float]) -> None:
    with RawServer(lambda _request, _number: [http("500 Oops", b"out of memory")]) as server:
        assert broken(server, retries=3) == "URL/v1: HTTP 500: out of memory (attempt 4)"
    for wait, middle in zip(waits, (0.5, 1, 2), strict=True):
        assert 0.75 * middle <= wait <= 1.25 * middle


def test_the_latency_is_that_of_the_attempt_that_was_answered() -> None:
    def slow_first(_request: bytes, number: int) -> Iterator[Piece]:
        if number == 1:
            yield 0.5
            yield as_json({}, "503 Unavailable", "retry-after: 0.5")
        yield FINE

    with RawServer(slow_first) as server:
        begun = time.perf_counter()
        answer = ask(raw(server))
        whole = time.perf_counter() - begun
    assert answer.attempts == 2
    assert answer.latency < whole - 0.9


def test_no_answer_in_time() -> None:
    with RawServer(lambda _request, _number: [FOREVER]) as server:
        assert broken(server, timeout=0.2) == "URL/v1: no answer within 0.2 s"


def test_an_answer_that_trickles_is_late_too() -> None:
    def trickle(_request: bytes, _number: int) -> Iterator[Piece]:
        yield b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n"
        while True:
            yield b" "
            yield 0.01

    with RawServer(trickle) as server:
        assert broken(server, timeout=0.3) == "URL/v1: no answer within 0.3 s"


def test_a_refused_connection_is_hopeless(waits: list[float]) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    for model, path in (("m", ""), (None, "/models")):
        with pytest.raises(UnreachableError) as caught:
            ask(Endpoint(f"http://127.0.0.1:{port}/v1", model), retries=1)
        assert str(caught.value) == (
            f"http://127.0.0.1:{port}/v1{path} cannot be reached: [Errno 111] Connect call failed "
            f"('127.0.0.1', {port}) (attempt 2)"
        )
    assert len(waits) == 2


@pytest.mark.parametrize(
    ("status", "hint"),
    [
        ("401 Unauthorized", " (check service.api_key)"),
        ("403 Forbidden", " (check service.api_key)"),
        ("404 Not Found", ""),
    ],
)
def test_a_refusal_that_stays_is_hopeless(waits: list[float], status: str, hint: str) -> None:
    with RawServer(lambda _request, _number: [as_json({"error": {"message": "no"}}, status)]) as it:
        text = broken(it, UnreachableError, retries=3)
    assert text == f"URL/v1: HTTP {status[:3]}: no{hint}"
    assert (len(it.requests), waits) == (1, [])


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        (
            http("200 OK", b"<h1>It\nworks</h1>", "text/html"),
            "HTTP 200 (text/html), but no chat completion: '<h1>It works</h1>'",
        ),
        (
            http("200 OK", b'{"choices": [{"mess'),
            'HTTP 200 (application/json), but no chat completion: \'{"choices": [{"mess\'',
        ),
        (
            as_json({"choices": []}),
            "HTTP 200 (application/json), but no chat completion: '{\"choices\": []}'",
        ),
        (
            as_json({"choices": [{"message": {"content": 5}}]}),
            "HTTP 200 (application/json), but no chat completion: "
            '\'{"choices": [{"message": {"content": 5}}]}\'',
        ),
        (
            http("200 OK", b'{"choices": [{"message": {"content": NaN}}]}'),
            "HTTP 200 (application/json), but no chat completion: "
            '\'{"choices": [{"message": {"content": NaN}}]}\'',
        ),
        (
            http("200 OK", b"[" * 100_000),
            f"HTTP 200 (application/json), but no chat completion: '{'[' * 200}…'",
        ),
        (
            http("200 OK", b""),
            "HTTP 200 (application/json), but no chat completion: ''",
        ),
        (
            as_json(completion("a" * 2**20)),
            "the answer is longer than 1 MiB",
        ),
        (
            as_json({"error": {"message": "bad\x1b[2J\nrequest"}}, "400 Bad Request"),
            "HTTP 400: bad?[2J request",
        ),
        (b"", "the connection broke: Server disconnected"),
        (
            b"SSH-2.0-OpenSSH\r\n\r\n",
            "the connection broke: Bad status line: Expected HTTP/, RTSP/ or ICE/: "
            "b'SSH-2.0-OpenSSH' ^",
        ),
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}",
            "the connection broke: Not enough data to satisfy content length header "
            "(received 2 of 9 bytes).",
        ),
        (
            http("302 Found", b"", "text/html", "location: /again"),
            "the connection broke: Exceeded maximum allowed redirects.",
        ),
    ],
    ids=lambda value: None if isinstance(value, bytes) else "",
)
def test_no_answer_to_judge(sent: bytes, text: str) -> None:
    with RawServer(lambda _request, _number: [sent]) as server:
        assert broken(server) == f"URL/v1: {text}"


@pytest.mark.parametrize("usage", ["none", {"prompt_tokens": [1], "completion_tokens": "2"}])
def test_careless_answers_are_answers(usage: Any) -> None:
    bare = {"choices": [{"message": {"content": "caf\ud800e"}}], "usage": usage}
    with RawServer(lambda _request, _number: [as_json(bare)]) as server:
        answer = ask(raw(server))
    assert answer.text == "caf?e"
    assert (answer.finish_reason, answer.prompt_tokens, answer.completion_tokens) == (None,) * 3
    assert answer.model == "m"


def test_what_is_nested_too_deeply_beside_the_answer_is_left_out() -> None:
    deep: Any = []
    for _ in range(400):
        deep = [deep]
    sent = as_json(completion("Paris", reasoning={"steps": deep}, refusal=["no"]))
    with RawServer(lambda _request, _number: [sent]) as server:
        answer = ask(raw(server))
    assert answer.text == "Paris"
    left: Any = "(left out: nested more than 20 levels deep)"
    for _ in range(19):
        left = [left]
    assert answer.extra == {"reasoning": {"steps": left}, "refusal": ["no"]}


def endless(status: str, *, gzip: bool) -> Iterator[Piece]:
    """Yield an answer that never ends, of the letter a."""
    coding = "content-encoding: gzip\r\n" if gzip else ""
    yield f"HTTP/1.1 {status}\r\ncontent-type: text/plain\r\n{coding}\r\n".encode()
    packer = zlib.compressobj(wbits=31)
    plain = b"a" * 100_000
    while True:
        yield packer.compress(plain) + packer.flush(zlib.Z_SYNC_FLUSH) if gzip else plain


@pytest.mark.parametrize("gzip", [False, True])
def test_an_answer_without_end_is_not_read_to_its_end(gzip: bool) -> None:
    with RawServer(lambda _request, _number: endless("200 OK", gzip=gzip)) as server:
        assert broken(server) == "URL/v1: the answer is longer than 1 MiB"
    with RawServer(lambda _request, _number: endless("200 OK", gzip=gzip)) as server:
        with pytest.raises(NotMeasuredError) as caught:
            ask(raw(server, model=None), retries=0)
        assert str(caught.value) == f"{server.url}/v1: the answer is longer than 1 MiB"
    with RawServer(lambda _request, _number: endless("500 Oops", gzip=gzip)) as server:
        assert broken(server) == f"URL/v1: HTTP 500: {'a' * 200}…"


def test_an_answer_in_gzip_is_unpacked() -> None:
    packer = zlib.compressobj(wbits=31)
    body = packer.compress(json.dumps(completion("Paris " * 1000)).encode()) + packer.flush()
    sent = http("200 OK", body, "application/json", "content-encoding: gzip")
    with RawServer(lambda _request, _number: [sent]) as server:
        assert ask(raw(server)).text == "Paris " * 1000


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        (
            http("200 OK", b"<p>hi</p>", "text/html"),
            "URL/v1: HTTP 200 (text/html), but no list of models: '<p>hi</p>' (set service.model)",
        ),
        (
            as_json({"data": []}),
            "URL/v1: HTTP 200 (application/json), but no list of models: '{\"data\": []}' "
            "(set service.model)",
        ),
        (as_json({}, "401 Unauthorized"), "URL/v1/models: HTTP 401: {} (check service.api_key)"),
    ],
)
def test_no_model_to_name(sent: bytes, text: str) -> None:
    with RawServer(lambda _request, _number: [sent]) as server:
        with pytest.raises(UnreachableError) as caught:
            ask(raw(server, model=None))
        assert str(caught.value).replace(server.url, "URL") == text


def test_a_model_is_looked_for_once_and_a_hanging_list_waited_for_once() -> None:
    async def many(endpoint: Endpoint, timeout: float) -> list[Any]:
        model = OpenAIChatModel(endpoint, retries=0)
        asked = [model.ask(QUESTION, {}, timeout) for _ in range(8)]
        try:
            return await asyncio.gather(*asked, return_exceptions=True)
        finally:
            await model.aclose()

    def listing(request: bytes, _number: int) -> list[Piece]:
        return [as_json({"data": [{"id": "raw"}]}) if request.startswith(b"GET") else FINE]

    with RawServer(listing) as server:
        answers = asyncio.run(many(raw(server, model=None), TIMEOUT))
    assert {answer.model for answer in answers} == {"raw"}
    assert sum(request.startswith(b"GET /v1/models ") for request in server.requests) == 1

    with RawServer(lambda _request, _number: [FOREVER]) as server:
        errors = asyncio.run(many(raw(server, model=None), 0.3))
    assert {str(error) for error in errors} == {f"{server.url}/v1/models: no answer within 0.3 s"}
    assert len(server.requests) == 1


def test_proxies_are_not_for_this_machine(
    scripted: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    endpoint = Endpoint(scripted.url + "/v1")
    assert ask(endpoint, retries=0).text == "Paris"
    with sync_client(endpoint) as client:
        assert client.models.list().data[0].id == "scripted"


def test_proxies_are_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    with RawServer(lambda _request, _number: [FINE]) as server:
        for name in ("HTTP_PROXY", "http_proxy"):
            monkeypatch.setenv(name, server.url)
        for name in ("NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.delenv(name, raising=False)
        assert ask(Endpoint("http://llm.example/v1", "m"), retries=0).text == "Paris"
    assert server.requests[0].startswith(b"POST http://llm.example/v1/chat/completions ")


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://llm:port/v1", "Port could not be cast to integer value as 'port'"),
        ("http://llm:99999/v1", "Port out of range 0-65535"),
        ("http://[::1/v1", "Invalid IPv6 URL"),
    ],
)
def test_what_is_no_address(url: str, reason: str) -> None:
    for make in (OpenAIChatModel, sync_client):
        with pytest.raises(UnreachableError) as caught:
            make(Endpoint(url, "m"))
        assert str(caught.value) == f"{url} is no address: {reason}"


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        ("ALL_PROXY", "foo://proxy.example", "Unknown scheme for proxy URL URL('foo://proxy."),
        ("HTTPS_PROXY", "http://[::1", "Invalid port: ':1'"),
        ("SSL_CERT_FILE", "/no/such/file", "[Errno 2] No such file or directory"),
    ],
)
def test_variables_of_which_no_client_can_be_made(
    variable: str, value: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    for make in (OpenAIChatModel, sync_client):
        with pytest.raises(UnreachableError) as caught:
            make(Endpoint("https://llm.example/v1", "m"))
        assert str(caught.value).startswith(
            "https://llm.example/v1 cannot be asked with this process's proxy and certificate"
            f" variables: {reason}"
        )


def test_a_proxy_that_needs_a_further_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://proxy.example:1080")
    monkeypatch.setitem(sys.modules, "socksio", None)
    with pytest.raises(UnreachableError) as caught:
        sync_client(Endpoint("https://llm.example/v1", "m"))
    assert str(caught.value) == (
        "https://llm.example/v1 cannot be asked with this process's proxy and certificate"
        " variables: Using SOCKS proxy, but the 'socksio' package is not installed. Make sure to"
        " install httpx using `pip install httpx[socks]`."
    )


def test_a_ca_file_that_cannot_be_used(tmp_path: Path) -> None:
    broken_file = tmp_path / "broken.pem"
    broken_file.write_text("no certificate")
    for file, why in (
        (tmp_path / "absent.pem", "No such file or directory"),
        (broken_file, "[X509: NO_CERTIFICATE_OR_CRL_FOUND] no certificate or crl found"),
    ):
        with pytest.raises(UnreachableError) as caught:
            sync_client(Endpoint("https://llm.example/v1", "m", ca_file=file))
        assert str(caught.value).startswith(f"service.ca_file: {file} cannot be used: {why}")
