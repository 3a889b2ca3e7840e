"""Answers of a Prometheus that a real one does not give, and what is sent to it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from pytest_llmdeploy.config.canary import PrometheusConfig
from pytest_llmdeploy.errors import ConfigError, MissingExtraError, NoDataError, NotMeasuredError
from pytest_llmdeploy.metrics.prometheus import PrometheusSource
from pytest_llmdeploy.ports import Subject
from tests.unit.metrics.servers import Said, serving

CANARY = Subject("canary", "green", "2.0.0", ("g-1",))
QUERY = 'sum(a{version="2.0.0"})'
TOKEN = "s3cret-token-of-the-test"


@pytest.fixture
def server() -> Iterator[Said]:
    with serving() as said:
        yield said


def answer(*series: object, kind: str = "vector") -> str:
    data = {"resultType": kind, "result": list(series)}
    return json.dumps({"status": "success", "data": data})


def vector(value: str, **labels: str) -> dict[str, Any]:
    return {"metric": labels, "value": [1000.0, value]}


def source(server: Said, query: str = 'sum(a{version="{{version}}"})', **fields: Any) -> Any:
    config = PrometheusConfig(url=server.url + "/prefix/", **fields)
    return PrometheusSource(config, "reference", queries={"throughput": query})


def read(server: Said, **fields: Any) -> float:
    one = source(server, **fields)
    try:
        value: float = one.read("throughput", CANARY, 970.0, 1000.0).value
        return value
    finally:
        one.close()


def test_what_is_sent(server: Said) -> None:
    server.text = answer(vector("1000"))
    assert read(server, token=TOKEN, headers={"X-Scope-OrgID": "shop"}) == 1000
    path, headers = server.asked[0]
    assert urlsplit(path).path == "/prefix/api/v1/query"
    assert parse_qs(urlsplit(path).query) == {
        "query": [QUERY],
        "time": ["1000.000"],
        "timeout": ["10000ms"],
        "lookback_delta": ["30000ms"],
    }
    assert headers["authorization"] == f"Bearer {TOKEN}"
    assert headers["x-scope-orgid"] == "shop"
    ages = parse_qs(urlsplit(server.asked[1][0]).query)["query"]
    assert ages == [
        'label_replace(max(timestamp(a{version="2.0.0"})), "llmdeploy_selector", "0", "", "")'
    ]


def test_an_old_sample_is_stale(server: Said) -> None:
    server.text = answer(vector("960"))  # the value, and its time
    with pytest.raises(NoDataError) as raised:
        read(server)
    assert str(raised.value) == (
        f"prometheus: {QUERY}: stale: the latest sample is 40 s old, more than two scrape "
        "intervals (30 s)"
    )


@pytest.mark.parametrize(
    ("text", "status", "why"),
    [
        ("", 200, "the answer is none of its API"),
        ("<html>", 200, "the answer is none of its API"),
        ("{}", 200, "the answer is none of its API (KeyError('data'))"),
        ('{"data": null}', 200, "the answer is none of its API"),
        ('{"data": {"result": {}}}', 200, "the answer is none of its API (no list of results)"),
        ('{"data": {"result": [{"value": [1, "2"]}]}}', 200, "the answer is none of its API"),
        (answer(vector("many")), 200, "'many' is no number"),
        (
            '{"status": "error", "errorType": "bad_data", "error": "it\'s \\"wrong\\""}',
            400,
            'HTTP Status Code 400: it\'s "wrong"',
        ),
        ("upstream is gone", 503, "PrometheusApiClientException: HTTP Status Code 503 (b'upstream"),
        (f"who is {TOKEN}?", 401, "PrometheusApiClientException: HTTP Status Code 401 (b'who is *"),
    ],
)
def test_what_is_no_answer_is_not_measured(server: Said, text: str, status: int, why: str) -> None:
    server.text, server.status = text, status
    with pytest.raises(NotMeasuredError) as raised:
        read(server, token=TOKEN)
    assert not isinstance(raised.value, NoDataError)
    assert str(raised.value).startswith(f"prometheus: {QUERY}: {why}")
    assert TOKEN not in str(raised.value)
    assert len(server.asked) == 1


def test_nan_in_an_answer_is_no_data(server: Said) -> None:
    for value in ("NaN", "+Inf", "-Inf"):
        server.text = answer(vector(value))
        with pytest.raises(NoDataError, match="which is no measurement"):
            read(server)


def test_secrets_are_not_taken_elsewhere(server: Said) -> None:
    with serving() as other:
        server.status, server.headers = 302, {"location": other.url}
        with pytest.raises(NotMeasuredError, match="TooManyRedirects"):
            read(server, token=TOKEN)
        assert other.asked == []


def test_a_silent_server_is_not_waited_for(server: Said) -> None:
    server.trickle = True
    server.text = ""
    with pytest.raises(NotMeasuredError, match="prometheus: sum"):
        _silent(server)


def _silent(server: Said) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        config = PrometheusConfig(url=url, timeout=0.2)
        one = PrometheusSource(config, "reference", queries={"throughput": "sum(a{})"})
        try:
            one.read("throughput", CANARY, 1, 2)
        finally:
            one.close()


def test_answers_are_asked_for_once(server: Said) -> None:
    server.text = answer()
    one = source(server)
    for signal in ("error_rate", "error_rate", "throughput"):
        with pytest.raises(NoDataError):
            one.read(signal, CANARY, 970.0, 1000.0)
    queries = [parse_qs(urlsplit(path).query)["query"][0] for path, _ in server.asked]
    assert queries == [
        'llm_requests_total{pod=~"g-1", route=~"/v1/.*"}[61s]',
        'last_over_time(llm_service_info{version=~"2\\\\.0\\\\.0"}[61s])',
        QUERY,
    ]
    one.close()


def test_placeholders_that_are_unknown_are_errors_of_the_file(server: Said) -> None:
    with pytest.raises(ConfigError) as raised:
        source(server, 'a{b="{{colour}}"}')
    assert str(raised.value).startswith(
        "llmdeploy.yaml: canary.metrics.queries.throughput: {{colour}} is not known; known are "
    )


def test_what_a_query_needs_of_the_version(server: Said) -> None:
    nameless = Subject("canary", "green", None)
    with pytest.raises(NotMeasuredError, match="does not say what it is called"):
        source(server).read("throughput", nameless, 1, 2)
    with pytest.raises(NoDataError, match="the canary version has no replicas"):
        source(server, 'a{pod=~"{{pods}}"}').read("throughput", nameless, 1, 2)
    assert server.asked == []


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, server: Said) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_api_client", None)
    with pytest.raises(MissingExtraError) as raised:
        source(server)
    assert str(raised.value) == (
        "the source 'prometheus' of canary.metrics needs the package 'prometheus-api-client', "
        "which is not installed: pip install 'pytest-llmdeploy[prometheus]'"
    )


def test_tls(tmp_path: Path) -> None:
    trustme = pytest.importorskip("trustme")
    import ssl
    import threading
    from http.server import BaseHTTPRequestHandler, HTTPServer

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = answer(vector("3")).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    httpd = HTTPServer(("127.0.0.1", 0), Handler)
    httpd.socket = context.wrap_socket(httpd.socket, server_side=True)
    threading.Thread(target=httpd.serve_forever, args=(0.02,), daemon=True).start()
    url = f"https://127.0.0.1:{httpd.server_port}"

    def value(**fields: Any) -> float:
        config = PrometheusConfig(url=url, **fields)
        one = PrometheusSource(
            config, "reference", queries={"throughput": "vector(3)"}, directory=tmp_path
        )
        try:
            return one.read("throughput", CANARY, 1, 2).value
        finally:
            one.close()

    try:
        assert value(ca_file="ca.pem") == 3
        assert value(verify_tls=False) == 3
        with pytest.raises(NotMeasuredError, match="certificate verify failed"):
            value()
        with pytest.raises(NotMeasuredError, match=r"vector\(3\): OSError: Could not find"):
            value(ca_file="other.pem")
    finally:
        httpd.shutdown()
        httpd.server_close()
