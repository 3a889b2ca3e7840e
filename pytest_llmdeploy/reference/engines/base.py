"""The port between the HTTP side and the engines."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Protocol

from pytest_llmdeploy.reference.wire import ChatOrder


@dataclass(frozen=True, slots=True)
class Ending:
    """How an answer ended."""

    finish_reason: str
    """stop or length."""
    prompt_tokens: int
    completion_tokens: int


class Engine(Protocol):
    """Something that answers chats and embeds texts."""

    name: str
    """Value of the x-llm-engine header."""

    def generate(self, order: ChatOrder) -> AsyncGenerator[list[str] | Ending, None]:
        """Yield the pieces of text that are ready, as often as there are some, and one Ending last.

        Closing the generator ends the work behind it. Raises ApiError for an order that the
        engine refuses, before the first piece.
        """
        ...

    async def embed(self, texts: Sequence[str]) -> tuple[list[list[float]], int]:
        """Return a unit vector for each text, and the number of their tokens."""
        ...
