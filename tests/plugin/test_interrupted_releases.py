"""Whatever ends the run in the midst of a release, the former version comes back, or can."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from pytest_llmdeploy.platforms.local_fleet.launching import list_fleets
from tests.plugin.conftest import Project
from tests.plugin.releasing import (
    IMAGE,
    QUICK,
    RELEASE,
    command,
    end_all,
    journal,
    left,
    lines,
    output,
    record,
    releasing,
    wait_for_step,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

LONG = 60.0
"""Seconds of a watch that the test ends."""
BACK = "traffic and replicas are as before the release"


@pytest.fixture(autouse=True)
def _nothing_left(project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (project.path / "tmp").mkdir()
    # Load runs of one machine wait for each other by a lock there: not for those of other tests.
    monkeypatch.setenv("TMPDIR", str(project.path / "tmp"))
    yield
    end_all(project)


def selector(project: Project) -> str:
    """Return the colour that the project's one fleet leads to."""
    (fleet,) = list_fleets(project.path)
    desired = json.loads((fleet.folder / "desired.json").read_text())
    return str(desired["selector"])


def end(process: subprocess.Popen[str]) -> str:
    """Return what a run has said, once it is over."""
    try:
        return process.communicate(timeout=60)[0]
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_stopped_takes_its_release_back(
    project: Project, number: signal.Signals
) -> None:
    releasing(project, LONG)
    run = project.start("-m", "blue_green", RELEASE)
    wait_for_step(project, "converged")
    run.send_signal(number)
    out = end(run)
    assert run.returncode == 2, out
    assert f"the release was interrupted: rolled back: {BACK}" in " ".join(out.split())
    assert journal(project)[-1] == ("end", "rolled back")
    assert left(project) == []
    steps = {step["name"]: step for step in lines(record(project) / "steps.jsonl")}
    assert steps["watch"]["verdict"] == "ERROR"
    assert steps["watch"]["reason"] == "pytest ended before the release did"
    assert (steps["final-state"]["verdict"], steps["cleanup"]["skipped"]) == ("PASS", True)


FAILS = """
import time
from pathlib import Path

def test_that_has_nothing_to_do_with_it():
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        steps = Path().glob(".llmdeploy/*/records/*/*/steps.jsonl")
        if any('"converged"' in path.read_text() for path in steps):
            break
        time.sleep(0.05)
    assert not "this"
"""
AMIDST = (
    QUICK
    + """
def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.name in ("watch", "zero-loss", "cleanup", "final-state"))
"""
)


def test_a_failing_test_ends_a_run_with_x_amidst_a_release(project: Project) -> None:
    releasing(project, LONG)
    project.write("conftest.py", AMIDST)
    project.write("test_fails.py", FAILS)
    done = project.run("-x", RELEASE, "-k", "blue_green or test_fails")
    assert done.code == 1, done.out
    assert done.counts()["failed"] == 1, done.out
    assert f"the release was interrupted: rolled back: {BACK}" in " ".join(done.out.split())
    assert journal(project)[-1] == ("end", "rolled back")
    assert left(project) == []


def test_ctrl_c_with_two_workers_takes_the_release_back(project: Project) -> None:
    releasing(project, LONG)
    run = project.start("-m", "blue_green", "-n2", RELEASE)
    wait_for_step(project, "converged")
    run.send_signal(signal.SIGINT)
    out = end(run)
    assert run.returncode == 2, out
    assert journal(project)[-1] == ("end", "rolled back"), out
    told = f"interrupted with its worker: the release of {IMAGE} as green has ended: rolled back"
    assert told in " ".join(out.split())
    steps = {step["name"]: step for step in lines(record(project) / "steps.jsonl")}
    assert (steps["final-state"]["verdict"], steps["watch"]["verdict"]) == ("PASS", "ERROR")
    assert left(project) == []


def test_the_end_of_the_worker_that_releases(project: Project) -> None:
    releasing(project, LONG)
    run = project.start("-m", "blue_green", "-n2", RELEASE)
    wait_for_step(project, "converged")
    pid = int((record(project) / "owner.pulse").read_text())
    assert pid != run.pid
    os.kill(pid, signal.SIGKILL)
    out = " ".join(end(run).split())
    assert run.returncode not in (0, 2), out
    assert "the process that performed the release has died" in out
    assert f"was interrupted after 'switch'; it was rolled back: {BACK}" in out
    assert journal(project)[-1] == ("end", "rolled back")
    assert left(project) == []


DIES = """
import os, signal
from pytest_llmdeploy.platforms.local_fleet.fleet import LocalFleet
from pytest_llmdeploy.release import prepare

prepare.BASELINE_DURATION = 0.3
really = LocalFleet.MOMENT

def dies(self, *arguments):
    if not BEFORE:
        really(self, *arguments)
    os.kill(os.getpid(), signal.SIGKILL)

LocalFleet.MOMENT = dies
"""


