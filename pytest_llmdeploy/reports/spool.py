"""The verdicts of a run, with the details of cases on the disk: there can be many thousands."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from typing import IO, Any


class Kept(Mapping[str, Any]):
    """A detail that is read from the disk when something of it is asked for."""

    __slots__ = ("_file", "_length", "_start")

    def __init__(self, file: IO[bytes], start: int, length: int) -> None:
        self._file = file
        self._start = start
        self._length = length

    @property
    def text(self) -> str:
        """The detail as JSON."""
        self._file.seek(self._start)
        return self._file.read(self._length).decode()

    def __getitem__(self, key: str) -> Any:
        return self._read()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())

    def _read(self) -> dict[str, Any]:
        detail: dict[str, Any] = json.loads(self.text)
        return detail


class Spool:
    """A file without a name, which is gone with the process."""

    def __init__(self) -> None:
        self._file: IO[bytes] | None = None
        self._end = 0

    def slim(self, event: dict[str, Any]) -> dict[str, Any]:
        """Return a case's event with its detail on the disk; any other as it is.

        Where there is no room on the disk, or JSON has no form for a detail, it stays in memory.
        """
        if event["gate"] is None or event["judges_gate"] or not event["detail"]:
            return event
        try:
            # As report.json has it: a text can hold half a surrogate pair, which no file can.
            text = json.dumps(event["detail"], ensure_ascii=False, allow_nan=False)
            return {**event, "detail": self._keep(text.encode("utf-8", "replace"))}
        except (OSError, ValueError, TypeError):
            return event

    def _keep(self, text: bytes) -> Kept:
        if self._file is None:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the run
        self._file.seek(self._end)
        self._file.write(text)
        kept = Kept(self._file, self._end, len(text))
        self._end += len(text)
        return kept

    def close(self) -> None:
        """Give the file up; what it has can be read no more."""
        if self._file is not None:
            self._file.close()
            self._file = None
