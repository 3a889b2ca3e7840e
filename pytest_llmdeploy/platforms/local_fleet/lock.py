"""The lock that keeps two releases of one fleet apart."""

from __future__ import annotations

import secrets
from pathlib import Path

from pytest_llmdeploy.errors import ConflictError, LockedError
from pytest_llmdeploy.liveness import Pulse, is_alive
from pytest_llmdeploy.platforms.local_fleet.files import locked, read_json, write_json


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
        self._guard = path.with_suffix(".guard")
        self._pulse: Pulse | None = None
        self._token = ""

    def acquire(self, holder: str) -> None:
        """Take it; raise LockedError that names who holds it, and whether they live."""
        with locked(self._guard):
            if self._is_ours():
                return
            other = self._holder()
            if other is not None and other != holder:
                alive = is_alive(self._path)
                state = "is at work" if alive else "ended without finishing its release"
                text = f"{other} holds the lock of this fleet, and {state}"
                raise LockedError(text, other, alive=alive)
            self._take(holder)

    def release(self) -> None:
        """Give it back; nothing where somebody else has it, or nobody."""
        with locked(self._guard):
            if self._is_ours():
                self._holder_file.unlink(missing_ok=True)
            self.close()

    def close(self) -> None:
        """Keep it alive no longer; where it is still held, it counts as a dead release's."""
        if self._pulse is not None:
            self._pulse.stop()
            self._pulse = None

    def check(self) -> None:
        """Raise ConflictError where somebody took it from us: hands off what they now change."""
        if self._pulse is not None and not self._is_ours():
            raise ConflictError(
                f"{self._holder() or 'somebody else'} has taken over the release of this fleet: "
                "this one changes nothing any more"
            )

    def steal(self, holder: str) -> str | None:
        """Take it whoever holds it, dead or alive; return who did."""
        with locked(self._guard):
            if self._is_ours():
                return None
            other = self._holder()
            self._take(holder)
            return other

    def _take(self, holder: str) -> None:
        self.close()
        self._path.unlink(missing_ok=True)
        self._pulse = Pulse(self._path)
        self._token = secrets.token_hex(8)
        write_json(self._holder_file, {"holder": holder, "token": self._token})

    def _holder(self) -> str | None:
        value = read_json(self._holder_file)
        return None if value is None else str(value["holder"])

    def _is_ours(self) -> bool:
        value = read_json(self._holder_file)
        return self._pulse is not None and value is not None and value["token"] == self._token