@pytest.mark.parametrize(
    ("moment", "before", "stopped", "now", "told"),
    [
        ("direct", True, "after 'deploy'", "blue", "traffic was never moved; replicas are"),
        ("switch", True, "during 'switch'", "blue", "traffic and replicas are"),
        ("switch", False, "during 'switch'", "green", "traffic and replicas are"),
    ],
)
def test_a_run_that_was_killed_is_undone_by_a_command(
    project: Project, moment: str, before: bool, stopped: str, now: str, told: str
) -> None:
    releasing(project, LONG)
    project.write("conftest.py", DIES.replace("MOMENT", moment).replace("BEFORE", str(before)))
    done = project.run("-m", "blue_green", RELEASE)
    assert done.code == -signal.SIGKILL, done.out
    entries = journal(project)
    (fleet,) = list_fleets(project.path)
    desired = (fleet.folder / "desired.json").read_bytes()

    what = f"the release of {IMAGE} as green was interrupted {stopped}, "
    said = command(project, "rollback", "--look")
    assert said.startswith(what)
    assert "before it: blue had the traffic\n" in said
    assert f"now: {now} has the traffic\n" in said
    assert "differs from before: green is 2 replicas of llm-service:2.0.0, not absent\n" in said
    assert journal(project) == entries

    said = command(project, "rollback")
    assert said.startswith(what)
    assert said.endswith(f"rolled back: {told} as before the release\n")
    assert journal(project)[-1] == ("end", "rolled back")
    after = json.loads((fleet.folder / "desired.json").read_bytes())
    assert after["selector"] == "blue"
    assert after["colors"] == {"blue": json.loads(desired)["colors"]["blue"]}
    assert command(project, "rollback") == (
        "no interrupted release of the environment 'local' was found\n"
    )


def test_a_run_that_was_killed_while_it_watched(project: Project) -> None:
    releasing(project, LONG)
    run = project.start("-m", "blue_green", RELEASE)
    wait_for_step(project, "converged")
    run.kill()
    run.communicate()
    said = command(project, "rollback", "--keep-new")
    assert f"the release of {IMAGE} as green was interrupted after 'switch', " in said
    assert said.endswith(
        f"kept: the service leads to green, {IMAGE}, as the interrupted release wanted it\n"
    )
    assert journal(project)[-1] == ("end", "kept")
    assert selector(project) == "green"
    assert command(project, "rollback").startswith("no interrupted release")


def test_a_release_in_a_folder_below_the_root_is_found(project: Project) -> None:
    releasing(project, LONG)
    for name in ("one", "two"):
        project.write(f"{name}/llmdeploy.yaml", (project.path / "llmdeploy.yaml").read_text())
    (project.path / "llmdeploy.yaml").unlink()
    project.write("conftest.py", DIES.replace("MOMENT", "direct").replace("BEFORE", "True"))
    done = project.run("-m", "blue_green", RELEASE, "one/llmdeploy.yaml")
    assert done.code == -signal.SIGKILL, done.out
    other = command(project, "rollback", "--config", "two/llmdeploy.yaml")
    assert other.startswith("no interrupted release")
    said = command(project, "rollback", "--config", "one/llmdeploy.yaml")
    assert said.endswith("replicas are as before the release\n")


def test_a_release_whose_fleet_has_ended_has_nothing_to_be_undone(project: Project) -> None:
    releasing(project, LONG)
    project.write("conftest.py", DIES.replace("MOMENT", "direct").replace("BEFORE", "True"))
    project.run("-m", "blue_green", RELEASE)
    command(project, "clusters", "--sweep", "--all")
    assert left(project) == []
    entries = journal(project)
    what = f"the release of {IMAGE} as green was interrupted after 'deploy'"
    gone = f"{what}; its fleet has ended, and nothing of it is left\n"
    assert command(project, "rollback", "--look") == gone
    assert journal(project) == entries
    assert command(project, "rollback") == gone
    assert journal(project)[-1] == ("end", "gone with its fleet")
    assert left(project) == []
    assert command(project, "rollback").startswith("no interrupted release")


def test_a_trail_that_cannot_be_written_does_not_stand_in_the_way_back(project: Project) -> None:
    releasing(project, LONG)
    project.write("conftest.py", DIES.replace("MOMENT", "direct").replace("BEFORE", "True"))
    project.run("-m", "blue_green", RELEASE)
    trail = output(project) / "audit.jsonl"
    trail.unlink()
    trail.mkdir()
    said = command(project, "rollback")
    assert "replicas are as before the release\n" in said
    assert "the audit trail cannot be written: " in said
