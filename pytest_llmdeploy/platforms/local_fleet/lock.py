"""The lock that keeps two releases of one fleet apart."""

from __future__ import annotations

import secrets
from pathlib import Path

from filelock import FileLock

from pytest_llmdeploy.errors import LockedError
from pytest_llmdeploy.liveness import Pulse, is_alive
from pytest_llmdeploy.platforms.local_fleet.files import read_json, write_json


class ReleaseLock:
    """A pulse, and a file that says whose it is.

    The pulse ends with its process, but the file stays until `release`: a release that was killed
    goes on holding the lock, so that nobody begins another one on what it left. `steal` takes the
    lock in any case; of a holder that lives it replaces the pulse's file, so that the holder's
    later `release` concerns nobody.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._holder_file = path.with_suffix(".holder")
        self._guard = FileLock(path.with_suffix(".guard"), timeout=10)
        self._pulse: Pulse | None = None
        self._token = ""

    def acquire(self, holder: str) -> None:
        """Take it; raise LockedError that names who holds it, and whether they live."""
        with self._guard:
            if self._is_ours():
                return
            if (other := self._holder()) is not None:
                state = (
                    "is at work" if is_alive(self._path) else "ended without finishing its release"
                )
                raise LockedError(f"{other} holds the lock of this fleet, and {state}")
            self._take(holder)

    def release(self) -> None:
        """Give it back; nothing where somebody else has it, or nobody."""
        with self._guard:
            if self._is_ours():
                self._holder_file.unlink(missing_ok=True)
            if self._pulse is not None:
                self._pulse.stop()
                self._pulse = None

    def steal(self, holder: str) -> str | None:
        """Take it whoever holds it, dead or alive; return who did."""
        with self._guard:
            if self._is_ours():
                return None
            other = self._holder()
            self._path.unlink(missing_ok=True)
            self._take(holder)
            return other

    def _take(self, holder: str) -> None:
        if self._pulse is not None:
            self._pulse.stop()
        self._pulse = Pulse(self._path)
        self._token = secrets.token_hex(8)
        write_json(self._holder_file, {"holder": holder, "token": self._token})

    def _holder(self) -> str | None:
        value = read_json(self._holder_file)
        return None if value is None else str(value["holder"])

    def _is_ours(self) -> bool:
        value = read_json(self._holder_file)
        return self._pulse is not None and value is not None and value["token"] == self._token
