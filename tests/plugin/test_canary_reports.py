"""What a real canary leaves: page, report, terminal, and a record to judge once more."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

import pytest

from tests.plugin.conftest import Project
from tests.plugin.releasing import (
    CONFIG,
    IMAGE,
    QUICK,
    RELEASE,
    SECTION,
    command,
    end_all,
    output,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
CANARY = """
canary:
  phases: [{weight: 20, duration: 2, max_duration: 20}, {weight: 100, duration: 2}]
  sample_interval: 0.5
  look_interval: 0.25
  split_tolerance: 0.2
  warm_up: {requests: 0}
  sla: {error_rate: 0.9, cpu_usage: null, memory_usage: null, points: 2}
  compare: {error_rate: 0.15, latency_p95: null, min_requests: 5}
  traffic: {rate: 120, max_loss: 0.05, max_tokens: 4, long_stream_tokens: 8, timeout: 10}
"""
LITTLE_SMOKE = "smoke: {checks: [models]}\n"


@pytest.fixture(autouse=True)
def _nothing_left(project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (project.path / "tmp").mkdir()
    # Load runs of one machine wait for each other by a lock there: not for those of other tests.
    monkeypatch.setenv("TMPDIR", str(project.path / "tmp"))
    yield
    end_all(project)


def releasing(project: Project, config: str) -> None:
    project.config(config + SECTION.replace("WATCH", "0.5") + CANARY)
    project.write("conftest.py", QUICK)


def test_the_reports_of_a_canary_that_is_promoted(project: Project) -> None:
    releasing(project, CONFIG)
    github = project.path / "summary.md"
    done = project.run("-m", "canary", RELEASE, env={"GITHUB_STEP_SUMMARY": str(github)})
    assert done.code == 0, done.out
    lines = [" ".join(line.split()) for line in done.out.splitlines()]
    assert any(line.startswith("weight-20 PASS ") for line in lines), done.out
    assert "| weight-100 | PASS |" in github.read_text()
    items = {item["name"]: item for item in done.report["items"]}
    phase = items["weight-20"]["detail"]["step"]["detail"]["phase"]
    assert {finding["signal"] for finding in phase["findings"]} == {"error_rate", "latency_p95"}

    (folder,) = (output(project) / "records" / "canary").iterdir()
    page = (output(project) / "report.html").read_text()
    assert f"Canary: {folder.name}" in page
    assert f"keep {IMAGE}. The closest call was " in page
    for part in ("Weights and requests", "Both versions", "Evidence of more failures", "promote"):
        assert part in page, part

    moved = folder.rename(project.path / "moved")  # the folder is enough
    said = command(project, "rejudge", moved)
    assert said.splitlines()[-1] == "  PASS: every phase passes"
    assert "CHANGED" not in said
    assert "earlier than it did" not in said
    result = json.loads((moved / "result.json").read_text())
    for phase in result["canary"]["phases"]:
        assert f"  {phase['name']}: recorded {phase['verdict']}, now {phase['verdict']}\n" in said
    strict = CONFIG + SECTION.replace("WATCH", "1") + CANARY.replace("duration: 2,", "duration: 9,")
    project.config(strict)
    said = command(project, "rejudge", moved, "--config", "llmdeploy.yaml", code=11)
    assert "the record ends after " in said


def test_the_reports_of_a_canary_that_goes_back(project: Project) -> None:
    broken = CONFIG.replace("broken", "other").rstrip() + "\n"
    config = broken.replace('images: {"llm-service:other"', f'images: {{"{IMAGE}"')
    releasing(project, config.replace("no-done", '"error-500=0.5"') + LITTLE_SMOKE)
    done = project.run("-m", "canary", RELEASE)
    assert done.code == 1, done.out
    lines = [" ".join(line.split()) for line in done.out.splitlines()]
    assert any(line.startswith("weight-20 FAIL ") for line in lines), done.out
    page = (output(project) / "report.html").read_text()
    for part in ("ROLLED BACK", "Requests exposed", "goes back", f"mend {IMAGE} before it is"):
        assert part in page, part
    said = command(project, "rejudge", output(project), code=1)
    assert "  weight-20: recorded FAIL, now FAIL\n" in said
    assert said.splitlines()[-1] == "  FAIL at weight-20: the canary ends here, and goes back"
    # However many requests there were until then: 20 failures in a row would not be enough.
    looser = CANARY.replace("min_requests: 5", "min_requests: 5, alpha: 1.0e-15")
    project.config(config + SECTION.replace("WATCH", "1") + looser)
    command(project, "rejudge", output(project), "--config", "llmdeploy.yaml", code=11)
