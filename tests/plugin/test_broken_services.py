"""No broken service gets a pass: each fault has its verdict, its message and its end in time."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.plugin.conftest import Outcome, Project, free_port
from tests.raw_server import FOREVER, Piece, RawServer, Respond, as_json, completion, http

CONFIG = """
service:
  model: scripted
  version_header: x-llm-version
  timeout: {timeout}
  headers: {{x-llm-fault: "{fault}"}}
environments:
  local: {where}
health:
  checks:
    - {{name: health, path: /health, timeout: {health}, json: {{status: ok}}}}
    - {{name: ready, path: /ready, timeout: {health}}}
smoke:
  checks:
    - {{kind: models, timeout: {timeout}}}
    - {{kind: completion, timeout: {timeout}, prompt: "Say exactly: Hello"}}
    - kind: stream
      timeout: {timeout}
      first_token_timeout: {first}
      prompt: "Say exactly: Hi !"
    - {{kind: bad-request, timeout: {timeout}}}
    - {{kind: version-header, timeout: {timeout}}}
gates:
  echo:
    retries: {retries}
    throttled_timeout: 1
    cases: [{{id: a, prompt: "Say exactly: Paris", assert: ["icontains: paris"]}}]
"""
RECOVERS = """
environments:
  local: {reference: {engine: scripted, faults: [fail-first=2]}}
health: {checks: []}
smoke: {checks: []}
gates:
  echo:
    retries: 2
    cases: [{id: a, prompt: "Say exactly: Paris", assert: ["icontains: paris"]}]
