"""A canary as pytest performs it: real replicas, a real Envoy, real load, a real pytest.

Nothing here fails by chance more often than once in a million runs. A good version has no failure
at all, so it cannot be found worse; it may be watched for 40 s, in which it is shown to be good
with ten times the requests that this takes. Of the bad one every twentieth answer is a failure: by
the guarantee of `compare.alpha` it passes with 1e-6 at most, and in the 60 s for which it may be
watched it fails 200 times, where 30 are enough. That a right split is called wrong has 1e-9.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.plugin.conftest import Outcome, Project
from tests.plugin.releasing import (
    CONFIG,
    IMAGE,
    QUICK,
    RELEASE,
    SECTION,
    command,
    end_all,
    left,
    lines,
    output,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
STEPS = (
    *("preflight", "deploy", "rollout", "health", "smoke", "warm-up", "route"),
    *("weight-50", "weight-100", "promote", "zero-loss", "cleanup", "final-state"),
)
CANARY = """
canary:
  phases:
    - {weight: 50, duration: 1, max_duration: 40}
    - {weight: 100, duration: 1, max_duration: 40}
  sample_interval: 0.5
  look_interval: 0.25
  split_tolerance: 0.3
  converge_timeout: 20
  warm_up: {requests: 1}
  sla: {error_rate: 0.5, latency_p95: null, cpu_usage: null, memory_usage: null, points: 2}
  compare: {error_rate: 0.2, latency_p95: null, min_requests: 20}
  traffic:
    {rate: 100, max_loss: 0.05, max_tokens: 4, long_stream_tokens: 8, timeout: 10}
"""
RARELY_WRONG = """
from pytest_llmdeploy.release.canary import judge

judge.SPLIT_ALPHA = 1e-9  # that a right split is called wrong
"""
FAULTY = f"""
    images: {{"{IMAGE}": {{variables: {{LLM_FAULTS: "error-500=0.05"}}}}}}
"""


@pytest.fixture(autouse=True)
def _nothing_left(project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (project.path / "tmp").mkdir()
    # Load runs of one machine wait for each other by a lock there: not for those of other tests.
    monkeypatch.setenv("TMPDIR", str(project.path / "tmp"))
    monkeypatch.delenv("LLMDEPLOY_APPROVE", raising=False)
    yield
    end_all(project)


def releasing(project: Project, canary: str = CANARY, config: str = CONFIG) -> None:
    """Give the project a canary."""
    project.config(config + SECTION.replace("WATCH", "0.5") + canary)
    project.write("conftest.py", QUICK + RARELY_WRONG)


def steps(done: Outcome) -> dict[str, dict[str, Any]]:
    """Return the run's items of the canary by name."""
    return {item["name"]: item for item in done.report["items"] if item["stage"] == "canary"}


def record(project: Project) -> Path:
    """Return the folder of the one canary of the project's runs."""
    (folder,) = (output(project) / "records" / "canary").iterdir()
    return folder


def journal(project: Project) -> list[dict[str, Any]]:
    return lines(record(project) / "journal.jsonl")


def test_a_good_version_is_promoted(project: Project) -> None:
    releasing(project)
    done = project.run("-m", "canary", RELEASE)
    assert (done.code, done.counts()["passed"]) == (0, 13), done.out
    assert left(project) == []

    found = steps(done)
    assert tuple(found) == STEPS
    assert {item["verdict"] for item in found.values()} == {"PASS"}
    assert "50 % proven by " in found["weight-50"]["reason"]
    assert "100 % proven by 20 new connections" in found["weight-100"]["reason"]
    assert "canary: true leads to green alone" in found["route"]["reason"]
    assert found["zero-loss"]["reason"].startswith("0 of ")
    assert found["final-state"]["reason"] == (
        f"released: the service leads to green, and green has {IMAGE}"
    )

    result = json.loads((record(project) / "result.json").read_text())
    assert (result["success"], result["error"], result["rollback"]) == (True, None, None)
    phases = result["canary"]["phases"]
    assert [(phase["name"], phase["made"], phase["verdict"]) for phase in phases] == [
        ("weight-50", 50, "PASS"),
        ("weight-100", 100, "PASS"),
    ]
    assert all(phase["duration"] >= 1 for phase in phases)
    signals = {(finding["signal"], finding["rule"]) for finding in phases[0]["findings"]}
    assert signals == {("error_rate", "sla"), ("error_rate", "compare")}
    shifts = result["canary"]["shifts"]
    assert [shift["weight"] for shift in shifts] == [50, 100, 100]
    assert all(shift["converged"] >= shift["at"] for shift in shifts)
    looks = lines(record(project) / "looks.jsonl")
    assert {look["phase"] for look in looks} == {"weight-50", "weight-100"}

    actions = [each["action"] for each in journal(project) if each["kind"] == "intent"]
    assert actions == ["deploy", "route", "weight", "weight", "switch", "promote"]
    assert journal(project)[-1]["state"] == "released"
    assert "entries, each follows" in command(project, "audit", "verify", output(project))
    assert command(project, "rollback").startswith("no interrupted release")


