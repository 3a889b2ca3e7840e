"""How many requests an endpoint takes at once: fewer after a refusal, slowly more again."""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TypeVar

from pytest_llmdeploy.errors import NotMeasuredError, ThrottledError

T = TypeVar("T")
FIRST_WAIT = 0.5
AT_ONCE = 0.01
"""Seconds: an endpoint that asks for less says "at once", and is not asked for ever as fast as it
can refuse: after some bursts in a row the wait grows to a second."""
LONGEST_WAIT = 30.0
"""Most seconds between attempts where the endpoint does not say how long to wait."""


class Pacer:
    """Turns at one endpoint; shared by all requests of this process to it.

    A burst of refusals halves the limit once: only a request that was sent after the last halving
    tells anything new. As many answers as the limit raise it by one, as TCP does it (additive
    increase, multiplicative decrease). `refused_for` are the seconds from a request's first refusal
    until it is given up.
    """

    def __init__(
        self,
        most: int,
        refused_for: float,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most = most
        self._refused_for = refused_for
        self._clock = clock
        self._limit = most
        self._in_flight = 0
        self._answered = 0
        self._bursts = 0
        """Halvings since the last answer."""
        self._halved = -1.0
        self._not_before = 0.0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def limit(self) -> int:
        """Most requests in flight now."""
        return self._limit

    def widen(self, most: int, refused_for: float) -> None:
        """Let at least `most` be in flight: another suite asks the same endpoint."""
        self._refused_for = max(self._refused_for, refused_for)
        if most > self._most:
            self._most = self._limit = most
            self._wake()

    async def send(self, attempt: Callable[[int], Awaitable[T]]) -> T:
        """Return what `attempt` returns, once it is its turn; asked again after a refusal.

        `attempt` is given the number of refusals so far. Raises NotMeasuredError when the endpoint
        has refused for too long.
        """
        first_refused: float | None = None
        refusals = 0
        while True:
            await self._turn()
            sent = self._clock()
            try:
                answer = await attempt(refusals)
            except ThrottledError as error:
                refusals += 1
                now = self._clock()
                first_refused = now if first_refused is None else first_refused
                self._refused(sent, error.wait)
                if self._not_before - first_refused > self._refused_for:
                    raise NotMeasuredError(
                        f"{error} (asked {refusals} times; an endpoint that refuses for more than"
                        f" {self._refused_for:g} s is given up: lower the gate's concurrency, ask"
                        " for a higher limit, or raise throttled_timeout)"
                    ) from error
            else:
                self._took()
                return answer
            finally:
                self._in_flight -= 1
                self._wake()

    async def _turn(self) -> None:
        while True:
            pause = self._not_before - self._clock()
            if pause > 0:
                await asyncio.sleep(pause)
            elif self._in_flight < self._limit:
                self._in_flight += 1
                return
            else:
                woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                self._waiting.append(woken)
                try:
                    await woken
                except asyncio.CancelledError:
                    self._wake()  # it may have been ours to use
                    raise

    def _wake(self) -> None:
        free = self._limit - self._in_flight
        while free > 0 and self._waiting:
            woken = self._waiting.popleft()
            if not woken.done():
                woken.set_result(None)
                free -= 1

    def _refused(self, sent: float, wait: float | None) -> None:
        if sent >= self._halved:
            self._limit = max(1, self._limit // 2)
            self._halved = self._clock()
            self._answered = 0
            self._bursts += 1
        if wait is None:
            wait = min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(self._bursts - 1, 10))
            wait *= random.uniform(0.75, 1.25)  # noqa: S311 - workers should not march in step
        elif wait < AT_ONCE:
            wait = min(1.0, AT_ONCE * 2.0 ** min(self._bursts - 1, 10))
        self._not_before = max(self._not_before, self._clock() + wait)

    def _took(self) -> None:
        self._bursts = 0
        self._answered += 1
        if self._answered >= self._limit and self._limit < self._most:
            self._limit += 1
            self._answered = 0
