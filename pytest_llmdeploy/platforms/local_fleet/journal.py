"""The journal of a release as a file of one JSON entry a line."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_llmdeploy.errors import PlatformError


class FileJournal:
    """Survives the end of the process that writes it at any moment."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> list[dict[str, Any]]:
        """Return the entries; a line whose writer was ended within it is left out."""
        try:
            lines = self._path.read_bytes().splitlines()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise PlatformError(f"the journal cannot be read: {error}") from error
        entries = []
        for line in lines:
            try:
                entries.append(json.loads(line))
            except ValueError:
                continue
        return entries

    def append(self, entry: Mapping[str, Any]) -> None:
        """Add an entry, and return when it is on the disk."""
        line = json.dumps(entry).encode() + b"\n"
        try:
            new = not self._path.exists()
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                if not _ends_whole(descriptor):
                    line = b"\n" + line
                os.write(descriptor, line)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            if new:
                _sync_folder(self._path.parent)
        except OSError as error:
            raise PlatformError(f"the journal cannot be written: {error}") from error

    def clear(self) -> None:
        """Forget all entries."""
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            raise PlatformError(f"the journal cannot be removed: {error}") from error


def _ends_whole(descriptor: int) -> bool:
    size = os.fstat(descriptor).st_size
    return not size or os.pread(descriptor, 1, size - 1) == b"\n"


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
