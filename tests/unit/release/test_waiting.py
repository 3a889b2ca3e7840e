"""Waiting for a platform that does not always answer."""

from __future__ import annotations

import threading
import time

import pytest

from pytest_llmdeploy.errors import ConflictError, PlatformError
from pytest_llmdeploy.release.waiting import AbortedError, Patience, insist, patiently


class FakeClock:
    """Time that passes only in sleep."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float, /) -> None:
        self.now += seconds


def test_patiently() -> None:
    told: list[str] = []
    answers: list[object] = [PlatformError("HTTP 429"), None, False, "at last"]

    def condition() -> object:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    ask = patiently(condition, told)
    assert [ask(), told] == [None, ["HTTP 429"]]
    assert [ask(), ask(), ask()] == [None, False, "at last"]
    answers.append(ConflictError("somebody else"))
    with pytest.raises(ConflictError, match="somebody else"):
        ask()


def test_insist() -> None:
    clock, calls = FakeClock(), []

    def refuses(times: int, error: PlatformError) -> None:
        calls.append(clock.now)
        if len(calls) <= times:
            raise error

    insist(
        lambda: refuses(3, PlatformError("HTTP 500")),
        what="it should go back",
        timeout=10,
        setting="x.timeout",
        clock=clock,
    )
    assert calls == [0.0, 0.5, 1.0, 1.5]

    with pytest.raises(PlatformError) as caught:
        insist(
            lambda: refuses(99, PlatformError("HTTP 500")),
            what="it should go back",
            timeout=2,
            setting="x.timeout",
            clock=clock,
        )
    assert str(caught.value) == (
        "it should go back within 2 s (x.timeout), but it did not come: HTTP 500"
    )
    assert clock.now == pytest.approx(3.5)

    calls.clear()
    with pytest.raises(ConflictError, match="somebody else"):
        insist(
            lambda: refuses(1, ConflictError("somebody else")),
            what="-",
            timeout=9,
            setting="-",
            clock=clock,
        )
    assert len(calls) == 1


def test_patience_ends_when_it_is_told_to() -> None:
    patience, ticks = Patience(), []
    patience.between = lambda: ticks.append(1)
    patience.check()
    patience.sleep(0.0)
    threading.Timer(0.05, patience.abort, ("pytest ended",)).start()
    begun = time.monotonic()
    with pytest.raises(AbortedError, match="pytest ended"):
        patience.sleep(30)
    assert time.monotonic() - begun < 10
    with pytest.raises(AbortedError, match="pytest ended"):
        patience.check()
    assert len(ticks) == 2
