"""When an ended replica is started again, and when that is no use."""

from __future__ import annotations

from pytest_llmdeploy.platforms.local_fleet.backoff import (
    LONGEST_BACK_OFF,
    STABLE_AFTER,
    BackOff,
)


def test_each_wait_is_twice_the_last_up_to_the_longest() -> None:
    back_off = BackOff(first=1.0)
    assert [back_off.ended(0.1) for _ in range(7)] == [1, 2, 4, 8, 16, 30, 30]
    for _ in range(5000):
        assert back_off.ended(0.1) == LONGEST_BACK_OFF


def test_three_ends_are_a_loop_unless_it_was_stable_between() -> None:
    back_off = BackOff(first=1.0)
    looping = []
    for lived in (0.1, STABLE_AFTER - 1, 0.1, STABLE_AFTER, 0.1, 0.1):
        back_off.ended(lived)
        looping.append(back_off.looping)
    assert looping == [False, False, True, False, False, True]
    assert back_off.ended(STABLE_AFTER) == 1.0