"""
ENOUGH = 20.0
SHORT = 0.5
ITEMS = (
    *("health::health", "health::ready", "smoke::models", "smoke::completion", "smoke::stream"),
    *("smoke::bad-request", "smoke::version-header", "gates::echo::a", "gates::echo::gate"),
)
MODELS, CHAT = "GET {url}/v1/models", "POST {url}/v1/chat/completions"
STREAM = CHAT + " with stream: true"
GIVEN_UP = (
    " (asked N times; an endpoint that refuses for more than 1 s is given up: lower the gate's"
    " concurrency, ask for a higher limit, or raise throttled_timeout)"
)
UNMEASURED = "ERROR none of the 1 cases could be measured"
LIST = 'a list of models: {"data": [{"id": …}, …]}'
PAGE = (
    "HTTP 200 (text/html; charset=utf-8) '<!doctype html><title>Welcome</title>"
    "<h1>It works</h1><p>Planted fault: html.</p>'"
)


def late(seconds: float) -> dict[str, str]:
    """Return the verdicts on a service whose /v1 routes never end their answers."""
    return {
        "smoke::models": f"FAIL {MODELS}: no complete answer within {seconds:g} s",
        "smoke::completion": f"FAIL {CHAT}: no complete answer within {seconds:g} s",
        "smoke::bad-request": f"FAIL {CHAT}: no complete answer within {seconds:g} s",
        "smoke::version-header": f"FAIL {MODELS}: no complete answer within {seconds:g} s",
        "gates::echo::a": f"ERROR {{url}}/v1: no answer within {seconds:g} s",
        "gates::echo::gate": UNMEASURED,
    }


def refused(status: int, said: str, gate: str) -> dict[str, str]:
    """Return the verdicts on a service that answers /v1 with this status alone."""
    kind = {429: "rate_limit_error"}.get(status, "server_error")
    came = (
        f"HTTP {status} (application/json) "
        f'\'{{"error":{{"message":"{said}","type":"{kind}","param":null,"code":null}}}}\''
    )
    return {
        "smoke::models": f"FAIL {MODELS}: expected HTTP 200; got {came}",
        "smoke::completion": f"FAIL {CHAT}: expected HTTP 200; got {came}",
        "smoke::stream": f"FAIL {STREAM}: expected HTTP 200 with text/event-stream; got {came}",
        "smoke::bad-request": f"FAIL {CHAT}: expected HTTP 4xx for a request whose messages are "
        f"not a list; got {came}",
        "gates::echo::a": f"ERROR {{url}}/v1: HTTP {status}: {said}{gate}",
        "gates::echo::gate": UNMEASURED,
    }


def everywhere(health: str, api: str, gate: str) -> dict[str, str]:
    """Return the verdicts on a service whose every route misbehaves alike."""
    return {
        "health::health": f"FAIL GET {{url}}/health: {health}",
        "health::ready": f"FAIL GET {{url}}/ready: {health}",
        "smoke::models": f"FAIL {MODELS}: {api}",
        "smoke::completion": f"FAIL {CHAT}: {api}",
        "smoke::stream": f"FAIL {CHAT}: {api}",
        "smoke::bad-request": f"FAIL {CHAT}: {api}",
        "smoke::version-header": f"FAIL {MODELS}: {api}",
        "gates::echo::a": f"ERROR {{url}}/v1: {gate}",
        "gates::echo::gate": UNMEASURED,
    }


ANSWER = (
    'HTTP 200 (application/json) \'{"id":"ID","object":"chat.completion","created":0,'
    '"model":"scripted","choices":[{"index":0,"message":{"role":"assistant","content":"'
)
PLANTED: dict[str, dict[str, str]] = {
    "hang": late(SHORT)
    | {
        "smoke::stream": f"FAIL {STREAM}: expected a first token within 0.25 s "
        "(first_token_timeout)"
    },
    "latency=1": late(SHORT)
    | {
        "smoke::stream": f"FAIL {STREAM}: expected a first token within 0.25 s "
        "(first_token_timeout)"
    },
    "html": {
        "smoke::models": f"FAIL {MODELS}: expected {LIST}; got {PAGE}",
        "smoke::completion": f"FAIL {CHAT}: expected a chat completion with "
        f"choices[0].message.content; got {PAGE}",
        "smoke::stream": f"FAIL {STREAM}: expected HTTP 200 with text/event-stream; got {PAGE}",
        "smoke::bad-request": f"FAIL {CHAT}: expected HTTP 4xx for a request whose messages are "
        f"not a list; got {PAGE}",
        "gates::echo::a": "ERROR {url}/v1: HTTP 200 (text/html; charset=utf-8), but no chat "
        "completion: '<!doctype html><title>Welcome</title><h1>It works</h1>"
        "<p>Planted fault: html.</p>'",
        "gates::echo::gate": UNMEASURED,
    },
    "cut-stream": {
        "smoke::completion": f"FAIL {CHAT}: the connection broke: peer closed connection without "
        "sending complete message body (received 144 bytes, expected 288)",
        "smoke::stream": f"FAIL {CHAT}: the connection broke: peer closed connection without "
        "sending complete message body (incomplete chunked read)",
        "gates::echo::a": "ERROR {url}/v1: the connection broke: Not enough data to satisfy "
        "content length header (received 144 of 288 bytes).",
        "gates::echo::gate": UNMEASURED,
    },
    "no-done": {
        "smoke::stream": f"FAIL {STREAM}: expected a last event [DONE]; the stream just ended "
        "after 'Hi !'",
    },
    "no-finish": {
        "smoke::completion": f'FAIL {CHAT}: expected a finish_reason; got {ANSWER}Hello"}},'
        '"logprobs":null,"fin…\'',
        "smoke::stream": f"FAIL {STREAM}: expected a finish_reason in the last chunk; "
        "there was none",
    },
    "error-event": {
        "smoke::stream": f"FAIL {STREAM}: expected no error inside the stream; got "
        '\'{"error":{"message":"planted fault: error-event","type":"server_error",'
        '"param":null,"code":null}}\'',
    },
    "wrong-usage": {
        "smoke::completion": f"FAIL {CHAT}: expected token counts that add up, not 7 + 12 = 8; "
        f'got {ANSWER}Hello"}},"logprobs":null,"fin…\'',
        "smoke::stream": f"FAIL {STREAM}: expected token counts that add up, not 8 + 14 = 10 in "
        "the stream",
    },
    "garbage-json": {
        "smoke::models": f"FAIL {MODELS}: expected {LIST}; got HTTP 200 (application/json) "
        '\'{"object":"list","data":[{"id":"scripted","object":"mode\'',
        "smoke::completion": f"FAIL {CHAT}: expected a chat completion with "
        'choices[0].message.content; got HTTP 200 (application/json) \'{"id":"ID",'
        '"object":"chat.completion","created":0,"model":"scripted","choices":[{"index":0,"message":{"r\'',
        "gates::echo::a": "ERROR {url}/v1: HTTP 200 (application/json), but no chat completion: "
        '\'{"id":"ID","object":"chat.completion","created":0,"model":"scripted",'
        '"choices":[{"index":0,"message":{"r\'',
        "gates::echo::gate": UNMEASURED,
    },
    "empty-answer": {
        "smoke::completion": f'FAIL {CHAT}: expected a text that is not empty; got {ANSWER}"}},'
        '"logprobs":null,"finish_r…\'',
        "smoke::stream": f"FAIL {STREAM}: expected some text before the stream's end; it was empty",
        "gates::echo::a": 'FAIL icontains: expected the answer to contain "paris" in any case, '
        'got ""',
        "gates::echo::gate": "FAIL pass rate 0.00 (0 of 1) < min_pass_rate 1.00",
    },
    "error-500": refused(500, "planted fault: error-500", ""),
    "error-429,retry-after=0": refused(429, "planted fault: error-429", GIVEN_UP),
    "bad-error-shape": {
        "smoke::bad-request": f"FAIL {CHAT}: expected HTTP 4xx for a request whose messages are "
        "not a list; got HTTP 500 (text/plain; charset=utf-8) 'Internal Server Error'",
    },
    "no-version-header": {
        "smoke::version-header": f"FAIL {MODELS}: expected a header x-llm-version "
        "(service.version_header), on errors too; got HTTP 200 (application/json) "
        '\'{"object":"list","data":[{"id":"scripted","object":"model","created":0,'
        '"owned_by":"pytest-llmdeploy"}]}\'',
    },
    "unhealthy,not-ready": {
        "health::health": "FAIL GET {url}/health: expected status to be 'ok', not 'degraded'; got "
        'HTTP 200 (application/json) \'{"status":"degraded","version":"1.0.0","color":"",'
        '"environment":"local","model":"scripted","engine":"scripted","uptime_seconds":0,'
        '"in_flight":0}\'',
        "health::ready": "FAIL GET {url}/ready: expected HTTP 200; got HTTP 503 "
        '(application/json) \'{"status":"not-ready"}\'',
    },
}
"""Fault of the reference service to what is not a pass with it."""


def always(answer: bytes) -> Respond:
    return lambda _request, _number: [answer]


def drop(_request: bytes, _number: int) -> list[Piece]:
    return []


def trickle(_request: bytes, _number: int) -> Iterator[Piece]:
    yield b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000000\r\n\r\n"
    while True:
        yield b" "
        yield 0.02


def mute(_request: bytes, _number: int) -> list[Piece]:
    return [FOREVER]


def elsewhere(_request: bytes, _number: int) -> list[Piece]:
    return [http("302 Found", b"", "text/html", "location: /login")]


HUGE = json.dumps(completion("a" * 10 * 1024 * 1024)).encode()
DENIED = as_json({"error": {"message": "no such key"}}, "401 Unauthorized")
DENIED_CAME = 'HTTP 401 (application/json) \'{"error": {"message": "no such key"}}\''
TOO_LONG = "the answer is longer than 1 MiB"
BROKE = "the connection broke: "


def wrongly(came: str, gate: str) -> dict[str, str]:
    """Return the verdicts on a service whose every route gives the same wrong answer."""
    return everywhere("", "", gate) | {
        "health::health": f"FAIL GET {{url}}/health: expected HTTP 200; got {came}",
        "health::ready": f"FAIL GET {{url}}/ready: expected HTTP 200; got {came}",
        "smoke::models": f"FAIL {MODELS}: expected HTTP 200; got {came}",
        "smoke::completion": f"FAIL {CHAT}: expected HTTP 200; got {came}",
        "smoke::stream": f"FAIL {STREAM}: expected HTTP 200 with text/event-stream; got {came}",
        "smoke::bad-request": f"FAIL {CHAT}: expected HTTP 4xx for a request whose messages are "
        f"not a list; got {came}",
        "smoke::version-header": f"FAIL {MODELS}: expected a header x-llm-version "
        f"(service.version_header), on errors too; got {came}",
    }


RAW: dict[str, tuple[Respond, dict[str, str]]] = {
    "drops": (
        drop,
        everywhere(
            BROKE + "Server disconnected without sending a response.",
            BROKE + "Server disconnected without sending a response.",
            BROKE + "Server disconnected",
        ),
    ),
    "mute": (
        mute,
        late(SHORT)
        | {
            "health::health": "FAIL GET {url}/health: no complete answer within 0.5 s",
            "health::ready": "FAIL GET {url}/ready: no complete answer within 0.5 s",
            "smoke::stream": f"FAIL {STREAM}: expected a first token within 0.25 s "
            "(first_token_timeout)",
        },
    ),
    "trickle": (
        trickle,
        late(SHORT)
        | {
            "health::health": "FAIL GET {url}/health: no complete answer within 0.5 s",
            "health::ready": "FAIL GET {url}/ready: no complete answer within 0.5 s",
            "smoke::stream": f"FAIL {STREAM}: expected a first token within 0.25 s "
            "(first_token_timeout)",
        },
    ),
    "huge": (
        always(http("200 OK", HUGE, "application/json", "x-llm-version: 1")),
        everywhere(TOO_LONG, TOO_LONG, TOO_LONG) | {"smoke::stream": f"FAIL {STREAM}: {TOO_LONG}"},
    ),
    "denied": (
        always(DENIED),
        wrongly(DENIED_CAME, "HTTP 401: no such key (check service.api_key)"),
    ),
    "redirect": (
        elsewhere,
        wrongly("HTTP 302 (text/html) ''", BROKE + "Exceeded maximum allowed redirects."),
    ),
}
"""What a raw server does to what is not a pass with it."""
QUICK = ("hang", "latency=1", "mute", "trickle")
"""Faults of time: their deadlines are short, those of the others never matter."""


def slug(fault: str) -> str:
    return re.sub(r"\W+", "-", fault)


def configuration(fault: str, url: str) -> str:
    planted = fault if fault in PLANTED else ""
    return CONFIG.format(
        fault=planted,
        where=f'{{url: "{url}"}}',
        timeout=SHORT if fault in QUICK else ENOUGH,
        health=SHORT if fault in QUICK and fault in RAW else ENOUGH,
        first=SHORT / 2 if fault in QUICK else ENOUGH,
        retries=2 if "429" in fault else 0,
    )


@pytest.fixture(scope="module")
def urls(scripted_url: str) -> Iterator[dict[str, str]]:
    """Return where each broken service listens."""
    with ExitStack() as stack:
        raw = {
            name: stack.enter_context(RawServer(respond)).url for name, (respond, _) in RAW.items()
        }
        dead = f"http://127.0.0.1:{free_port()}"
        yield {**dict.fromkeys(PLANTED, scripted_url), **raw, "dead": dead}


@pytest.fixture(scope="module")
def everything(
    tmp_path_factory: pytest.TempPathFactory, urls: dict[str, str]
) -> tuple[Project, Outcome]:
    """Return one run against all broken services, each with a file of its own."""
    path = tmp_path_factory.mktemp("broken")
    project = Project(path, "")
    project.write("pytest.ini", "[pytest]\n")
    for fault, url in urls.items():
        project.write(f"{slug(fault)}/llmdeploy.yaml", configuration(fault, url))
    project.write("recovers/llmdeploy.yaml", RECOVERS)
    return project, project.run()


def found(done: Outcome, fault: str) -> dict[str, str]:
    """Return verdict and reason by item of one service, without what differs from run to run."""
    items = {}
    for item in done.report["items"]:
        folder, _, name = item["nodeid"].partition("/llmdeploy.yaml::")
        if folder == slug(fault):
            reason = re.sub(r"chatcmpl-\w+", "ID", item["reason"])
            reason = re.sub(r'"(created|uptime_seconds)":[\d.]+', r'"\1":0', reason)
            reason = re.sub(r"asked \d+ times", "asked N times", reason)
            items[name] = f"{item['verdict']} {reason}"
    return items


def expected(wrong: dict[str, str], url: str) -> dict[str, str]:
    fine = dict.fromkeys(ITEMS, "PASS as expected") | {
        "gates::echo::a": "PASS 1 of 1 assertions passed",
        "gates::echo::gate": "PASS pass rate 1.00 (1 of 1) >= min_pass_rate 1.00",
    }
    return fine | {name: text.replace("{url}", url) for name, text in wrong.items()}


Everything = tuple[Project, Outcome]


@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_fault(everything: Everything, urls: dict[str, str], fault: str) -> None:
    assert found(everything[1], fault) == expected(PLANTED[fault], urls[fault])


@pytest.mark.parametrize("fault", RAW)
def test_a_server_that_is_none(everything: Everything, urls: dict[str, str], fault: str) -> None:
    assert found(everything[1], fault) == expected(RAW[fault][1], urls[fault])


def test_a_dead_service_is_an_error_everywhere(
    everything: Everything, urls: dict[str, str]
) -> None:
    url = urls["dead"]
    cannot = "cannot connect: All connection attempts failed"
    port = url.rpartition(":")[2]
    assert found(everything[1], "dead") == {
        "health::health": f"ERROR GET {url}/health: {cannot}",
        "health::ready": f"ERROR GET {url}/ready: {cannot}",
        "smoke::models": f"ERROR GET {url}/v1/models: {cannot}",
        "smoke::completion": f"ERROR POST {url}/v1/chat/completions: {cannot}",
        "smoke::stream": f"ERROR POST {url}/v1/chat/completions: {cannot}",
        "smoke::bad-request": f"ERROR POST {url}/v1/chat/completions: {cannot}",
        "smoke::version-header": f"ERROR GET {url}/v1/models: {cannot}",
        "gates::echo::a": f"ERROR {url}/v1 cannot be reached: [Errno 111] Connect call failed "
        f"('127.0.0.1', {port})",
        "gates::echo::gate": UNMEASURED,
    }


def test_a_service_that_asks_for_patience_passes_with_its_attempts_on_record(
    everything: Everything,
) -> None:
    done = everything[1]
    assert found(done, "recovers") == {
        "gates::echo::a": "PASS 1 of 1 assertions passed",
        "gates::echo::gate": "PASS pass rate 1.00 (1 of 1) >= min_pass_rate 1.00",
    }
    (attempts,) = [
        item["detail"]["samples"][0]["attempts"]
        for item in done.report["items"]
        if item["nodeid"] == "recovers/llmdeploy.yaml::gates::echo::a"
    ]
    assert attempts == 3


def test_the_run_as_a_whole(everything: Everything) -> None:
    _, done = everything
    assert done.code == 1, done.out
    assert "Traceback" not in done.out
    assert "INTERNALERROR" not in done.out
    assert "aaaaaaaaaa" * 100 not in done.out
    assert done.report["overall_status"] == "fail"
    quick = {slug(fault) for fault in QUICK}
    waited = [
        item["duration"]
        for item in done.report["items"]
        if item["nodeid"].partition("/")[0] in quick
    ]
    assert len(waited) == len(QUICK) * len(ITEMS)
    assert max(waited) < ENOUGH / 2  # of deadlines of half a second, on a busy machine


def test_gates_without_answers_are_10(everything: Everything) -> None:
    project = everything[0]
    folders = [slug(fault) for fault in ("dead", "html", "denied", "error-500", "huge")]
    done = project.run("-m", "gates", *folders)
    assert done.code == 10, done.out
    assert set(done.verdicts().values()) == {"ERROR"}
    assert "failed" not in done.counts()
    assert "Traceback" not in done.out
