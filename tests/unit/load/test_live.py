"""The line that is shown while a run goes on."""

from __future__ import annotations

from collections import Counter

from pytest_llmdeploy.load.controller import Progress
from pytest_llmdeploy.load.live import WINDOW, Live


def progress(elapsed: float, intended: int, **classes: int) -> Progress:
    ended = sum(classes.values())
    return Progress(elapsed=elapsed, intended=intended, ended=ended, classes=Counter(classes))


def test_the_rate_is_the_present_one_and_not_the_mean() -> None:
    """10 a second for 20 s, then 2 a second."""
    live = Live()
    shown = []
    for half in range(1, 61):
        elapsed = half / 2
        intended = round(10 * min(elapsed, 20) + 2 * max(elapsed - 20, 0))
        for _ in range(5):  # a report is looked at more than once
            live.hear(progress(elapsed, intended))
        shown.append(live.line(progress(elapsed, intended)).split(", ")[1])
    assert shown[0] == shown[39] == "10.0/s"
    assert shown[39 + round(2 * WINDOW)] == shown[-1] == "2.0/s"


def test_what_has_ended_and_what_has_not() -> None:
    live = Live()
    now = progress(4.0, 10, ok=6, reset=1, cancelled=1)
    now.ttft.add(0.25)
    live.hear(now)
    assert live.line(now) == "4 s, 2.5/s, 6 ok, 1 failed, 2 in flight, TTFT 250 ms, p95 250 ms"


def test_before_the_first_report() -> None:
    assert Live().line(Progress()) == "0 s, 0.0/s, 0 ok, 0 failed, 0 in flight"
