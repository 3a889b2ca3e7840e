"""Ask an OpenAI-compatible chat endpoint with the ``openai`` client."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from pytest_llmdeploy.addresses import certificate_refused, making_client, tls_context, uses_proxy
from pytest_llmdeploy.errors import (
    MissingExtraError,
    NotMeasuredError,
    ThrottledError,
    UnreachableError,
)
from pytest_llmdeploy.ports import Answer, Message
from pytest_llmdeploy.untrusted import LONGEST_ANSWER, TOO_LONG, one_line, read_json, shallow

if TYPE_CHECKING:
    from openai import APIStatusError, AsyncOpenAI, OpenAI

T = TypeVar("T")
LONGEST_WAIT = 60.0
"""Seconds; a Retry-After beyond this is not waited for."""
FIRST_WAIT = 0.5
NO_KEY = "none"
"""Sent where the file gives no api_key: the client insists on one."""
NO_CREDIT = "insufficient_quota"
"""OpenAI's word, with status 429, for an account without money."""
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
        """Return what the openai clients take besides their HTTP client.

        Raises UnreachableError for a base_url that is no address.
        """
        try:
            _ = urlsplit(self.base_url).port
        except ValueError as error:
            raise UnreachableError(f"{self.base_url} is no address: {error}") from error
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
    arguments, transport = endpoint.arguments(), endpoint.transport()
    with making_client(endpoint.base_url):
        http_client = openai.DefaultHttpxClient(**transport)
    client: OpenAI = openai.OpenAI(**arguments, http_client=http_client)
    return client


def _openai() -> Any:
    try:
        import aiohttp  # noqa: F401 - its transport keeps up where others slow down
        import openai
    except ImportError as error:
        raise MissingExtraError("asking a model", "gates", error.name or "openai") from error
    return openai


class OpenAIEndpoint:
    """One endpoint, one connection pool. Make it and use it inside one event loop."""

    def __init__(self, endpoint: Endpoint, *, retries: int = 3) -> None:
        self._openai = _openai()
        from pytest_llmdeploy.models.bounded_client import BoundedClient

        self._base_url = endpoint.base_url
        self._model = endpoint.model
        self._version_header = endpoint.version_header
        self._retries = retries
        self._naming: asyncio.Task[str] | None = None
        arguments, transport = endpoint.arguments(), endpoint.transport()
        with making_client(endpoint.base_url):
            http_client = BoundedClient(**transport)
        self._client: AsyncOpenAI = self._openai.AsyncOpenAI(
            **arguments,
            max_retries=0,  # ours count attempts and keep the waits out of the latency
            http_client=http_client,
        )

    async def aclose(self) -> None:
        """Close the connections."""
        if self._naming is not None:
            self._naming.cancel()
            await asyncio.gather(self._naming, return_exceptions=True)
        await self._client.close()

    async def again(self, attempt_once: Callable[[int], Awaitable[T]]) -> T:
        """Return what an attempt does, trying again after 5xx and broken connections.

        Raises NotMeasuredError when no attempt was answered, UnreachableError when the endpoint
        would refuse every other request alike.
        """
        for attempt in range(1, self._retries + 2):
            try:
                return await attempt_once(attempt)
            except _AgainError as error:
                wait = _backoff(attempt) if error.wait is None else error.wait
                if attempt > self._retries or wait > LONGEST_WAIT:
                    tried = f" (attempt {attempt})" if attempt > 1 else ""
                    final = error.final(f"{error}{tried}")
                    final.attempts = attempt
                    raise final from error
                await asyncio.sleep(wait)
            except NotMeasuredError as error:
                error.attempts = attempt
                raise
        raise AssertionError("the last attempt returns or raises")

    async def post(self, route: str, body: Mapping[str, Any], timeout: float) -> Any:
        """Return the client's response; raises what `again` understands."""
        async with _as_ours(self._base_url, timeout):
            # Not chat.completions.create(): it checks and converts what we read ourselves, for
            # twice the time of a request.
            return await self._client.post(
                route,
                cast_to=self._openai.HttpxBinaryResponseContent,
                body=dict(body),
                options={"timeout": timeout},
            )

    def body(self, response: Any) -> bytes:
        """Return the body of a response; raise NotMeasuredError for one that is too long."""
        body: bytes = response.content
        if len(body) > LONGEST_ANSWER:
            raise NotMeasuredError(f"{self._base_url}: {TOO_LONG}")
        return body

    def unexpected(self, wanted: str, headers: Mapping[str, str], body: bytes) -> NotMeasuredError:
        """Return the error for a body that is not what was wanted."""
        kind = headers.get("content-type", "no content-type")
        came = one_line(body.decode("utf-8", "replace"))
        return NotMeasuredError(f"{self._base_url}: HTTP 200 ({kind}), but no {wanted}: {came!r}")

    async def name(self, timeout: float) -> str:
        """Return the model's name; the first that the endpoint lists when the file names none.

        Requests that start together share one look, so that a service which hangs is waited for
        once and not once a request.
        """
        if self._model is None:
            if self._naming is None or self._naming.done():
                self._naming = asyncio.create_task(self._first_listed(timeout))
            self._model = await asyncio.shield(self._naming)
        return self._model

    async def _first_listed(self, timeout: float) -> str:
        async with _as_ours(f"{self._base_url}/models", timeout):
            response = await self._client.get(
                "/models",
                cast_to=self._openai.HttpxBinaryResponseContent,
                options={"timeout": timeout},
            )
        body = self.body(response)
        try:
            name = read_json(body)["data"][0]["id"]
            if not name or not isinstance(name, str):
                raise TypeError("a model without a name")
        except (ValueError, KeyError, IndexError, TypeError) as error:
            headers = response.response.headers
            unexpected = self.unexpected("list of models", headers, body)
            raise UnreachableError(f"{unexpected} (set service.model)") from error
        return name


