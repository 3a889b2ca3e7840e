"""An answer as it arrives: bytes and the time of each piece in, what a client saw out. Pure."""

from __future__ import annotations

import zlib
from itertools import pairwise
from typing import Any

import orjson

from pytest_llmdeploy.load.ledger import EndClass
from pytest_llmdeploy.sse import EventParser, NamedEvent

LONGEST_TEXT = 2000
"""Characters of a failure's text; the ledger has fewer, cut once no secret is in it any more."""
LARGEST_PLAIN = 16 << 20
"""Bytes of an answer in one piece; what is longer is no answer of a chat."""
_DONE = "[DONE]"
_DECODERS = {"gzip": 16 + zlib.MAX_WBITS, "x-gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}


class Answer:
    """Collects one answer; `verdict` says how it ended."""

    __slots__ = (
        "_body",
        "_counted",
        "_decoder",
        "_events",
        "_wants_stream",
        "cached_tokens",
        "chunks",
        "complete",
        "completion_tokens",
        "detail",
        "done",
        "ended",
        "error",
        "finish_reason",
        "first",
        "gaps",
        "last",
        "malformed",
        "plain",
        "prompt_tokens",
        "reason",
        "status",
        "text",
    )

    def __init__(self, *, stream: bool, keep_text: bool = False) -> None:
        self._wants_stream = stream
        self._events = EventParser()
        self._decoder: Any = None
        self._body = bytearray()
        self.plain = True
        """The body is no event stream."""
        self.status: int | None = None
        self.first: float | None = None
        """When the first visible content came; None without one."""
        self.reason: float | None = None
        """When the first reasoning came."""
        self.last: float | None = None
        """When the last content of either kind came."""
        self.gaps: list[float] = []
        """Seconds between one piece of content and the next."""
        self._counted: list[int] = []
        """Completion tokens so far, where usage told them with a piece of content."""
        self.chunks = 0
        self.done = False
        """The stream said [DONE]."""
        self.ended: float | None = None
        """When [DONE] came, or the end of the message."""
        self.complete = False
        """The message came to its end as HTTP has it."""
        self.finish_reason: str | None = None
        self.completion_tokens: int | None = None
        self.prompt_tokens: int | None = None
        self.cached_tokens: int | None = None
        self.error: str | None = None
        """The error that an answer of status 200 told."""
        self.malformed: str | None = None
        """Why this is no answer of the API."""
        self.text: list[str] | None = [] if keep_text else None

    def begin(self, status: int, content_type: str, encoding: str) -> None:
        """Take the answer's status and headers."""
        self.status = status
        self.plain = not content_type.lower().startswith("text/event-stream")
        encoding = encoding.strip().lower()
        if encoding in _DECODERS:
            self._decoder = zlib.decompressobj(_DECODERS[encoding])
        elif encoding not in ("", "identity"):
            self.malformed = f"content-encoding {encoding}, which was not asked for"

    def feed(self, piece: bytes, now: float) -> None:
        """Take a piece of the body that arrived at `now`."""
        if self._decoder is not None:
            try:
                piece = self._decoder.decompress(piece)
            except zlib.error as error:
                self.malformed = self.malformed or f"broken compression: {error}"
                return
        if not self.plain:
            for event in self._events.feed(piece):
                self._take_event(event, now)
        elif len(self._body) <= LARGEST_PLAIN:
            self._body += piece

    def end(self, now: float, *, complete: bool) -> None:
        """Take the end of the body; `complete` where HTTP says that all of it came."""
        self.complete = complete
        if self.ended is None:
            self.ended = now
        if not self.plain:
            before = self.malformed
            for event in self._events.feed(b"", last=True):
                self._take_event(event, now)
            if self.malformed != before:  # cut in the midst of its last event
                self.malformed, self.complete = before, False
        elif self.status == 200 and complete:
            self._take_plain()

    def verdict(self) -> tuple[EndClass, str | None]:  # noqa: PLR0911 - a decision list
        """Return how an answer that came to its end, or broke off, ended, and why."""
        if self.status != 200:
            return self._refused()
        if self.malformed:
            return EndClass.MALFORMED, self.malformed
        if self.error is not None:
            return EndClass.ERROR_EVENT, self.error
        if not (self.plain or self._wants_stream):
            return EndClass.MALFORMED, "an event stream, which was not asked for"
        if self.plain and not self.complete:
            return EndClass.TRUNCATED, f"the answer broke off {self.seen}"
        if self._wants_stream and not self.done:
            how = "ended without [DONE]" if self.complete else "broke off"
            return EndClass.TRUNCATED, f"the stream {how} {self.seen}"
        if self.finish_reason is None:
            return EndClass.TRUNCATED, f"the answer ended without a finish_reason {self.seen}"
        return EndClass.OK, None

    @property
    def seen(self) -> str:
        """How far the answer had come; few different texts, for failures are counted by them."""
        if self.status is None:
            return "before an answer began"
        return "after some content" if self.chunks or self._body else "before any content"

    def _refused(self) -> tuple[EndClass, str | None]:
        status = self.status or 0
        said = _error_text(bytes(self._body[:4096])) or self.error
        detail = f"status {status}{': ' + said if said else ''}"[:LONGEST_TEXT]
        if status == 429:
            return EndClass.HTTP_429, detail
        if 400 <= status < 500:
            return EndClass.HTTP_4XX, detail
        return (EndClass.HTTP_5XX if status >= 500 else EndClass.MALFORMED), detail

    def _take_event(self, event: str, now: float) -> None:
        if self.done:
            return
        if event == _DONE:
            self.done = True
            self.ended = now
            return
        if isinstance(event, NamedEvent):
            if event.name == "error":
                self.error = self.error or _error_text(event.encode()) or _shortened(event)
                return
            event = str(event)  # orjson takes nothing that is derived from it
        try:
            data = orjson.loads(event)
        except (ValueError, RecursionError):
            self.malformed = self.malformed or f"an event that is no JSON: {event[:80]!r}"
            return
        if not isinstance(data, dict):
            self.malformed = self.malformed or f"an event that is no object: {event[:80]!r}"
            return
        if error := _error_in(data):
            self.error = self.error or _shortened(error)
            return
        if usage := data.get("usage"):
            self._take_usage(usage)
        choices = data.get("choices")
        if isinstance(choices, list) and choices:
            before = self.chunks
            self._take_choices(choices, now)
            if usage and self.chunks > before and self.completion_tokens is not None:
                self._counted.append(self.completion_tokens)

    def token_gaps(self) -> list[float]:
        """Return the gaps over the tokens that the piece after each had; none without usage.

        How many those were tells the usage that came with the pieces, or else the mean piece.
        """
        if len(self._counted) == self.chunks:
            tokens = [after - before for before, after in pairwise(self._counted)]
            if all(number > 0 for number in tokens):
                return [gap / number for gap, number in zip(self.gaps, tokens, strict=True)]
        total = (self.completion_tokens or 0) - 1
        return [gap * len(self.gaps) / total for gap in self.gaps] if total > 0 else []

    def _take_choices(self, choices: list[Any], now: float) -> None:
        content = thought = False
        for choice in choices:
            if isinstance(choice, dict):
                said, thinks = self._take_choice(choice, choice.get("delta"))
                content, thought = content or said, thought or thinks
        if not (content or thought):
            return
        if self.last is not None:
            self.gaps.append(now - self.last)
        self.last = now
        self.chunks += 1
        if content and self.first is None:
            self.first = now
        if thought and self.reason is None:
            self.reason = now

    def _take_choice(self, choice: dict[str, Any], delta: Any) -> tuple[bool, bool]:
        """Take one choice; return whether it has visible content, and whether reasoning."""
        reason = choice.get("finish_reason")
        if reason == "error":
            self.error = self.error or "finish_reason is 'error'"
        elif isinstance(reason, str):
            self.finish_reason = reason
        if not isinstance(delta, dict):
            return False, False
        content = delta.get("content") or delta.get("tool_calls") or delta.get("refusal")
        if self.text is not None and isinstance(content, str) and not choice.get("index"):
            self.text.append(content)
        return bool(content), bool(delta.get("reasoning_content") or delta.get("reasoning"))

    def _take_plain(self) -> None:
        if self._wants_stream:
            said = _error_text(bytes(self._body[:4096]))
            if said:
                self.error = said
            else:
                self.malformed = self.malformed or "status 200, but no event stream"
            return
        try:
            data = orjson.loads(self._body)
            choice = data["choices"][0]
            message = {**choice["message"]}
        except (ValueError, RecursionError, LookupError, TypeError):
            said = _error_text(bytes(self._body[:4096]))
            if said:
                self.error = said
            else:
                shown = self._body[:80].decode("utf-8", "replace")
                self.malformed = self.malformed or f"no chat completion: {shown!r}"
            return
        if data.get("error"):
            self.error = _shortened(data["error"])
        self._take_choice(choice, message)
        self._take_usage(data.get("usage"))

    def _take_usage(self, usage: object) -> None:
        if not isinstance(usage, dict):
            return
        self.completion_tokens = _count(usage.get("completion_tokens"))
        self.prompt_tokens = _count(usage.get("prompt_tokens"))
        details = usage.get("prompt_tokens_details")
        if isinstance(details, dict):
            self.cached_tokens = _count(details.get("cached_tokens"))


def _count(value: object) -> int | None:
    plain = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    return value if plain else None  # type: ignore[return-value]


def _error_text(body: bytes) -> str:
    """Return the message of an error in the API's shape; empty where it is none."""
    try:
        data = orjson.loads(body)
    except (ValueError, RecursionError):
        return ""
    error = _error_in(data) if isinstance(data, dict) else None
    return _shortened(error) if error else ""


def _error_in(data: dict[str, Any]) -> object:
    """Return what is wrong, as OpenAI has it or as older servers; nothing where nothing is."""
    return data if data.get("object") == "error" else data.get("error")


def _shortened(error: object) -> str:
    if isinstance(error, dict) and error.get("message"):
        error = error["message"]
    return str(error)[:LONGEST_TEXT]