def test_errors_of_a_twentieth_are_caught(project: Project) -> None:
    compare = "{error_rate: 0.02, alpha: 0.000001, latency_p95: null, min_requests: 20}"
    text = CANARY.replace("{error_rate: 0.2, latency_p95: null, min_requests: 20}", compare)
    text = text.replace("max_duration: 40", "max_duration: 60").replace("rate: 100", "rate: 140")
    config = CONFIG[: CONFIG.index("    images:")] + FAULTY.lstrip("\n")
    # One request in twenty fails these, too; what is tried here comes after them.
    calm = text.replace("warm_up: {requests: 1}", "warm_up: {requests: 0}")
    releasing(project, calm + "smoke: {checks: [models]}\n", config)
    done = project.run("-m", "canary", RELEASE)
    assert (done.code, done.counts()["failed"]) == (1, 1), done.out
    assert left(project) == []

    found = steps(done)
    assert found["weight-50"]["verdict"] == "FAIL"
    assert found["weight-50"]["reason"].startswith("error_rate (compare): ")
    assert found["final-state"]["verdict"] == "PASS"
    assert found["final-state"]["reason"].startswith("rolled back: traffic and replicas are as ")
    result = json.loads((record(project) / "result.json").read_text())
    assert result["success"] is False
    assert result["rollback"]["succeeded"] is True
    assert result["rollback"]["requests_exposed"] > 0
    (phase,) = result["canary"]["phases"]
    (errors,) = [each for each in phase["findings"] if each["rule"] == "compare"]
    assert errors["verdict"] == "FAIL"
    assert errors["e_value"] > 1e6
    assert journal(project)[-1]["state"] == "rolled back"
    evidence = output(project) / "evidence" / "canary-weight-50"
    assert "route.txt" in {path.name for path in evidence.iterdir()}


GATES = """
gates:
  echoes:
    prompt: "Say exactly: {{ word }}"
    assert: ["equals: {{ word }}"]
    cases: words.csv
"""


def test_worse_answers_are_caught(project: Project) -> None:
    """Every third answer of the new version is wrong, by a count: some 15 of 45, never below 12."""
    config = CONFIG[: CONFIG.index("    images:")] + FAULTY.lstrip("\n")
    config = config.replace("error-500=0.05", "worse-answers=0.34")
    quality = "  quality: {gate: echoes, max_regression: 0.1}\n"
    releasing(project, CANARY + quality + GATES, config)
    project.write("words.csv", "\n".join(["word", *(f"w{number}" for number in range(45))]))
    done = project.run("-m", "canary", RELEASE)
    assert (done.code, done.counts()["failed"]) == (1, 1), done.out
    assert left(project) == []
    reason = steps(done)["weight-50"]["reason"]
    assert reason.startswith("answers (quality): of 45 cases 1")
    assert "worse, and not shown to be within the 10 points allowed" in reason
    assert steps(done)["final-state"]["reason"].startswith("rolled back: ")


def test_too_little_traffic_is_inconclusive(project: Project) -> None:
    text = CANARY.replace("min_requests: 20", "min_requests: 100000")
    releasing(project, text.replace("max_duration: 40", "max_duration: 1.5"))
    done = project.run("-m", "canary", RELEASE)
    assert done.code == 11, done.out
    found = steps(done)
    assert found["weight-50"]["verdict"] == "INCONCLUSIVE"
    assert found["weight-50"]["reason"].startswith("not enough to tell: ")
    assert "100000 are needed" in found["weight-50"]["reason"]
    assert found["final-state"]["reason"].startswith("rolled back: ")
    assert journal(project)[-1]["state"] == "rolled back"


