"""The answers of both versions: asked of each, each time, and never of somebody else."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import pytest

from pytest_llmdeploy.assembly import Assembly
from pytest_llmdeploy.assembly.canaries import canary_state, check_canary
from pytest_llmdeploy.config.loader import LoadedConfig, load_config
from pytest_llmdeploy.errors import ConfigError
from pytest_llmdeploy.ports import RoutableFleet, Router
from pytest_llmdeploy.release.routed import RoutedFleet
from pytest_llmdeploy.run import Run

FILE = """
service: {model: m}
environments: {local: {reference: {}}}
gates:
  facts:
    cases:
      - {id: capital, prompt: "Capital of France?", assert: ["contains: Paris"]}
      - {id: sum, prompt: "1 + 1?", assert: ["contains: 2"]}
  elsewhere:
    endpoint: {base_url: "http://127.0.0.1:9/v1", model: m}
    cases:
      - {id: capital, prompt: "Capital of France?", assert: ["contains: Paris"]}
canary:
"""


class Model(ThreadingHTTPServer):
    """Answers every question with the same text."""

    daemon_threads = True
    says = "Paris, 2"


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        message = {"role": "assistant", "content": cast("Model", self.server).says}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        told = {"id": "1", "object": "chat.completion", "created": 1, "model": "m"}
        body = json.dumps({**told, "choices": [choice]}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name
        """Say nothing."""


class Replicas:
    """A fleet of which only the ways to its replicas matter: as ports do, addresses come again."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.router = cast("Router", None)

    def direct(self, pod: str) -> AbstractContextManager[str]:
        self.model.says = {"good": "Paris, 2", "bad": "Rome, 2"}[pod]
        return nullcontext(f"http://127.0.0.1:{self.model.server_port}")


@pytest.fixture
def model() -> Iterator[Model]:
    with Model(("127.0.0.1", 0), _Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def loaded(folder: Path, canary: str) -> LoadedConfig:
    (folder / "llmdeploy.yaml").write_text(FILE + canary)
    return load_config(folder / "llmdeploy.yaml", "local", {})


def test_both_versions_are_asked_though_their_addresses_are_the_same(
    tmp_path: Path, model: Model
) -> None:
    config = loaded(tmp_path, "  quality: {gate: facts}\n")
    assembly = Assembly(Run("r", tmp_path / "out", "local"), lambda _registry: None)
    fleet = cast("Any", Replicas(model))
    assert config.canary is not None
    state = canary_state(
        config,
        cast("RoutedFleet", fleet),
        cast("RoutableFleet", fleet),
        tmp_path,
        config=config.canary,
        ask=assembly.ask_cases,
    )
    compare = state.compare_answers
    assert compare is not None
    nothing = {"both": 0, "only_stable": 0, "only_canary": 0, "neither": 0}
    try:
        assert compare("good", "bad") == {
            **nothing,
            "both": 1,
            "only_stable": 1,
            "differing": ["capital"],
        }
        assert compare("good", "good") == {**nothing, "both": 2, "differing": []}
    finally:
        assembly.close()


@pytest.mark.parametrize(
    ("canary", "said"),
    [
        ("  quality: {gate: fact}\n", "no gate 'fact'; the file has: facts, elsewhere"),
        ("  quality: {gate: elsewhere}\n", "has an endpoint of its own, so neither version"),
        ("  compare: {prove_from: 51}\n", "the largest weight below 100 is 50"),
    ],
)
def test_what_cannot_be_shown(tmp_path: Path, canary: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        check_canary(loaded(tmp_path, canary))
    assert "llmdeploy.yaml:14: canary." in str(caught.value)


def test_what_can_be_shown(tmp_path: Path) -> None:
    check_canary(loaded(tmp_path, "  quality: {gate: facts}\n  compare: {prove_from: 50}\n"))
