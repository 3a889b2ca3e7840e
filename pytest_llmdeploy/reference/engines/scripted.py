"""Answers that follow from the prompt alone, in tokens paced by the clock: no model is asked."""

from __future__ import annotations

import asyncio
import hashlib
import math
import re
import zlib
from collections.abc import AsyncGenerator, Sequence

from pytest_llmdeploy.reference.engines.base import Ending
from pytest_llmdeploy.reference.settings import Settings
from pytest_llmdeploy.reference.wire import ChatOrder

ECHO = "Say exactly: "
_WORDS = (  # noqa: SIM905 - reads better than a list of 64 lines
    "amber anchor apple arrow autumn bell birch bridge candle canyon cedar cloud copper coral "
    "creek crystal dawn delta desert ember falcon feather field forest garden glacier granite "
    "harbor hazel heron hill island ivory jasper juniper lake lantern laurel lemon maple marble "
    "meadow mint moon moss mountain north oak ocean olive orchard pearl pebble pine quartz rain "
    "raven river saffron silver south stone summer"
).split()
_TOKEN = re.compile(r"\s*\S+|\s+")
_DIMENSIONS = 256
_MESSAGE_OVERHEAD = 4
"""Tokens that a chat template adds to each message."""


class Scripted:
    """The engine for load: hundreds of streams cost little, and each keeps its pace."""

    name = "scripted"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def generate(self, order: ChatOrder) -> AsyncGenerator[list[str] | Ending, None]:
        """Yield the answer's tokens on schedule; those that are late come together."""
        pieces = _TOKEN.findall(_before_stop(self._answer(order), order.stop))
        finish_reason = "length" if len(pieces) > order.max_tokens else "stop"
        del pieces[order.max_tokens :]
        await asyncio.sleep(self._settings.ttft)
        if pieces:
            yield pieces[:1]
        # Later tokens are due at multiples of the interval after the first was taken, so a late
        # wake-up delays one token and never those behind it.
        clock = asyncio.get_running_loop().time
        interval = self._settings.token_interval
        base, sent = clock(), 1
        while sent < len(pieces):
            await asyncio.sleep(max(0.0, base + sent * interval - clock()))
            due = int((clock() - base) / interval) + 1 if interval else len(pieces)
            due = max(sent + 1, due)
            yield pieces[sent:due]
            sent = due
        prompt_tokens = sum(
            len(_TOKEN.findall(message["content"])) + _MESSAGE_OVERHEAD
            for message in order.messages
        )
        yield Ending(finish_reason, prompt_tokens, len(pieces))

    def _answer(self, order: ChatOrder) -> str:
        asked = [m["content"] for m in order.messages if m["role"] == "user"]
        last = asked[-1] if asked else ""
        if last in self._settings.answers:
            return self._settings.answers[last]
        if last.startswith(ECHO):
            return last.removeprefix(ECHO)
        seed = "\0".join(f"{m['role']}\0{m['content']}" for m in order.messages)
        digest = hashlib.shake_128(seed.encode()).digest(self._settings.tokens)
        return " ".join(_WORDS[byte % len(_WORDS)] for byte in digest)

    async def embed(self, texts: Sequence[str]) -> tuple[list[list[float]], int]:
        """Return vectors of hashed character trigrams: texts that share many lie close."""
        return [_vector(text) for text in texts], sum(len(_TOKEN.findall(text)) for text in texts)


def _before_stop(text: str, stop: Sequence[str]) -> str:
    return text[: min((text.find(mark) for mark in stop if mark in text), default=len(text))]


def _vector(text: str) -> list[float]:
    padded = f"  {text.casefold()} "
    vector = [0.0] * _DIMENSIONS
    for start in range(len(padded) - 2):
        bucket = zlib.crc32(padded[start : start + 3].encode())
        vector[bucket % _DIMENSIONS] += 1.0
    length = math.hypot(*vector)
    return [value / length for value in vector]
