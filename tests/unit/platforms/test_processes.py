"""What all started processes share."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest

from pytest_llmdeploy.config.models import ReferenceConfig
from pytest_llmdeploy.platforms.processes import (
    LEFT_OUT,
    LONGEST_LINE,
    PORTS,
    Log,
    command_at,
    free_port,
    last_lines,
    reference_variables,
    signal_group,
)
from pytest_llmdeploy.redaction import Redactor


def written(path: Path, *pieces: bytes) -> str:
    log = Log(path, Redactor(["s3cret"]))
    for piece in pieces:
        log.feed(piece)
    log.close()
    return path.read_text(encoding="utf-8")


def test_a_secret_is_hidden_wherever_its_line_was_cut(tmp_path: Path) -> None:
    text = written(tmp_path / "log", b"a s3", b"cret b\nfull ", b"line\nlast s3cre", b"t")
    assert text == "a *** b\nfull line\nlast ***\n"


@pytest.mark.parametrize("size", [LONGEST_LINE, 3 * LONGEST_LINE + 7])
def test_of_a_long_line_nothing_is_kept(tmp_path: Path, size: int) -> None:
    line = b"x" * (size - 6) + b"s3cret"
    pieces = [line[start : start + 50_000] for start in range(0, size, 50_000)]
    assert written(tmp_path / "log", b"one\n", *pieces, b"\ntwo\n") == f"one\n{LEFT_OUT}two\n"


def test_lines_are_there_as_soon_as_they_are_whole(tmp_path: Path) -> None:
    log = Log(tmp_path / "log", Redactor())
    log.feed(b"whole\nhalf")
    assert (tmp_path / "log").read_text() == "whole\n"
    log.close()


def test_last_lines(tmp_path: Path) -> None:
    path = tmp_path / "log"
    assert last_lines(path, 3) == []
    path.write_bytes(b"y" * 300_000 + b"\n" + b"".join(b"%d\n" % n for n in range(9)) + b"\xff")
    assert last_lines(path, 3) == ["7", "8", "\ufffd"]


def test_a_port_that_is_taken_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        offers = iter([port, port, 0])
        monkeypatch.setattr("random.choice", lambda ports: next(offers))
        assert free_port() == 0
    monkeypatch.undo()
    assert free_port() in PORTS


def test_commands() -> None:
    assert command_at(["serve", "--bind=:{port}", "{}"], 80) == ["serve", "--bind=:80", "{}"]
    variables = reference_variables(ReferenceConfig(faults=("hang=0.1", "no-done")))
    assert variables["LLM_FAULTS"] == "hang=0.1,no-done"


def test_a_group_that_is_gone_is_no_error() -> None:
    pid = os.posix_spawnp("true", ["true"], os.environ, setpgroup=0)
    os.waitpid(pid, 0)
    signal_group(pid, signal.SIGTERM)
