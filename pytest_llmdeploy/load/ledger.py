"""The ledger: one line of JSON per request, compressed as it is written, read as a stream.

docs/load.md says what each key means.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

Record = dict[str, Any]
"""One request; times in seconds since the run's start, keys without a value left out."""


class EndClass(StrEnum):
    """How a request ended; each ends in exactly one of these ways."""

    OK = "ok"
    """The whole answer: status 200, a finish reason, and of a stream its [DONE]."""
    TRUNCATED = "truncated"
    """The answer broke off, or ended without a finish reason or [DONE]."""
    MALFORMED = "malformed"
    """Something that is no answer of the API: HTML, broken JSON, a redirect, no stream."""
    ERROR_EVENT = "error_event"
    """An error inside an answer whose status was 200."""
    HTTP_429 = "http_429"
    HTTP_4XX = "http_4xx"
    HTTP_5XX = "http_5xx"
    CONNECT = "connect"
    """No connection, or no TLS session."""
    RESET = "reset"
    """The connection was reset, or closed before an answer began."""
    FIRST_TOKEN_TIMEOUT = "first_token_timeout"  # noqa: S105 - not a password
    IDLE_TIMEOUT = "idle_timeout"
    TOTAL_TIMEOUT = "total_timeout"
    CANCELLED = "cancelled"
    """Given up by us because the run was stopped; says nothing about the service."""
    IN_FLIGHT = "in_flight"
    """Still open when the run's time, its drain included, was over."""
    DROPPED = "dropped"
    """Never sent: `max_in_flight` requests were open."""
    WORKER_LOST = "worker_lost"
    """Its load generator process ended before its time."""


FLUSH_INTERVAL = 1.0
"""Seconds between two flushes while records come; what came last waits for `flush`."""


class LedgerWriter:
    """Appends records to a file; memory does not grow with their number."""

    def __init__(self, path: Path) -> None:
        import zstandard  # the extra load: the records' names are used without it, too

        self._file = path.open("xb")
        self._stream = zstandard.ZstdCompressor(level=3).stream_writer(self._file)
        self._flushed = 0.0
        self.written = 0

    def write(self, record: Record, now: float) -> None:
        """Append a record; `now` is any clock in seconds that does not step."""
        line = json.dumps(record, separators=(",", ":"), ensure_ascii=False) + "\n"
        self._stream.write(line.encode("utf-8", "replace"))
        self.written += 1
        if now - self._flushed >= FLUSH_INTERVAL:
            self._flushed = now
            self._stream.flush()

    def flush(self) -> None:
        """See to it that what was recorded is in the file, should the writer be killed."""
        self._stream.flush()

    def close(self) -> None:
        """Complete the file."""
        self._stream.close()  # type: ignore[no-untyped-call]


def read_ledger(path: Path) -> Iterator[Record]:
    """Yield the records of a ledger, in the order in which the requests ended.

    A file whose writer was killed ends with its last flushed line. Raises ValueError for a file
    that is no ledger, and OSError.
    """
    import zstandard

    rest = b""
    with path.open("rb") as file, zstandard.ZstdDecompressor().stream_reader(file) as stream:
        try:
            while piece := stream.read(1 << 18):
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    yield json.loads(line)
        except (zstandard.ZstdError, ValueError) as error:
            raise ValueError(f"{path} is no ledger: {error}") from error


def rounded(times: Mapping[str, float | None]) -> dict[str, float]:
    """Return those times that are known, to the microsecond."""
    return {name: round(time, 6) for name, time in times.items() if time is not None}
