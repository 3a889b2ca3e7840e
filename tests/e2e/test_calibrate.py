"""A policy is calibrated by real canaries here, and an interrupted calibration leaves nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.plugin.conftest import Project, wait_for
from tests.plugin.releasing import end_all, left, lines

MAIN = """
import sys
from pytest_llmdeploy.release import prepare

prepare.BASELINE_DURATION = 0.3  # the running version's proof, shortened
from pytest_llmdeploy.commands import main

sys.exit(main())
"""
CONFIG = """
service: {name: llm-service, version_header: x-llm-version}
environments:
  local:
    reference: {engine: scripted, version: "1.0.0"}
    stable_image: llm-service:1.0.0
    stop_timeout: 3
blue_green:
  replicas: 1
  liveness: {path: /health, delay: 5, period: 1}
  readiness: {path: /ready, delay: 0, period: 0.1}
  pre_stop: 0.2
  termination_grace_period: 4
  fresh_connections: 5
  drain_duration: 0.2
  converge_timeout: 10
  rollback_timeout: 20
  variables: {LLM_TTFT: "0.01", LLM_TOKEN_INTERVAL: "0.001"}
  traffic:
    rate: 100
    max_loss: 0.05
    max_tokens: 4
    long_stream_tokens: 8
    timeout: 10
    prompts: {words: 4}
canary:
  phases:
    - {weight: 50, duration: DURATION, max_duration: 90}
    - {weight: 100, duration: 1.5}
  sample_interval: 0.7
  look_interval: 0.3
  warm_up: {requests: 1}
  compare: {error_rate: 0.1, latency_p95: null, min_requests: 20}
  sla: {cpu_usage: null, memory_usage: null, points: 2}
"""


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    (tmp_path / "tmp").mkdir()
    made = Project(tmp_path, "")
    yield made
    end_all(made)


def begin(project: Project, *words: str, duration: float = 2) -> subprocess.Popen[str]:
    project.config(CONFIG.replace("DURATION", f"{duration:g}"))
    # Load runs of one machine wait for each other by a lock there: not for those of other tests.
    own = {"TMPDIR": str(project.path / "tmp")}
    return subprocess.Popen(
        [sys.executable, "-c", MAIN, "calibrate", *words],
        cwd=project.path,
        env=project.variables({"PATH": os.environ["PATH"], "COLUMNS": "200", **own}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def result(folder: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((folder / "calibration.json").read_text())
    return data


def test_a_good_and_a_bad_version_on_this_machine(project: Project) -> None:
    """Of the bad one a third fails; that this looks well has a probability below 1e-9.

    That the good one is alarmed at: no request of it fails, so nothing speaks against it.
    """
    words = ("--only", "a-a,errors-5,weights-ignored", "--simulate", "20", "--output", "out")
    done = begin(project, *words)
    said, _ = done.communicate(timeout=110)
    data = result(project.path / "out")
    cases = {case["name"]: case for case in data["cases"]}
    assert done.returncode == data["exit_code"] == 0, said
    assert [each["outcome"] for each in cases["a-a"]["measured"]] == ["promoted"]
    (ignored,) = cases["weights-ignored"]["measured"]
    assert (ignored["outcome"], ignored["by"], ignored["restored"]) == ("error", "weight-50", True)
    (bad,) = cases["errors-5"]["measured"]
    assert bad["restored"]
    assert cases["a-a"]["simulated"]["caught"]["n"] == 20
    assert data["figures"]["requests"] > 100
    assert 50 < data["figures"]["rate"] < 150
    assert "1/3 a-a: PROMOTED" in said
    assert (project.path / "out" / "calibration.html").is_file()
    assert left(project) == []


def test_ctrl_c_rolls_back_and_writes_what_is_known(project: Project) -> None:
    running = begin(project, "--only", "a-a", "--output", "out", duration=60)
    records = project.path / "out" / "records" / "canary"

    def has_traffic() -> bool:
        assert running.poll() is None, running.communicate()[0]
        found = [entry for path in records.glob("*/looks.jsonl") for entry in lines(path)]
        return bool(found)

    wait_for(has_traffic, "a look of the first phase", 90.0)
    running.send_signal(signal.SIGINT)
    said, _ = running.communicate(timeout=60)
    assert running.returncode == 130, said
    data = result(project.path / "out")
    assert (data["interrupted"], data["cases"]) == (True, [])
    assert "interrupted: what was under way has been taken back" in said
    (journal,) = records.glob("*/journal.jsonl")
    assert lines(journal)[-1]["state"] == "rolled back"
    assert left(project) == []