class OpenAIChatModel(OpenAIEndpoint):
    """A chat model behind an endpoint."""

    async def ask(
        self, messages: Sequence[Message], parameters: Mapping[str, Any], timeout: float
    ) -> Answer:
        """Return the answer; see `again` for what is raised."""
        return await self.again(
            lambda attempt: self._attempt(messages, parameters, timeout, attempt)
        )

    async def _attempt(
        self,
        messages: Sequence[Message],
        parameters: Mapping[str, Any],
        timeout: float,
        attempt: int,
    ) -> Answer:
        model = await self.name(timeout)
        started = time.perf_counter()
        asked = {
            "model": model,
            "messages": [dict(message) for message in messages],
            **parameters,
        }
        response = await self.post("/chat/completions", asked, timeout)
        latency = time.perf_counter() - started
        headers, body = response.response.headers, self.body(response)
        try:
            completion = read_json(body)
            choice = completion["choices"][0]
            message = dict(choice["message"])
            text = message.pop("content", None) or ""
            if not isinstance(text, str):
                raise TypeError(f"content is a {type(text).__name__}")
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise self.unexpected("chat completion", headers, body) from error
        usage = _typed(completion.get("usage"), dict, {})
        message.pop("role", None)
        return Answer(
            text=text,
            finish_reason=_typed(choice.get("finish_reason"), str),
            prompt_tokens=_typed(usage.get("prompt_tokens"), int),
            completion_tokens=_typed(usage.get("completion_tokens"), int),
            latency=latency,
            model=_typed(completion.get("model"), str) or model,
            version=headers.get((self._version_header or "").lower()),
            attempts=attempt,
            extra={name: shallow(value) for name, value in message.items() if value is not None},
            logprobs=_logprobs(choice.get("logprobs")),
        )


def _typed(value: Any, kind: type, otherwise: Any = None) -> Any:
    return value if isinstance(value, kind) else otherwise


def _logprobs(value: Any) -> list[float] | None:
    """Return the tokens' log probabilities; None where they are not told, or not well."""
    tokens = _typed(_typed(value, dict, {}).get("content"), list)
    if not tokens:
        return None
    told = [_typed(token, dict, {}).get("logprob") for token in tokens]
    numbers = [float(one) for one in told if isinstance(one, int | float)]
    return numbers if len(numbers) == len(told) else None


@asynccontextmanager
async def _as_ours(url: str, timeout: float) -> AsyncIterator[None]:
    """Give the block `timeout` seconds, and turn the client's exceptions into ours."""
    import aiohttp
    import openai

    try:
        async with asyncio.timeout(timeout):
            yield
    except openai.APIStatusError as error:
        raise _refusal(url, error) from error
    except (TimeoutError, openai.APIConnectionError, aiohttp.ClientError) as error:
        raise _unanswered(url, error, timeout) from error
    except (openai.OpenAIError, ValueError) as error:
        raise NotMeasuredError(f"{url}: the answer cannot be read: {error}") from error


def _unanswered(url: str, error: Exception, timeout: float) -> Exception:
    """Return the exception for a request that brought no whole answer."""
    # Below the client stand several HTTP libraries, and to one of them a refused or a dropped
    # connection is a timeout: the first cause decides.
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    said = one_line(str(getattr(cause, "message", cause))) or type(cause).__name__
    if certificate_refused(error):
        return UnreachableError(f"{url} cannot be reached: {said} (see service.ca_file)")
    if isinstance(cause, ConnectionRefusedError | socket.gaierror):
        return _AgainError(f"{url} cannot be reached: {said}", final=UnreachableError)
    if isinstance(cause, TimeoutError | asyncio.CancelledError):
        return _AgainError(f"{url}: no answer within {timeout:g} s")
    return _AgainError(f"{url}: the connection broke: {said}")


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
    text = f"{base_url}: HTTP {status}: {one_line(str(said or error.response.text))}"
    if status in HOPELESS_STATUS:
        hint = " (check service.api_key)" if status in (401, 403) else ""
        return UnreachableError(text + hint)
    if status == 429:
        if isinstance(body, dict) and body.get("code") == NO_CREDIT:  # no wait will help
            return UnreachableError(text)
        return ThrottledError(text, _retry_after(error.response.headers))
    if status in (408, 409, 425) or status >= 500:
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
