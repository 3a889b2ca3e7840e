"""Ask an OpenAI-compatible chat endpoint with the ``openai`` client."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_llmdeploy.addresses import tls_context, uses_proxy
from pytest_llmdeploy.errors import MissingExtraError, NotMeasuredError, UnreachableError
from pytest_llmdeploy.ports import Answer, Message

if TYPE_CHECKING:
    from openai import APIStatusError, AsyncOpenAI, OpenAI

LONGEST_WAIT = 60.0
"""Seconds; a Retry-After beyond this is not waited for."""
FIRST_WAIT = 0.5
NO_KEY = "none"
"""Sent where the file gives no api_key: the client insists on one."""
HOPELESS_STATUS = frozenset({401, 403, 404, 405, 410, 501})


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a model answers, and how to be let in."""

    base_url: str
    """With /v1 where it has one."""
    model: str | None = None
    """None asks the endpoint for the first that it lists."""
    api_key: str | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    version_header: str | None = None
    verify_tls: bool = True
    ca_file: Path | None = None

    def arguments(self) -> dict[str, Any]:
        """Return what the openai clients take besides their HTTP client."""
        return {
            "base_url": self.base_url,
            "api_key": self.api_key or NO_KEY,
            "default_headers": dict(self.headers),
        }

    def transport(self) -> dict[str, Any]:
        """Return what their HTTP clients take."""
        return {
            "verify": tls_context(self.verify_tls, self.ca_file),
            "trust_env": uses_proxy(self.base_url),
        }


def sync_client(endpoint: Endpoint) -> OpenAI:
    """Return a plain client of the endpoint, for tests of the user's own."""
    openai = _openai()
    http_client = openai.DefaultHttpxClient(**endpoint.transport())
    client: OpenAI = openai.OpenAI(**endpoint.arguments(), http_client=http_client)
    return client


def _openai() -> Any:
    try:
        import openai
    except ImportError as error:
        raise MissingExtraError("asking a model", "gates", error.name or "openai") from error
    return openai


