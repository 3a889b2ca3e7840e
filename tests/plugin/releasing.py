"""A project that releases on this machine within seconds, and what its runs leave to look at."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from pytest_llmdeploy.platforms.local_fleet.launching import list_fleets, stop_fleet
from tests.plugin.conftest import Project, processes_of, wait_for

IMAGE = "llm-service:2.0.0"
BROKEN = "llm-service:broken"
STEPS = (
    "preflight",
    "deploy",
    "rollout",
    "health",
    "smoke",
    "switch",
    "converged",
    "watch",
    "zero-loss",
    "cleanup",
    "final-state",
)
RELEASE = f"--llmdeploy-image={IMAGE}"
SECTION = """
blue_green:
  replicas: 2
  liveness: {path: /health, delay: 5, period: 1}
  readiness: {path: /ready, delay: 0, period: 0.1}
  pre_stop: 0.2
  termination_grace_period: 4
  fresh_connections: 5
  watch_duration: WATCH
  drain_duration: 0.2
  converge_timeout: 10
  rollback_timeout: 20
  variables: {LLM_TTFT: "0.002", LLM_TOKEN_INTERVAL: "0.001"}
  traffic: {rate: 40, max_loss: 0.05, max_tokens: 4, long_stream_tokens: 8, timeout: 10}
"""
CONFIG = """
service: {name: llm-service, version_header: x-llm-version}
environments:
  local:
    reference: {engine: scripted, version: "1.0.0"}
    stable_image: llm-service:1.0.0
    stop_timeout: 3
    images: {"llm-service:broken": {variables: {LLM_FAULTS: no-done}}}
"""
MAIN = "import sys; from pytest_llmdeploy.commands import main; sys.exit(main())"
QUICK = """
from pytest_llmdeploy.release import prepare

prepare.BASELINE_DURATION = 0.3  # the running version's proof, shortened
"""


def releasing(project: Project, watch: float = 0.5) -> Project:
    """Give the project a release that watches for so many seconds."""
    project.config(CONFIG + SECTION.replace("WATCH", f"{watch:g}"))
    project.write("conftest.py", QUICK)
    return project


def command(project: Project, *arguments: str | Path, code: int = 0) -> str:
    """Return what an ``llmdeploy`` command says that ends with `code`.

    It finds neither kind nor Docker: the machine's clusters are none of a test's.
    """
    done = subprocess.run(
        [sys.executable, "-c", MAIN, *map(str, arguments)],
        cwd=project.path,
        env=project.variables({"PATH": str(project.path / "no-programs")}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, done.stdout
    return done.stdout


def lines(path: Path) -> list[dict[str, Any]]:
    """Return the whole lines of a file of JSON lines; none where it is not there yet."""
    if not path.exists():
        return []
    whole = path.read_bytes().split(b"\n")[:-1]
    return [json.loads(line) for line in whole]


def output(project: Project) -> Path:
    """Return the one output folder of the project's runs."""
    (folder,) = (path for path in (project.path / ".llmdeploy").iterdir() if path.is_dir())
    return folder


def record(project: Project) -> Path:
    """Return the folder of the one release of the project's runs."""
    (folder,) = (output(project) / "records" / "blue_green").iterdir()
    return folder


def journal(project: Project, pattern: str = ".llmdeploy/*") -> list[tuple[str, str]]:
    """Return kind and action, or state, of the entries of the project's one journal."""
    found = list(project.path.glob(f"{pattern}/records/blue_green/*/journal.jsonl"))
    entries = [entry for path in found for entry in lines(path)]
    return [(each["kind"], each.get("action") or each.get("state", "")) for each in entries]


def wait_for_step(project: Project, name: str) -> None:
    """Wait until the release has ended a step."""

    def ended() -> bool:
        found = project.path.glob(".llmdeploy/*/records/blue_green/*/steps.jsonl")
        return any(step["name"] == name for path in found for step in lines(path))

    wait_for(ended, f"step {name}")


def left(project: Project) -> list[str]:
    """Return the command lines of what still runs for the project."""
    found = []
    for pid in processes_of(str(project.path)):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        found.append(" ".join(word.decode() for word in words))
    return found


def end_all(project: Project) -> None:
    """End what a test has left running, whatever became of the test."""
    for fleet in list_fleets(project.path):
        stop_fleet(fleet.folder, 20)
    for pid in processes_of(str(project.path)):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
