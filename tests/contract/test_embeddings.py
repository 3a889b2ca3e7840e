"""Vectors from an endpoint that keeps the rules, from some that do not, and from a folder."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from pytest_llmdeploy.errors import NotMeasuredError
from pytest_llmdeploy.models.local_embeddings import LocalEmbedder
from pytest_llmdeploy.models.openai_chat import Endpoint
from pytest_llmdeploy.models.openai_embeddings import MOST_AT_ONCE, OpenAIEmbedder
from pytest_llmdeploy.ports import Embedded
from tests.raw_server import RawServer, as_json


def rows(*vectors: Any) -> list[dict[str, Any]]:
    return [{"index": number, "embedding": vector} for number, vector in enumerate(vectors)]


def embed(server: RawServer, texts: list[str], retries: int = 0) -> Embedded:
    async def asking() -> Embedded:
        embedder = OpenAIEmbedder(Endpoint(server.url + "/v1", "e"), retries=retries)
        try:
            return await embedder.embed(texts, 20)
        finally:
            await embedder.aclose()

    return asyncio.run(asking())


def sent(request: bytes) -> Any:
    return json.loads(request.partition(b"\r\n\r\n")[2])


def test_vectors_come_in_the_order_of_the_texts_and_in_batches() -> None:
    def respond(request: bytes, _: int) -> list[bytes]:
        data = rows(*([float(text)] for text in sent(request)["input"]))
        told = {"data": data[::-1], "model": "e-1", "usage": {"prompt_tokens": 2}}
        return [as_json(told)]

    texts = [str(number) for number in range(MOST_AT_ONCE + 1)]
    with RawServer(respond) as server:
        found = embed(server, texts)
    assert found == Embedded([[float(text)] for text in texts], "e-1", 4)
    assert server.requests[0].startswith(b"POST /v1/embeddings HTTP/1.1\r\n")
    first = {"model": "e", "input": texts[:MOST_AT_ONCE], "encoding_format": "float"}
    assert sent(server.requests[0]) == first


def test_a_server_error_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_llmdeploy.models.openai_chat.FIRST_WAIT", 0)
    answers = [as_json({}, "503 Busy"), as_json({"data": rows([1.0])})]
    with RawServer(lambda _, number: [answers[number - 1]]) as server:
        assert embed(server, ["a"], retries=1) == Embedded([[1.0]], "e", None)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"data": []},
        {"data": rows([1.0])},
        {"data": rows([1.0], [])},
        {"data": rows([1.0], ["1"])},
        {"data": rows([1.0], [True])},
        {"data": rows([1.0], [2.0], [3.0])},
        {"data": [{"index": 0, "embedding": [1.0]}, {"index": 0, "embedding": [1.0]}]},
    ],
)
def test_what_are_no_vectors_are_none(body: Any) -> None:
    with RawServer(lambda *_: [as_json(body)]) as server, pytest.raises(NotMeasuredError) as caught:
        embed(server, ["a", "b"])
    assert "HTTP 200 (application/json), but no embeddings: " in str(caught.value)


def test_vectors_of_different_lengths() -> None:
    answer = as_json({"data": rows([1.0], [1.0, 2.0])})
    with RawServer(lambda *_: [answer]) as server, pytest.raises(NotMeasuredError) as caught:
        embed(server, ["a", "b"])
    assert str(caught.value) == f"{server.url}/v1: the vectors have different lengths"


def test_a_folder_of_model2vec(tmp_path: Path) -> None:
    """The model is tiny and made here: three words, each an axis of its own."""
    model2vec = pytest.importorskip("model2vec")
    import numpy
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {"[UNK]": 0, "paris": 1, "rome": 2}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    made = model2vec.StaticModel(numpy.eye(3, dtype="float32"), tokenizer)
    made.save_pretrained(tmp_path / "words")
    embedder = LocalEmbedder("words", tmp_path)
    found = asyncio.run(embedder.embed(["paris", "rome", "paris rome"], 20))
    assert found.vectors[:2] == [[0, 1, 0], [0, 0, 1]]
    assert found.vectors[2][1] == found.vectors[2][2] > 0
    assert found.model == "words"


def test_nothing_is_downloaded(tmp_path: Path) -> None:
    with pytest.raises(NotMeasuredError) as caught:
        LocalEmbedder("minish/potion", tmp_path, {"HF_HOME": str(tmp_path)})
    assert str(caught.value) == (
        "embeddings.local: there is no folder minish/potion, and no such model in "
        f"{tmp_path / 'hub'}: nothing is downloaded during a run; save the model into a folder, "
        "and name that"
    )
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotMeasuredError) as caught:
        LocalEmbedder("empty", tmp_path)
    assert str(caught.value) == (
        "embeddings.local: empty is no folder of a model2vec model: "
        "config.json, model.safetensors, tokenizer.json missing"
    )
