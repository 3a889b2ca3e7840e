"""Server-sent events out of bytes, as the WHATWG HTML standard has them. Pure."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator

_PREFIX = b"data: "
_END = b"\n\n"


class NamedEvent(str):
    """The data of an event that had a name, such as ``event: error``."""

    __slots__ = ("name",)
    name: str


class EventParser:
    """Collects the data of each event; comments and other fields are skipped.

    What has a name is a NamedEvent; it is text like the others.

    Lines end with LF, CRLF or CR and nothing else: a U+2028 in an answer's text is text.
    """

    def __init__(self) -> None:
        utf8 = codecs.getincrementaldecoder("utf-8-sig")("replace")
        self._decoder = io.IncrementalNewlineDecoder(utf8, translate=True)
        self._rest: list[str] = []
        self._data: list[str] = []
        self._name = ""
        self._between = False
        """All that came so far ended with an event, so nothing before touches what comes next."""

    def feed(self, piece: bytes, *, last: bool = False) -> list[str]:
        """Return the events that `piece` completes.

        With `last` also the one that no empty line ended: the standard drops it, but a stream that
        forgot its last line break has said what it had to say.
        """
        if self._between and piece.startswith(_PREFIX) and piece.endswith(_END) and not last:
            # Most pieces of most streams are whole events of one line each: 5 times as fast.
            events = piece[len(_PREFIX) : -len(_END)].split(_END + _PREFIX)
            if piece.count(b"\n") == len(_END) * len(events) and b"\r" not in piece:
                return [event.decode("utf-8", "replace") for event in events]
        return list(self._feed(piece, last=last))

    def _feed(self, piece: bytes, *, last: bool) -> Iterator[str]:
        *lines, rest = self._decoder.decode(piece, last).split("\n")
        for line in lines:
            yield from self._take("".join((*self._rest, line)))
            self._rest = []
        self._rest.append(rest)
        if last:
            yield from self._take("".join(self._rest))
            yield from self._take("")
        elif piece:
            self._between = piece.endswith(b"\n") and not (self._data or self._name)

    def _take(self, line: str) -> Iterator[str]:
        field, _, value = line.partition(":")
        if field == "data":
            self._data.append(value.removeprefix(" "))
        elif field == "event":
            self._name = value.removeprefix(" ")
        elif not line:
            if self._data:
                yield self._event("\n".join(self._data))
            self._data, self._name = [], ""

    def _event(self, data: str) -> str:
        if not self._name:
            return data
        event = NamedEvent(data)
        event.name = self._name
        return event
