"""What a look takes from the sources, and what it does not."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from pytest_llmdeploy.errors import NotMeasuredError
from pytest_llmdeploy.metrics.client import ClientSource
from pytest_llmdeploy.ports import Reading, RequestOutcome, Router, Subject, Tally
from pytest_llmdeploy.release.canary.looking import Observer
from pytest_llmdeploy.release.canary.looks import NOT_MEASURED, Missing, Value
from pytest_llmdeploy.release.canary.state import CanaryState, Figures
from tests.unit.release.canary.looks_of import NOTHING, section


class Knowing:
    """A Prometheus that has seen ten requests a second."""

    name = "prometheus"

    def offers(self, signal: str) -> bool:
        return True

    def look(self, subjects: Sequence[Subject]) -> None:
        """Nothing is kept."""

    def read(self, signal: str, subject: Subject, since: float, until: float) -> Reading:
        return Reading(0.0, "q", round(10 * (until - since)))

    def tally(self, subject: Subject, since: float, until: float) -> Tally:
        return Tally(1000, 0)

    def close(self) -> None:
        """Nothing is open."""


class Hanging(Knowing):
    """A Prometheus that does not answer in time."""

    asked = 0

    def read(self, signal: str, subject: Subject, since: float, until: float) -> Reading:
        self.asked += 1
        raise NotMeasuredError("prometheus: q: timed out")

    def tally(self, subject: Subject, since: float, until: float) -> Tally:
        self.asked += 1
        raise NotMeasuredError("prometheus: q: timed out")


def observer(
    folder: Path, drain: Any, started: float, source: Knowing | None = None, **more: Any
) -> Observer:
    settings: dict[str, Any] = {
        "sla": {**NOTHING, "error_rate": 0.1},
        "sample_interval": 30,
        "metrics": {"prometheus": {"url": "http://prometheus", "scrape_interval": 15}},
    }
    state = CanaryState(
        config=section(**(settings | more)),
        router=cast("Router", None),
        make_figures=lambda _: cast("Figures", None),
        folder=folder,
        control=folder,
        figures=Figures([source or Knowing()], ClientSource(drain)),
        stable=Subject("stable", "blue", "1"),
        canary=Subject("canary", "green", "2"),
    )
    return Observer(state, "weight-10", 10, started)


def test_without_requests_of_its_own_a_run_does_not_know_the_split(tmp_path: Path) -> None:
    """However good the figures of another source are."""

    def over() -> Sequence[RequestOutcome]:
        raise NotMeasuredError("the traffic has ended: a process was killed")

    looking = observer(tmp_path, over, time.time() - 60)
    with pytest.raises(NotMeasuredError, match="split that is served is not known any more: the t"):
        looking.look(60.0, sample=True, answers=False)


@pytest.mark.parametrize(("elapsed", "window"), [(20, 20), (40, 30), (600, 30)])
def test_windows_overlap_and_requests_count_once(
    tmp_path: Path, elapsed: float, window: float
) -> None:
    """The window of a sample is four scrapes, a minute; there is a sample each half minute."""
    look = observer(tmp_path, list, time.time() - elapsed).look(elapsed, sample=True, answers=False)
    assert look.sample is not None
    told = look.sample["error_rate"]
    assert isinstance(told, Value)
    assert told.n == pytest.approx(10 * window, abs=5)
    assert look.lag == 15


def test_what_a_client_takes_for_failures_is_told_beside_another_source(tmp_path: Path) -> None:
    ends = [("ok", True), ("truncated", False), ("truncated", False)]
    end = time.monotonic() - 5
    outcomes = [
        RequestOutcome(end, "2", ok, ended, 0.1, color="green", sent=end - 0.1)
        for ended, ok in ends
    ]
    looking = observer(tmp_path, lambda: outcomes, time.time() - 60)
    look = looking.look(60.0, sample=False, answers=False)
    assert (look.source, look.sent["canary"], look.failed["canary"]) == ("prometheus", 3, 2)


@pytest.mark.parametrize(("look_interval", "asked"), [(1e-9, 1), (60.0, 3)])
def test_a_source_that_hangs_is_asked_once_in_a_look(
    tmp_path: Path, look_interval: float, asked: int
) -> None:
    source = Hanging()
    begun = time.time() - 60
    looking = observer(tmp_path, list, begun, source, look_interval=look_interval)
    look = looking.look(60.0, sample=True, answers=False)
    assert source.asked == asked
    assert look.sample is not None
    assert {*look.tallies.values(), *look.sample.values()} == {
        Missing(NOT_MEASURED, "prometheus: q: timed out")
    }
