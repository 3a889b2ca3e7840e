"""A blue/green release as pytest performs it: real replicas, a real Envoy, a real pytest."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.plugin.conftest import Outcome, Project
from tests.plugin.releasing import (
    BROKEN,
    CONFIG,
    IMAGE,
    RELEASE,
    SECTION,
    STEPS,
    command,
    end_all,
    journal,
    left,
    lines,
    output,
    record,
    releasing,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@pytest.fixture(autouse=True)
def _nothing_left(project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (project.path / "tmp").mkdir()
    # Load runs of one machine wait for each other by a lock there: not for those of other tests.
    monkeypatch.setenv("TMPDIR", str(project.path / "tmp"))
    yield
    end_all(project)


def steps(done: Outcome) -> dict[str, dict[str, Any]]:
    """Return the run's items of the release by name."""
    return {item["name"]: item for item in done.report["items"] if item["stage"] == "blue_green"}


def test_a_release_that_passes(project: Project) -> None:
    releasing(project)
    done = project.run("-m", "blue_green", RELEASE)
    assert (done.code, done.counts()) == (0, {"passed": 11, "deselected": 7}), done.out
    assert left(project) == []

    found = steps(done)
    assert tuple(found) == STEPS
    assert {item["verdict"] for item in found.values()} == {"PASS"}
    assert found["preflight"]["reason"].startswith(f"{IMAGE} goes to green; blue 1.0.0 answers all")
    assert found["zero-loss"]["reason"].startswith("0 of ")
    assert found["final-state"]["reason"] == (
        f"released: the service leads to green, and green has {IMAGE}"
    )

    result = json.loads((record(project) / "result.json").read_text())
    assert (result["success"], result["error"], result["rollback"]) == (True, None, None)
    assert (result["previous_color"], result["new_color"]) == ("blue", "green")
    assert (result["previous_image"], result["image"]) == ("llm-service:1.0.0", IMAGE)
    assert result["duration"] > 0
    assert result["timestamp"].endswith("+00:00")
    checks = {(check["check"], check["verdict"]) for check in result["health_checks"]}
    assert checks == {("health", "PASS"), ("health-status", "PASS"), ("ready", "PASS")}
    assert len({check["pod"] for check in result["health_checks"]}) == 2
    assert [step["name"] for step in result["steps"]] == list(STEPS)
    traffic = result["traffic"]
    assert traffic["lost"] == 0
    assert sum(sum(ends.values()) for ends in traffic["phases"].values()) == traffic["n"]
    assert set(traffic["versions"]["before"]) == {"1.0.0"}
    assert set(traffic["versions"]["after"]) == {"2.0.0"}

    assert journal(project) == [
        ("begin", ""),
        ("intent", "deploy"),
        ("done", "deploy"),
        ("intent", "switch"),
        ("done", "switch"),
        ("end", "released"),
    ]
    said = command(project, "audit", "verify", output(project))
    assert "entries, each follows the one before it" in said
    trail = lines(output(project) / "audit.jsonl")
    assert [e["event"] for e in trail if e["event"] != "verdict"] == ["deploy", "switch"]
    verdicts = [
        (e["detail"]["step"], e["detail"]["verdict"]) for e in trail if e["event"] == "verdict"
    ]
    assert verdicts == [(step, "PASS") for step in STEPS]
    assert command(project, "rollback") == (
        "no interrupted release of the environment 'local' was found\n"
    )
    assert command(project, "clusters") == "nothing is left of any run\n"


