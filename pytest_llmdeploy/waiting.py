"""The one way to wait for a condition."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol, TypeVar

from pytest_llmdeploy.errors import NotMeasuredError

T = TypeVar("T")


class Clock(Protocol):
    """Time, so that tests of waiting code need none."""

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        ...

    def sleep(self, seconds: float, /) -> None:
        """Let `seconds` pass."""
        ...


class WaitTimeoutError(NotMeasuredError):
    """The condition did not come true in time."""


def wait_until(
    condition: Callable[[], T | None],
    *,
    what: str,
    timeout: float,
    setting: str,
    interval: float = 0.05,
    clock: Clock = time,
) -> T:
    """Return the first result of `condition` that is neither None nor False.

    `what` names the condition and `setting` the key that holds `timeout` (seconds); both are in
    the text of the WaitTimeoutError raised when time is up.
    """
    deadline = clock.monotonic() + timeout
    while True:
        result = condition()
        if result is not None and result is not False:
            return result
        left = deadline - clock.monotonic()
        if left <= 0:
            raise WaitTimeoutError(f"{what} within {timeout:g} s ({setting}), but it did not come")
        clock.sleep(min(interval, left))