def test_one_shift_is_held_and_taken_back(project: Project) -> None:
    releasing(project)
    done = project.run("-m", "canary", RELEASE, "--llmdeploy-weight=50", "--llmdeploy-keep-cluster")
    assert done.code == 0, done.out
    found = steps(done)
    assert tuple(found) == (*STEPS[:8], "zero-loss", "final-state")
    assert found["final-state"]["reason"] == (
        f"shifted, as asked: green ({IMAGE}) keeps 50 % of the traffic, blue the rest, and nobody "
        "watches it; to go on, release the same image again; to take it back, run "
        "`llmdeploy rollback --env local`"
    )
    assert journal(project)[-1]["kind"] == "held"
    said = command(project, "rollback", "--look")
    assert f"the release of {IMAGE} as green is held at 50 %" in said
    assert "rolled back: traffic and replicas are as before the release" in command(
        project, "rollback"
    )
    assert journal(project)[-1]["state"] == "rolled back"
    assert command(project, "rollback").startswith("no interrupted release")


def test_some_of_the_steps_are_no_canary(project: Project) -> None:
    releasing(project)
    done = project.run("-m", "canary", "-k", "weight", RELEASE)
    assert (done.code, done.counts()["errors"]) == (10, 2), done.out
    assert {item["reason"] for item in steps(done).values()} == {
        "a release is one ordered thing, and this run selected only some of its steps: "
        "select all of them, with -m canary"
    }
    assert not (output(project) / "fleets").exists()


def test_without_a_version_nothing_is_released(project: Project) -> None:
    releasing(project)
    done = project.run("-m", "canary")
    assert (done.code, done.counts()["skipped"]) == (10, 13), done.out
    assert {(item["verdict"], item["reason"]) for item in steps(done).values()} == {
        ("ERROR", "which version? Give it: --llmdeploy-image REF")
    }


def test_a_protected_environment_is_not_changed(project: Project) -> None:
    config = CONFIG.replace("  local:\n", "  local:\n    protected: true\n")
    releasing(project, config=config)
    said = "the environment 'local' is protected, so canary changes nothing there. To run it: "
    name, image = "name the stage: -m canary", "give the version to release: --llmdeploy-image REF"
    done = project.run("-m", "canary")
    assert (done.code, done.counts()["errors"]) == (10, 13), done.out
    assert {item["reason"] for item in steps(done).values()} == {said + image}
    done = project.run("-rs", "-k", "canary", "-m", "not blue_green", RELEASE)
    assert (done.code, done.counts()["skipped"]) == (0, 13), done.out
    assert said + name in done.out
    releasing(project, CANARY.replace("canary:\n", f"canary:\n  image: {IMAGE}\n"), config)
    text = (project.path / "llmdeploy.yaml").read_text()
    line = text.splitlines().index(f"  image: {IMAGE}") + 1
    done = project.run("-m", "canary", RELEASE)
    assert done.code == 10, done.out
    assert {item["reason"] for item in steps(done).values()} == {
        f"llmdeploy.yaml:{line}: canary.image: is for rehearsals: a protected environment is given "
        "--llmdeploy-image"
    }
    assert not list(project.path.glob(".llmdeploy/*/fleets"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--llmdeploy-weight=0"], "--llmdeploy-weight takes a percentage from 1 to 100, not '0'"),
        (["--llmdeploy-weight=101"], "--llmdeploy-weight takes a percentage from 1 to 100"),
        (["--llmdeploy-weight=5.5"], "--llmdeploy-weight takes a percentage from 1 to 100"),
        (
            ["--llmdeploy-weight=5", "--llmdeploy-duration=0"],
            "--llmdeploy-duration takes seconds above 0, not '0'",
        ),
        (
            ["--llmdeploy-weight=5", "--llmdeploy-duration=inf"],
            "--llmdeploy-duration takes seconds above 0, not 'inf'",
        ),
        (
            ["--llmdeploy-duration=5"],
            "--llmdeploy-duration belongs to --llmdeploy-weight: give both",
        ),
    ],
)
def test_options_that_cannot_be(project: Project, options: list[str], said: str) -> None:
    releasing(project)
    done = project.run("-m", "canary", RELEASE, *options)
    assert done.code == 4, done.out
    assert said in done.out


def test_two_workers_perform_one_canary(project: Project) -> None:
    releasing(project)
    done = project.run("-m", "canary", "-n2", RELEASE)
    assert (done.code, done.counts()) == (0, {"passed": 13}), done.out
    assert {item["verdict"] for item in steps(done).values()} == {"PASS"}
    assert [each["kind"] for each in journal(project)].count("begin") == 1
    assert left(project) == []
