"""What planted faults do to a good answer, and to the process that gives it."""

from __future__ import annotations

import asyncio
import string
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress

from pytest_llmdeploy.reference.engines import Ending
from pytest_llmdeploy.reference.faults import RequestFaults

LEAK_LIMIT_MB = 512
"""What a leak keeps at most: a rehearsal must not take the memory of the machine."""
TAIL_FACTOR = 3.0
"""How much longer an answer of the slow tail takes, where tail-factor does not say."""
Items = AsyncGenerator[list[str] | Ending, None]
_ROTATED = str.maketrans(
    "".join((string.ascii_lowercase, string.ascii_uppercase, string.digits)),
    "".join(
        letters[len(letters) // 2 :] + letters[: len(letters) // 2]
        for letters in (string.ascii_lowercase, string.ascii_uppercase, string.digits)
    ),
)


def spoilt(pieces: list[str]) -> list[str]:
    """Return an answer's pieces with each letter and digit replaced: as long, and wrong."""
    return [piece.translate(_ROTATED) for piece in pieces]


def slowness(faults: RequestFaults) -> float:
    """Return the factor by which this request's whole answer is to take longer; 1: not at all.

    Factors below 1 have no effect: nothing can be faster than its engine.
    """
    factor = max(1.0, faults.value("latency-factor") or 1.0)
    if faults.drawn(("slow-tail",)):
        tail = faults.value("tail-factor")
        factor *= max(1.0, TAIL_FACTOR if tail is None else tail)
    return factor


async def slowed(items: Items, factor: float) -> Items:
    """Yield what the engine yields, each item at `factor` times its own time.

    The engine goes on meanwhile: one that keeps a schedule would make up for a consumer that waits.
    """
    clock = asyncio.get_running_loop().time
    begun = clock()
    ready: asyncio.Queue[tuple[float, list[str] | Ending | Exception]] = asyncio.Queue()

    async def ask() -> None:
        try:
            async with aclosing(items):
                async for item in items:
                    ready.put_nowait((clock(), item))
        except Exception as error:  # noqa: BLE001 - raised where the answer is awaited
            ready.put_nowait((clock(), error))

    asking = asyncio.create_task(ask())
    try:
        while True:
            at, item = await ready.get()
            if isinstance(item, Exception):
                raise item
            await asyncio.sleep(begun + factor * (at - begun) - clock())
            yield item
            if isinstance(item, Ending):
                return
    finally:
        asking.cancel()
        with suppress(asyncio.CancelledError):
            await asking


class Leak:
    """Memory that is never given back, up to `LEAK_LIMIT_MB`."""

    def __init__(self) -> None:
        self._kept: list[bytes] = []
        self._megabytes = 0.0

    def grow(self, megabytes: float) -> None:
        """Keep so much more; it is written to, so that it is resident."""
        more = min(megabytes, LEAK_LIMIT_MB - self._megabytes)
        if more > 0:
            self._kept.append(b"\x01" * int(more * 1_000_000))
            self._megabytes += more
