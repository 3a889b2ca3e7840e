"""Ask an OpenAI-compatible embeddings endpoint, with the chat client's connections and retries."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pytest_llmdeploy.errors import NotMeasuredError
from pytest_llmdeploy.models.openai_chat import OpenAIEndpoint
from pytest_llmdeploy.ports import Embedded
from pytest_llmdeploy.untrusted import read_json

MOST_AT_ONCE = 16
"""Texts of one request: their vectors, as JSON, must stay below the longest answer that is read."""


class OpenAIEmbedder(OpenAIEndpoint):
    """An embeddings model behind an endpoint."""

    async def embed(self, texts: Sequence[str], timeout: float) -> Embedded:
        """Return a vector for each text, in the texts' order.

        Raises NotMeasuredError, also for vectors that are missing, of different lengths or no
        finite numbers.
        """
        batches = [texts[at : at + MOST_AT_ONCE] for at in range(0, len(texts), MOST_AT_ONCE)]
        parts = [await self._batch(batch, timeout) for batch in batches]
        if not parts:
            raise NotMeasuredError("there is no text to make a vector of")
        vectors = [vector for part in parts for vector in part.vectors]
        if len({len(vector) for vector in vectors}) != 1:
            raise NotMeasuredError(f"{self._base_url}: the vectors have different lengths")
        counts = [part.tokens for part in parts if part.tokens is not None]
        return Embedded(vectors, parts[0].model, sum(counts) if len(counts) == len(parts) else None)

    async def _batch(self, texts: Sequence[str], timeout: float) -> Embedded:
        return await self.again(lambda _: self._once(texts, timeout))

    async def _once(self, texts: Sequence[str], timeout: float) -> Embedded:
        model = await self.name(timeout)
        asked = {"model": model, "input": list(texts), "encoding_format": "float"}
        response = await self.post("/embeddings", asked, timeout)
        headers, body = response.response.headers, self.body(response)
        try:
            told = read_json(body)
            rows = {row["index"]: row["embedding"] for row in told["data"]}
            vectors = [_vector(rows[number]) for number in range(len(texts))]
            if len(told["data"]) != len(texts):
                raise ValueError("not one vector a text")
            said, usage = told.get("model"), told.get("usage")
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            raise self.unexpected("embeddings", headers, body) from error
        tokens = usage.get("prompt_tokens") if isinstance(usage, dict) else None
        return Embedded(
            vectors,
            said if isinstance(said, str) and said else model,
            tokens if isinstance(tokens, int) else None,
        )


def _vector(value: object) -> list[float]:
    if not isinstance(value, list) or not value:
        raise TypeError("an embedding is a list of numbers")
    if any(isinstance(part, bool) or not isinstance(part, int | float) for part in value):
        raise TypeError("an embedding is a list of numbers")
    vector = [float(part) for part in value]
    if not all(map(math.isfinite, vector)):
        raise ValueError("a number is not finite")
    return vector
