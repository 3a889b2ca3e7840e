"""A running service, and the chat model behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

Message = Mapping[str, Any]
"""One chat message as the OpenAI API has it: ``{"role": …, "content": …}``."""
ENGINE_HEADER = "x-llm-engine"
"""Answer header in which the reference service names its engine."""
REFERENCE_VERSION_HEADER = "x-llm-version"
"""Answer header in which it names its version."""
SCRIPTED = "scripted"
"""Its engine without a model."""


@dataclass(frozen=True, slots=True)
class Service:
    """A running LLM service."""

    url: str
    """Root address without a trailing slash; health paths are below it."""
    api_url: str
    """Root of the OpenAI-compatible routes, such as ``http://127.0.0.1:8000/v1``."""
    version: str | None = None
    """Version that the service named when it was found ready; None where it names none."""
    log_path: str | None = None
    """File with the output of the process that we started; None where we started none."""
    scripted: bool = False
    """The answers come from the reference service's scripted engine: no model was judged."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model said to one request."""

    text: str
    finish_reason: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    latency: float
    """Seconds of the attempt that was answered; earlier attempts and waits are not in it."""
    model: str
    version: str | None = None
    """Value of the service's version header."""
    attempts: int = 1
    extra: Mapping[str, Any] = field(default_factory=dict)
    """The rest of the message, such as tool_calls."""
    logprobs: Sequence[float] | None = None
    """Natural logarithms of the probabilities of the answer's tokens; None where not told."""
    cost: float | None = None
    """Dollars by the prices of the file; None where the model has no price or told no tokens."""
    replayed: bool = False
    """It comes from a record: its latency is that of another run."""


class Model(Protocol):
    """A chat model behind an endpoint."""

    async def ask(
        self, messages: Sequence[Message], parameters: Mapping[str, Any], timeout: float
    ) -> Answer:
        """Return the answer; raise NotMeasuredError when `timeout` seconds an attempt are over."""
        ...

    async def aclose(self) -> None:
        """Release connections."""
        ...


@dataclass(frozen=True, slots=True)
class Embedded:
    """The vectors of some texts, in their order."""

    vectors: Sequence[Sequence[float]]
    model: str
    tokens: int | None = None
    """Tokens that were read; None where not told."""


class Embedder(Protocol):
    """Turns texts into vectors."""

    async def embed(self, texts: Sequence[str], timeout: float) -> Embedded:
        """Return a vector for each text; raise NotMeasuredError."""
        ...

    async def aclose(self) -> None:
        """Release connections."""
        ...


class Platform(Protocol):
    """Where the service runs."""

    def service(self) -> Service:
        """Return the running service, started when needed; raise PlatformError if there is none."""
        ...
