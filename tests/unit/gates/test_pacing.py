"""Turns at an endpoint: who waits after a refusal, for how long, and how much is in flight."""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise

import pytest

from pytest_llmdeploy.errors import NotMeasuredError, ThrottledError
from pytest_llmdeploy.gates.pacing import Pacer

WAIT = 0.05


def test_everyone_waits_for_as_long_as_the_endpoint_says() -> None:
    pacer, not_before, sent = Pacer(8, 300), [0.0], []
    refusals = [6]

    async def attempt(_: int) -> str:
        sent.append((time.monotonic(), not_before[0]))
        await asyncio.sleep(0)
        if refusals[0]:
            refusals[0] -= 1
            not_before[0] = max(not_before[0], time.monotonic() + WAIT)
            raise ThrottledError("HTTP 429", WAIT)
        return "answer"

    async def all_of_them() -> list[str]:
        return list(await asyncio.gather(*(pacer.send(attempt) for _ in range(40))))

    assert asyncio.run(all_of_them()) == ["answer"] * 40
    assert len(sent) == 46
    assert all(moment >= earliest for moment, earliest in sent)


def test_a_burst_halves_once_and_answers_widen_again_by_one() -> None:
    pacer = Pacer(8, 300)
    limits: list[int] = []

    async def refused_first(refusals: int) -> None:
        await asyncio.sleep(0)
        if not refusals:
            raise ThrottledError("HTTP 429", 0.0)

    async def answered(_: int) -> None:
        limits.append(pacer.limit)

    async def both() -> None:
        await asyncio.gather(*(pacer.send(refused_first) for _ in range(8)))
        assert 4 <= pacer.limit <= 6  # halved once, and widened by the eight answers
        for _ in range(40):
            await pacer.send(answered)

    asyncio.run(both())
    assert pacer.limit == 8
    assert all(later - sooner in (0, 1) for sooner, later in pairwise(limits))


def test_never_more_in_flight_than_the_limit() -> None:
    pacer, flying, seen = Pacer(3, 300), [0], []

    async def attempt(_: int) -> None:
        flying[0] += 1
        seen.append(flying[0])
        await asyncio.sleep(0)
        flying[0] -= 1

    async def many() -> None:
        await asyncio.gather(*(pacer.send(attempt) for _ in range(20)))

    asyncio.run(many())
    assert max(seen) == 3


def test_who_gives_up_waiting_leaves_the_turn_to_others() -> None:
    async def story() -> int:
        pacer, free, done = Pacer(1, 300), asyncio.Event(), [0]

        async def hold(_: int) -> None:
            await free.wait()
            done[0] += 1

        tasks = [asyncio.create_task(pacer.send(hold)) for _ in range(4)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        free.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        return done[0]

    assert asyncio.run(asyncio.wait_for(story(), 5)) == 3


def test_an_endpoint_that_refuses_for_too_long_is_given_up() -> None:
    async def attempt(_: int) -> None:
        raise ThrottledError("URL: HTTP 429: busy", 400.0)

    with pytest.raises(NotMeasuredError) as caught:
        asyncio.run(Pacer(4, 300).send(attempt))
    assert str(caught.value) == (
        "URL: HTTP 429: busy (asked 1 times; an endpoint that refuses for more than 300 s is given"
        " up: lower the gate's concurrency, ask for a higher limit, or raise throttled_timeout)"
    )