class OpenAIChatModel:
    """One endpoint, one connection pool. Make it and use it inside one event loop."""

    def __init__(self, endpoint: Endpoint, *, retries: int = 3) -> None:
        openai = _openai()
        self._base_url = endpoint.base_url
        self._model = endpoint.model
        self._version_header = endpoint.version_header
        self._retries = retries
        self._naming = asyncio.Lock()
        self._client: AsyncOpenAI = openai.AsyncOpenAI(
            **endpoint.arguments(),
            max_retries=0,  # ours count attempts and keep the waits out of the latency
            http_client=openai.DefaultAioHttpClient(**endpoint.transport()),
        )

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def ask(
        self, messages: Sequence[Message], parameters: Mapping[str, Any], timeout: float
    ) -> Answer:
        """Return the answer, asking again after 429, 5xx and broken connections.

        Raises NotMeasuredError when no attempt was answered, UnreachableError when the endpoint
        would refuse every other request alike.
        """
        for attempt in range(1, self._retries + 2):
            try:
                return await self._attempt(messages, parameters, timeout, attempt)
            except _AgainError as error:
                wait = _backoff(attempt) if error.wait is None else error.wait
                if attempt > self._retries or wait > LONGEST_WAIT:
                    tried = f" (attempt {attempt})" if attempt > 1 else ""
                    raise error.final(f"{error}{tried}") from error
                await asyncio.sleep(wait)
        raise AssertionError("the last attempt returns or raises")

    async def _attempt(
        self,
        messages: Sequence[Message],
        parameters: Mapping[str, Any],
        timeout: float,
        attempt: int,
    ) -> Answer:
        import openai

        model = await self._name(timeout)
        started = time.perf_counter()
        try:
            async with asyncio.timeout(timeout):
                response = await self._client.chat.completions.with_raw_response.create(
                    model=model,
                    messages=[dict(message) for message in messages],  # type: ignore[misc]
                    timeout=timeout,
                    extra_body=dict(parameters),
                )
                latency = time.perf_counter() - started
                completion: Any = response.parse()
        except (TimeoutError, openai.APITimeoutError) as error:
            raise _AgainError(f"{self._base_url}: no answer within {timeout:g} s") from error
        except openai.APIStatusError as error:
            raise _refusal(self._base_url, error) from error
        except openai.APIConnectionError as error:
            # Below the client stand several HTTP libraries; the first cause is the plainest.
            cause: BaseException = error
            while cause.__cause__ is not None:
                cause = cause.__cause__
            text = f"{self._base_url} cannot be reached: {str(cause) or type(cause).__name__}"
            refused = isinstance(cause, ConnectionRefusedError)
            raise _AgainError(
                text, final=UnreachableError if refused else NotMeasuredError
            ) from error
        except (openai.OpenAIError, ValueError) as error:
            raise NotMeasuredError(
                f"{self._base_url}: the answer cannot be read: {error}"
            ) from error
        return self._answer(completion, dict(response.headers), latency, model, attempt)

    def _answer(
        self, completion: Any, headers: Mapping[str, str], latency: float, model: str, attempt: int
    ) -> Answer:
        kind = headers.get("content-type", "no content-type")
        try:
            choice = completion.choices[0]
            text = choice.message.content or ""
            if not isinstance(text, str):
                raise TypeError(f"content is a {type(text).__name__}")
        except (AttributeError, IndexError, TypeError) as error:
            raise NotMeasuredError(
                f"{self._base_url}: HTTP 200 ({kind}), but no chat completion: "
                f"{str(completion)[:200]!r}"
            ) from error
        usage = completion.usage
        message = choice.message.model_dump(exclude_none=True, exclude={"content", "role"})
        return Answer(
            text=text,
            finish_reason=choice.finish_reason,
            prompt_tokens=usage.prompt_tokens if usage else None,
            completion_tokens=usage.completion_tokens if usage else None,
            latency=latency,
            model=completion.model or model,
            version=headers.get((self._version_header or "").lower()),
            attempts=attempt,
            extra=message,
        )

    async def _name(self, timeout: float) -> str:
        """Return the model's name; the first that the endpoint lists when the file names none."""
        import openai

        async with self._naming:
            if self._model is None:
                try:
                    async with asyncio.timeout(timeout):
                        models = await self._client.models.list(timeout=timeout)
                        self._model = models.data[0].id
                except openai.APIStatusError as error:
                    raise _refusal(self._base_url, error) from error
                except openai.APIConnectionError as error:
                    raise _AgainError(
                        f"{self._base_url} cannot be reached: {error}", final=UnreachableError
                    ) from error
                except (TimeoutError, AttributeError, IndexError, TypeError, ValueError) as error:
                    raise UnreachableError(
                        f"{self._base_url}/models names no model: set service.model"
                    ) from error
            return self._model


class _AgainError(Exception):
    """The attempt failed in a way that another one may not."""

    def __init__(
        self,
        text: str,
        *,
        wait: float | None = None,
        final: type[NotMeasuredError] = NotMeasuredError,
    ) -> None:
        super().__init__(text)
        self.wait = wait
        self.final = final


def _backoff(attempt: int) -> float:
    """Return seconds to wait after `attempt`: doubling, spread so that clients do not march."""
    return float(FIRST_WAIT * 2 ** (attempt - 1) * random.uniform(0.75, 1.25))  # noqa: S311


def _refusal(base_url: str, error: APIStatusError) -> Exception:
    """Return the exception for an HTTP status that is not an answer."""
    status = error.status_code
    body = error.body
    said = body.get("message") if isinstance(body, dict) else None
    text = f"{base_url}: HTTP {status}: {str(said or error.response.text)[:200]}"
    if status in HOPELESS_STATUS:
        hint = " (check service.api_key)" if status in (401, 403) else ""
        return UnreachableError(text + hint)
    if status in (408, 409, 425, 429) or status >= 500:
        return _AgainError(text, wait=_retry_after(error.response.headers))
    return NotMeasuredError(text)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that the server asks us to wait; None where it does not say."""
    try:
        if "retry-after-ms" in headers:
            return max(0.0, float(headers["retry-after-ms"]) / 1000)
        value = headers.get("retry-after")
        if value is None:
            return None
        if value.strip().replace(".", "", 1).isdigit():
            return float(value)
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None
