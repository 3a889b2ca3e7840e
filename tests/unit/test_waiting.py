"""Waiting for a condition, on a clock of the test's own."""

from __future__ import annotations

import pytest

from pytest_llmdeploy.waiting import WaitTimeoutError, wait_until


class Clock:
    """Time that passes only while somebody sleeps."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_the_first_result_is_returned_at_once() -> None:
    clock = Clock()
    assert wait_until(lambda: "there", what="x", timeout=5, setting="s", clock=clock) == "there"
    assert clock.now == 100


def test_zero_is_a_result_and_false_is_none() -> None:
    clock = Clock()
    results = iter([None, False, 0])
    found = wait_until(lambda: next(results), what="x", timeout=5, setting="s", clock=clock)
    assert found == 0
    assert clock.now == pytest.approx(100.1)


def test_time_is_up_with_what_and_which_setting() -> None:
    clock = Clock()
    with pytest.raises(WaitTimeoutError) as caught:
        wait_until(
            lambda: None, what="it should answer", timeout=1.5, setting="ready_timeout", clock=clock
        )
    expected = "it should answer within 1.5 s (ready_timeout), but it did not come"
    assert str(caught.value) == expected
    assert clock.now == pytest.approx(101.5)


def test_the_condition_is_looked_at_once_more_when_time_is_up() -> None:
    clock = Clock()
    found = wait_until(
        lambda: clock.now >= 102 or None, what="x", timeout=2, setting="s", interval=9, clock=clock
    )
    assert found is True
