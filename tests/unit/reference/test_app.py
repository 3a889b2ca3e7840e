"""What needs an engine that misbehaves; everything else is tested on the real process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence

import httpx
import pytest

from pytest_llmdeploy.reference.app import Service
from pytest_llmdeploy.reference.engines import Ending
from pytest_llmdeploy.reference.faults import FaultBook
from pytest_llmdeploy.reference.settings import read_settings
from pytest_llmdeploy.reference.wire import ChatOrder


class Broken:
    """Fails after some pieces."""

    name = "broken"

    def __init__(self, pieces: int) -> None:
        self.pieces = pieces

    async def generate(self, order: ChatOrder) -> AsyncGenerator[list[str] | Ending, None]:
        for _ in range(self.pieces):
            yield ["piece"]
        raise RuntimeError("secret detail")

    async def embed(self, texts: Sequence[str]) -> tuple[list[list[float]], int]:
        raise RuntimeError("secret detail")


def _post(pieces: int, path: str, body: dict[str, object]) -> httpx.Response:
    service = Service(read_settings([], {}), Broken(pieces), FaultBook({}))

    async def post() -> httpx.Response:
        transport = httpx.ASGITransport(service.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            return await client.post(path, json=body)

    return asyncio.run(post())


CHAT = {"messages": [{"role": "user", "content": "Hello"}]}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", CHAT),
        ("/v1/chat/completions", CHAT | {"stream": True}),
        ("/v1/embeddings", {"input": "Hello"}),
    ],
)
def test_an_unexpected_error_keeps_its_details_inside(
    path: str, body: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    answer = _post(0, path, body)
    assert answer.status_code == 500
    assert answer.headers["x-llm-version"] == "1.0.0"
    assert answer.headers["x-llm-engine"] == "broken"
    assert answer.json() == {
        "error": {
            "message": "the service made an internal error",
            "type": "server_error",
            "param": None,
            "code": None,
        }
    }
    assert [(r.levelno, r.getMessage()) for r in caplog.records if r.name == "reference"] == [
        (logging.ERROR, "unexpected error")
    ]


def test_an_error_in_a_stream_ends_it_unfinished(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(AssertionError):  # the transport's own check that the body was completed
        _post(1, "/v1/chat/completions", CHAT | {"stream": True})
    assert "/v1/chat/completions broke off" in [r.getMessage() for r in caplog.records]
