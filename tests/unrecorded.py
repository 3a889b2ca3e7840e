"""A model for gradings of tests that keep no record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_llmdeploy.ports import Answer, Message, Model


@dataclass(frozen=True, slots=True)
class Unrecorded:
    """A model of which no record is kept: every question is asked anew."""

    model: Model

    async def ask(
        self,
        messages: Sequence[Message],
        parameters: Mapping[str, Any],
        timeout: float,
        index: int = 0,
    ) -> Answer:
        """Ask the model."""
        return await self.model.ask(messages, parameters, timeout)

    async def aclose(self) -> None:
        """Release connections."""
        await self.model.aclose()
