"""Waiting that a release's owner can end: Ctrl-C, SIGTERM, or a run that is over."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from pytest_llmdeploy.errors import ConflictError, NotMeasuredError, PlatformError
from pytest_llmdeploy.waiting import Clock, WaitTimeoutError, wait_until

T = TypeVar("T")


class AbortedError(NotMeasuredError):
    """Whoever ran the release wants it to end now."""


class Patience:
    """A clock whose sleeps end with an AbortedError once `abort` was called."""

    def __init__(self) -> None:
        self._aborted = threading.Event()
        self._why = ""
        self.between: Callable[[], None] = lambda: None
        """Called before each sleep; what it raises ends the waiting."""

    def abort(self, why: str) -> None:
        """End the waiting, now and from now on."""
        self._why = why
        self._aborted.set()

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        return time.monotonic()

    def sleep(self, seconds: float, /) -> None:
        """Let `seconds` pass; raise AbortedError."""
        self.between()
        if self._aborted.wait(seconds):
            raise AbortedError(self._why)

    def check(self) -> None:
        """Raise AbortedError where it is time to end."""
        if self._aborted.is_set():
            raise AbortedError(self._why)


def patiently(condition: Callable[[], T | None], told: list[str]) -> Callable[[], T | None]:
    """Return the condition for `wait_until`, not yet true while the platform does not answer.

    What it says then is kept as the last of `told`. A conflict is not waited out.
    """

    def ask() -> T | None:
        try:
            return condition()
        except ConflictError:
            raise
        except PlatformError as error:
            told[:] = [str(error)]
            return None

    return ask


def insist(
    action: Callable[[], None], *, what: str, timeout: float, setting: str, clock: Clock
) -> None:
    """Do what may safely be done again until the platform takes it; raise PlatformError."""
    told: list[str] = []

    def act() -> bool:
        action()
        return True

    try:
        wait_until(
            patiently(act, told),
            what=what,
            timeout=timeout,
            setting=setting,
            interval=0.5,
            clock=clock,
        )
    except WaitTimeoutError as error:
        raise PlatformError(f"{error}: {told[-1] if told else ''}") from error