def test_a_version_that_fails_its_smoke_checks_is_taken_back(project: Project) -> None:
    releasing(project)
    done = project.run("-m", "blue_green", "-rs", f"--llmdeploy-image={BROKEN}")
    assert done.code == 1, done.out
    counts = {"passed": 5, "failed": 1, "skipped": 5, "deselected": 7}
    assert done.counts() == counts, done.out
    assert left(project) == []

    found = steps(done)
    assert found["smoke"]["verdict"] == "FAIL"
    assert "expected a last event [DONE]" in found["smoke"]["reason"]
    assert found["final-state"]["verdict"] == "PASS"
    assert found["final-state"]["reason"] == (
        "rolled back: traffic was never moved; replicas are as before the release"
    )
    assert "SKIPPED [5] " in done.out
    assert done.out.count("not done, for step 'smoke' did not pass") == 1
    evidence = output(project) / "evidence" / "blue_green-smoke"
    assert f"evidence: {evidence}" in done.out
    assert {"status.json", "supervisor.log", "envoy.log"} <= {p.name for p in evidence.iterdir()}
    assert any(path.name.startswith("replica-local-green-") for path in evidence.iterdir())

    result = json.loads((record(project) / "result.json").read_text())
    assert result["success"] is False
    assert result["error"].startswith("smoke: smoke check 'stream' fails on ")
    assert result["rollback"]["succeeded"] is True
    assert result["traffic"]["lost"] == 0
    assert journal(project)[-1] == ("end", "rolled back")
    command(project, "audit", "verify", output(project))


def test_some_of_the_steps_are_no_release(project: Project) -> None:
    releasing(project)
    done = project.run("-m", "blue_green", "-k", "switch", RELEASE)
    assert (done.code, done.counts()) == (10, {"error": 1, "deselected": 17}), done.out
    assert steps(done)["switch"]["reason"] == (
        "a release is one ordered thing, and this run selected only some of its steps: "
        "select all of them, with -m blue_green"
    )
    assert not (output(project) / "fleets").exists()


def test_without_a_version_nothing_is_released(project: Project) -> None:
    releasing(project)
    done = project.run("-k", "blue_green", "-rs")
    assert (done.code, done.counts()) == (0, {"skipped": 11, "deselected": 7}), done.out
    assert "a release needs its version (--llmdeploy-image REF) and -m blue_green" in done.out

    done = project.run("-m", "blue_green")
    assert (done.code, done.counts()) == (10, {"skipped": 11, "deselected": 7}), done.out
    assert {(item["verdict"], item["reason"]) for item in steps(done).values()} == {
        ("ERROR", "which version? Give it: --llmdeploy-image REF")
    }
    assert not list(project.path.glob(".llmdeploy/*/fleets"))


GUARDED = """
  cluster:
    {platform: kubernetes, context: prod, protected: true, url: "http://127.0.0.1:9"}
"""
KUBECONFIG = "apiVersion: v1\nkind: Config\ncontexts: [{name: dev}]\ncurrent-context: dev\n"


def test_a_protected_environment_is_not_changed(project: Project) -> None:
    own = CONFIG.replace("  local:\n", "  local:\n    protected: true\n")
    project.config(own + GUARDED + SECTION.replace("WATCH", "0.5"))
    project.write("kubeconfig", KUBECONFIG)
    said = "the environment 'local' is protected, so blue_green changes nothing there. To run it: "
    name, image = "name the stage: -m blue_green", "give the version to release: --llmdeploy-image"

    done = project.run("-rs", "-k", "blue_green")
    assert (done.code, done.counts()["skipped"]) == (0, 11), done.out
    assert said + f"{name}; {image} REF" in done.out.replace("\n", "")
    done = project.run("-rs", "-m", "not canary", "-k", "blue_green", RELEASE)
    assert (done.code, done.counts()["skipped"]) == (0, 11), done.out
    assert said + name in done.out
    done = project.run("-m", "blue_green")
    assert (done.code, done.counts()["errors"]) == (10, 11), done.out
    assert {item["reason"] for item in steps(done).values()} == {said + image + " REF"}
    done = project.run(
        *("-m", "blue_green", "--env=cluster", RELEASE),
        env={"KUBECONFIG": str(project.path / "kubeconfig")},
    )
    assert (done.code, done.counts()["errors"]) == (10, 11), done.out
    reason = steps(done)["preflight"]["reason"]
    assert reason.endswith("use the kubeconfig context 'prod' (now: dev)")

    project.write(
        "test_deploy.py",
        f"def test_deploy(blue_green):\n    blue_green.deploy({IMAGE!r})\n",
    )
    done = project.run("test_deploy.py", RELEASE)
    assert done.code == 10, done.out
    assert "release with -m blue_green --llmdeploy-image REF" in done.out
    assert not list(project.path.glob(".llmdeploy/*/fleets"))
    assert not list(project.path.glob(".llmdeploy/*/audit.jsonl"))


