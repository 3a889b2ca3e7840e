"""The HTTP client below the openai client. Imported when a model is asked: it needs the extra."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from openai import DefaultAioHttpClient

from pytest_llmdeploy.untrusted import LONGEST_ANSWER

if TYPE_CHECKING:
    import httpx2

_WIRE = frozenset({b"content-encoding", b"content-length", b"transfer-encoding"})
"""Headers about the body as it travelled, which would be applied to it again."""


class BoundedClient(DefaultAioHttpClient):
    """Reads a byte more than LONGEST_ANSWER of an answer at most, so that its reader can tell.

    The openai client reads errors whole, whatever its caller says, and a few kilobytes of gzip
    can become gigabytes: only here, below it, nothing escapes the limit.
    """

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """Return the answer, its body read."""
        response = await super().send(request, **{**options, "stream": True})
        body = bytearray()
        try:
            async for piece in response.aiter_bytes():
                body += piece[: LONGEST_ANSWER + 1 - len(body)]
                if len(body) > LONGEST_ANSWER:
                    break
        finally:
            await response.aclose()
        return type(response)(
            response.status_code,
            headers=[pair for pair in response.headers.raw if pair[0].lower() not in _WIRE],
            content=bytes(body),
            request=response.request,
        )
