"""Pulses tell live processes from dead ones, whatever ended them."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pytest_llmdeploy.liveness import Pulse, is_alive, wait_until_exit, wait_until_gone

HOLD = """
import sys, time
from pathlib import Path
from pytest_llmdeploy.liveness import Pulse
pulse = Pulse(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def holder(path: Path) -> subprocess.Popen[str]:
    """Return a process that holds the pulse until its standard input closes or it is killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_no_file_is_no_pulse(tmp_path: Path) -> None:
    assert not is_alive(tmp_path / "none")


def test_a_pulse_lives_until_it_is_stopped(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "a.pulse"
    pulse = Pulse(path)
    assert is_alive(path)
    with pytest.raises(BlockingIOError):
        Pulse(path)
    assert is_alive(path)
    pulse.stop()
    assert not is_alive(path)
    Pulse(path).stop()


def test_a_killed_process_has_no_pulse_even_before_it_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "a.pulse"
    process = holder(path)
    assert is_alive(path)
    assert path.read_text() == str(process.pid)
    ends = [
        threading.Thread(target=wait_until_gone, args=(path,)),
        threading.Thread(target=wait_until_exit, args=(process.pid,)),
    ]
    for end in ends:
        end.start()
    assert all(end.is_alive() for end in ends)
    process.kill()
    for end in ends:
        end.join(20)
        assert not end.is_alive()
    assert not is_alive(path)
    process.communicate()


def test_waiting_for_a_process_that_is_gone_returns() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    wait_until_exit(process.pid)
