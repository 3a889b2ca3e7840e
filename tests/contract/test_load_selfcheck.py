"""The generator measures itself: against a mock, and while it runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pytest_llmdeploy.errors import NotMeasuredError
from pytest_llmdeploy.load import selfcheck
from pytest_llmdeploy.load.selfcheck import check_generator, mock_server
from pytest_llmdeploy.load.spec import Timeouts
from tests.contract.conftest import wait_until
from tests.contract.traffic import traffic


def test_what_the_user_allows_the_service_is_not_asked_of_the_mock(tmp_path: Path) -> None:
    """It takes 0.1 s to its first token, and 0.3 s in all: more than these would bear."""
    spec = traffic(
        "http://127.0.0.1:9",
        100,
        rate=40.0,
        timeouts=Timeouts(connect=1e-3, first_token=0.01, idle=0.001, total=0.02),
        max_in_flight=1,
        output_tokens=(20, 20),
    )
    found = check_generator(spec, 0.5, tmp_path / "check", 1, 5.0)
    assert (found.verdict, found.reason) == ("ok", None)


def test_a_users_folder_does_not_hide_what_the_mock_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "asyncio.py").write_text("raise RuntimeError('not this one')", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with mock_server(1) as url:
        assert url.startswith("http://")


class _Stuck:
    """Makes a stuck process of the mock."""

    def __init__(self, script: str) -> None:
        self.processes: list[subprocess.Popen[bytes]] = []
        self._script = script
        self._start = subprocess.Popen

    def __call__(self, _command: Any, **options: Any) -> subprocess.Popen[bytes]:
        process = self._start([sys.executable, "-c", self._script], **options)
        self.processes.append(process)
        return process


DEAF = "import signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
FOREVER = "import time; time.sleep(600)"


@pytest.mark.parametrize("said", ["print('listening', end='', flush=True);", "", "sys.exit()"])
def test_a_mock_that_is_stuck_is_no_reason_to_wait(
    monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    stuck = _Stuck(f"{DEAF} {said} {FOREVER}")
    monkeypatch.setattr(selfcheck, "START_TIMEOUT", 1.0)
    monkeypatch.setattr(selfcheck, "STOP_TIMEOUT", 0.2)
    monkeypatch.setattr(subprocess, "Popen", stuck)
    with pytest.raises(NotMeasuredError) as caught, mock_server(1):
        pass
    assert str(caught.value) == "the mock for the generator's self-check did not start"
    (process,) = stuck.processes
    assert process.returncode is not None


def test_a_mock_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    stuck = _Stuck(f"{DEAF} print('at http://127.0.0.1:9', flush=True); {FOREVER}")
    monkeypatch.setattr(selfcheck, "STOP_TIMEOUT", 0.2)
    monkeypatch.setattr(subprocess, "Popen", stuck)
    with mock_server(1) as url:
        assert url == "http://127.0.0.1:9"
    (process,) = stuck.processes
    wait_until(lambda: not Path(f"/proc/{process.pid}").exists(), 10.0)
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)
