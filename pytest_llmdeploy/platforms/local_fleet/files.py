"""JSON files that other processes read while we write them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from pytest_llmdeploy.errors import PlatformError

LOCK_TIMEOUT = 10.0
"""Seconds; a change is made within milliseconds."""


@contextmanager
def locked(path: Path, timeout: float = LOCK_TIMEOUT) -> Iterator[None]:
    """Hold the lock file `path`; raise PlatformError where another process does, for too long."""
    try:
        with FileLock(path, timeout=timeout):
            yield
    except Timeout:
        raise PlatformError(f"another process holds {path} for more than {timeout:g} s") from None


def write_json(path: Path, value: Any) -> None:
    """Replace the file at once, readable for its owner only: it may hold secrets."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(value, file, indent=1)
    partial.replace(path)


def read_json(path: Path) -> Any:
    """Return the file's value; None where there is no file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
