"""A project to run pytest in, as a user would: in a process of its own, against a real service."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

START_TIMEOUT = 30.0
CLEARED = (
    "PYTHONDONTWRITEBYTECODE",
    "LLMDEPLOY_ENV",
    "GITHUB_OUTPUT",
    "GITHUB_STEP_SUMMARY",
    "PYTEST_ADDOPTS",
    "CI",
)


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@pytest.fixture(scope="session")
def scripted_url() -> Iterator[str]:
    """A running reference service with scripted answers and no delays, shared by the tests."""
    port = free_port()
    service = subprocess.Popen(
        [
            *(sys.executable, "-m", "pytest_llmdeploy.reference", "--engine", "scripted"),
            *("--ttft", "0.001", "--token-interval", "0.0005", "--port", str(port)),
        ],
        stdout=subprocess.PIPE,
    )
    assert service.stdout is not None
    assert service.stdout.readline().startswith(b"reference service")
    yield f"http://127.0.0.1:{port}"
    service.send_signal(signal.SIGTERM)
    assert service.wait(START_TIMEOUT) == 0
    service.stdout.close()


@dataclass
class Outcome:
    """One finished pytest run."""

    code: int
    out: str
    reports: list[Path]

    @property
    def report(self) -> dict[str, Any]:
        """The run's report.json."""
        (path,) = self.reports
        value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return value

    def counts(self) -> dict[str, int]:
        """The numbers of pytest's last line, such as ``{"passed": 3, "missed": 1}``."""
        last = [line for line in self.out.splitlines() if re.search(r" in \d+\.\d+s", line)][-1]
        return {word: int(number) for number, word in re.findall(r"(\d+) ([a-z]+)", last)}

    def verdicts(self) -> dict[str, str]:
        """Verdict by the path of each item, such as ``gates::echo::a``."""
        return {
            f"{item['stage']}::{item['name']}": item["verdict"] for item in self.report["items"]
        }


@dataclass
class Project:
    """A directory with a llmdeploy.yaml."""

    path: Path
    url: str

    def write(self, name: str, text: str) -> Path:
        """Write one file."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def config(self, text: str) -> Path:
        """Write llmdeploy.yaml; ``{url}`` is the scripted service's address."""
        return self.write("llmdeploy.yaml", text.replace("{url}", self.url))

    def command(self, *arguments: str) -> list[str]:
        """Return the command line of a pytest run."""
        return [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]

    def variables(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the environment of a pytest run: ours, without what would change its course.

        The project's path in it tells `processes_of` the processes that the run started.
        """
        kept = {key: value for key, value in os.environ.items() if key not in CLEARED}
        return {**kept, "COLUMNS": "120", "PROJECT": str(self.path), **(more or {})}

    def run(
        self, *arguments: str, env: Mapping[str, str] | None = None, cache: bool = False
    ) -> Outcome:
        """Run pytest to its end."""
        command = self.command(*arguments)
        if cache:
            command = [part for part in command if part not in ("-p", "no:cacheprovider")]
        before = set(self.path.glob(".llmdeploy/*/report.json"))
        done = subprocess.run(
            command,
            cwd=self.path,
            env=self.variables(env),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=100,
            check=False,
        )
        after = set(self.path.glob(".llmdeploy/*/report.json"))
        return Outcome(done.returncode, done.stdout, sorted(after - before))

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start pytest and return the process."""
        return subprocess.Popen(
            self.command(*arguments),
            cwd=self.path,
            env=self.variables(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


@pytest.fixture
def project(tmp_path: Path, scripted_url: str) -> Project:
    """An empty project whose root directory is its own."""
    (tmp_path / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    return Project(tmp_path, scripted_url)


def wait_for(condition: Any, what: str, timeout: float = START_TIMEOUT) -> Any:
    """Return the first true result of `condition`."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if result := condition():
            return result
        time.sleep(0.02)
    raise AssertionError(f"{what} did not come within {timeout} s")


def processes_of(marker: str) -> list[int]:
    """Return the pids of live processes whose command line or environment has `marker`."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            text = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
        except (OSError, IndexError):
            continue
        if marker.encode() in text and state != "Z" and int(folder.name) != os.getpid():
            found.append(int(folder.name))
    return found
