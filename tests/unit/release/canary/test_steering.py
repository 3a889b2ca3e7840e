"""Approvals and steering by files, at the moments that a real run cannot be made to meet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pytest_llmdeploy.config.canary import PhaseConfig
from pytest_llmdeploy.release.canary import steering
from pytest_llmdeploy.release.canary.state import CanaryState, Shift
from pytest_llmdeploy.release.state import InconclusiveError, Release, StepFailedError
from pytest_llmdeploy.verdicts import Verdict
from tests.unit.release.canary.looks_of import section
from tests.unit.release.test_waiting import FakeClock

PHASE = PhaseConfig(weight=10, duration=1.0, approve="file")


class Acting(FakeClock):
    """A clock by whose sleeps people act, one after the other."""

    def __init__(self, *acts: Callable[[], object]) -> None:
        super().__init__()
        self.acts = list(acts)

    def sleep(self, seconds: float, /) -> None:
        super().sleep(seconds)
        if self.acts:
            self.acts.pop(0)()


def release(folder: Path, clock: FakeClock, approved: str = "", **more: Any) -> Release:
    state = CanaryState(
        config=section(approve_timeout=60.0),
        router=cast("Any", None),
        make_figures=cast("Any", None),
        folder=folder,
        control=folder / "control",
        approved=lambda: approved,
        shifts=[Shift(10, 12, 0.0)],
        **more,
    )
    found = SimpleNamespace(canary=state, patience=clock, now_doing="", held=None)
    return cast("Release", found)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "control").mkdir()
    return tmp_path / "control" / "approve-weight-10"


def reason(file: Path, *acts: Callable[[], object]) -> str:
    return steering.approve(PHASE, release(file.parents[1], Acting(*acts))).reason


def test_a_file_that_stays_empty_approves(file: Path) -> None:
    assert reason(file, file.touch).startswith("approved after ")
    assert reason(file).endswith("(touched)")


def test_a_file_that_is_about_to_be_written_does_not_approve_yet(file: Path) -> None:
    """A shell makes the file, and writes into it then."""
    with pytest.raises(StepFailedError, match=r"^a person rejected it: Reject, too slow$"):
        reason(file, file.touch, lambda: file.write_text("Reject, too slow\n"))


def test_what_a_person_wrote_is_told(file: Path) -> None:
    assert reason(file, lambda: file.write_text(" anna \n")).endswith("(anna)")


def test_what_is_no_file_does_not_approve(file: Path) -> None:
    with pytest.raises(StepFailedError, match=r"^nobody approved it: "):
        reason(file, file.mkdir)


@pytest.mark.parametrize("late", [False, True])
def test_abort_and_promote_are_heard_while_it_waits(file: Path, *, late: bool) -> None:
    def put(name: str) -> Callable[[], object]:
        return (file.parent / name).touch

    acts: list[Callable[[], object]] = [lambda: None] if late else []
    assert reason(file, *acts, put("promote")).endswith("(promoted at once, as a person asked)")
    with pytest.raises(StepFailedError, match=r"^a person asked to abort"):
        (file.parent / "promote").unlink()
        reason(file, *acts, put("abort"))


@pytest.mark.parametrize(
    ("approve", "approved", "passes"),
    [
        ("env", "", False),
        ("env", "weight-1", False),
        ("env", "weight-100", False),
        ("env", "weight-10", True),
        ("env", "weight-5, weight-10", True),
        ("env", "all", True),
        ("exit", "all", False),
    ],
)
def test_the_variable(tmp_path: Path, approve: Any, approved: str, *, passes: bool) -> None:
    phase = PhaseConfig(weight=10, duration=1.0, approve=approve)
    found = release(tmp_path, FakeClock(), approved)
    if passes:
        assert steering.approve(phase, found).reason == "LLMDEPLOY_APPROVE approves it"
        return
    with pytest.raises(InconclusiveError, match=r"^weight-10 has passed and is not approved; "):
        steering.approve(phase, found)
    assert found.held is not None
    assert (found.held.weight, found.held.phase) == (12, 10)
    assert found.held.verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(
    ("approve", "held", "one_shift", "passes"),
    [
        ("exit", 10, False, True),
        ("exit", 5, False, False),
        ("env", 10, False, False),  # a job that a machine repeats has approved nothing
        ("env", 100, False, True),  # it was approved in the run that went further
        ("exit", 10, True, False),
    ],
)
def test_a_run_that_goes_on(
    tmp_path: Path, approve: Any, held: int, *, one_shift: bool, passes: bool
) -> None:
    phase = PhaseConfig(weight=10, duration=1.0, approve=approve)
    resumed: dict[str, Any] = {"resumed_at": held, "resumed_phase": held, "one_shift": one_shift}
    found = release(tmp_path, FakeClock(), **resumed)
    if passes:
        assert steering.approve(phase, found).reason.startswith("approved by going on with ")
    else:
        with pytest.raises(InconclusiveError):
            steering.approve(phase, found)


def test_what_is_behind_a_run_that_goes_on(tmp_path: Path) -> None:
    """The weight that was asked for counts, not what few replicas could make of it."""
    found = release(tmp_path, FakeClock(), resumed_at=33, resumed_phase=10).canary
    assert found is not None
    assert [found.is_behind(weight) for weight in (5, 10, 25, 33)] == [True, True, False, False]
    assert not release(tmp_path, FakeClock()).canary.is_behind(1)  # type: ignore[union-attr]
    found.resumed_passed = False
    assert [found.is_behind(weight) for weight in (5, 10, 25, 33)] == [True, False, False, False]
    assert not any(found.is_last_behind(weight) for weight in (5, 10))