@pytest.mark.timeout(60)
def test_an_environment_that_can_have_no_releases_says_so_at_each_step(project: Project) -> None:
    project.config('environments: {local: {url: "{url}"}}\nblue_green: {}\n')
    done = project.run("-m", "blue_green", RELEASE)
    assert (done.code, done.counts()["errors"]) == (10, 11), done.out
    reasons = {item["reason"].partition(": releases on")[0] for item in steps(done).values()}
    assert reasons == {"llmdeploy.yaml:1: environments.local"}, done.out


def test_two_workers_perform_one_release(project: Project) -> None:
    releasing(project)
    done = project.run("-m", "blue_green", "-n2", RELEASE)
    assert (done.code, done.counts()) == (0, {"passed": 11}), done.out
    assert {item["verdict"] for item in steps(done).values()} == {"PASS"}
    assert [kind for kind, _ in journal(project)].count("begin") == 1
    assert left(project) == []


RELEASES = f"""
import urllib.request

def test_releases(blue_green):
    url = blue_green.service.url
    result = blue_green.deploy({BROKEN!r})
    assert not result.success
    assert result.error.startswith("smoke: "), result.error
    assert result.rollback.succeeded
    result = blue_green.deploy({IMAGE!r})
    assert result.success, result.error
    assert (result.previous_color, result.new_color) == ("blue", "green")
    with urllib.request.urlopen(url + "/ready") as answer:
        assert answer.headers["x-llm-version"] == "2.0.0"
    assert blue_green.service.version == "2.0.0"
"""


def test_releases_from_a_fixture_and_a_fleet_that_is_kept(project: Project) -> None:
    releasing(project)
    project.write("test_releases.py", RELEASES)
    done = project.run("test_releases.py", "--llmdeploy-keep-cluster")
    assert (done.code, done.counts()) == (0, {"passed": 1}), done.out
    assert command(project, "rollback").startswith("no interrupted release")

    fleet = output(project) / "fleets" / "local"
    said = f"local fleet {fleet.relative_to(project.path)}: "
    assert any("supervisor" in process for process in left(project))
    assert command(project, "clusters") == f"{said}left over\n"
    assert command(project, "clusters", "--sweep") == f"{said}ended\n"
    assert left(project) == []


SCRIPT = f"""
import sys
from pytest_llmdeploy import environment
from pytest_llmdeploy.release import prepare

prepare.BASELINE_DURATION = 0.3
if __name__ == "__main__":
    with environment("llmdeploy.yaml") as blue_green:
        result = blue_green.deploy({IMAGE!r})
        print("SUCCESS" if result.success else result.error, flush=True)
        sys.stdin.readline()
"""


def test_a_plain_script_releases(project: Project) -> None:
    releasing(project)
    project.write("release.py", SCRIPT)
    with subprocess.Popen(
        [sys.executable, "release.py"],
        cwd=project.path,
        env=project.variables(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as script:
        assert script.stdout is not None
        assert script.stdout.readline() == "SUCCESS\n"
        fleet = output(project) / "fleets" / "local"
        used = f"local fleet {fleet.relative_to(project.path)}: in use or kept\n"
        assert command(project, "clusters") == used
        assert command(project, "clusters", "--sweep") == used
        said = script.communicate("\n", timeout=30)[0]
    assert (script.returncode, said) == (0, "")
    assert left(project) == []
