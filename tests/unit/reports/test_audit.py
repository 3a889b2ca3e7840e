"""The audit trail: what was done to it afterwards shows."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmdeploy.commands import main
from pytest_llmdeploy.reports.audit import AUDIT, append, verify

N = 6


@pytest.fixture(scope="module")
def trail(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole trail."""
    path = tmp_path_factory.mktemp("audit") / AUDIT
    for number in range(N):
        append(path, {"event": "switch", "who": "änna", "number": number})
    return path


def check(path: Path, lines: list[bytes]) -> tuple[int, str]:
    """Verify what consists of these lines."""
    other = path.with_name("changed.jsonl")
    other.write_bytes(b"".join(line + b"\n" for line in lines))
    return verify(other)


def test_a_whole_trail(trail: Path) -> None:
    number, last = verify(trail)
    assert number == N
    assert len(last) == 64
    entries = [json.loads(line) for line in trail.read_bytes().splitlines()]
    assert [entry["number"] for entry in entries] == [*range(N)]
    assert entries[0]["before"] == "0" * 64
    assert all(entry["time"].endswith("+00:00") and entry["who"] == "änna" for entry in entries)


@given(data=st.data())
def test_what_was_changed_left_out_put_in_or_swapped_shows(
    data: st.DataObject, trail: Path
) -> None:
    lines = trail.read_bytes().splitlines()
    last = verify(trail)[1]
    at = data.draw(st.integers(0, N - 1))
    to = data.draw(st.integers(0, N - 1).filter(lambda other: other != at))
    what = data.draw(st.sampled_from(["change", "leave out", "put in", "swap"]))
    changed = [*lines]
    if what == "change":
        changed[at] = lines[at].replace(b'"switch"', b'"deploy"')
    elif what == "leave out":
        del changed[at]
    elif what == "put in":
        changed.insert(at, lines[to])
    else:
        changed[at], changed[to] = lines[to], lines[at]
    try:
        found = check(trail, changed)
    except ValueError as error:
        assert str(error).endswith(  # noqa: PT017 - either way is right
            "it does not follow the line before it: a line was changed, left out or put in"
        )
    else:
        # The end of a chain is held by nothing but its own hash, which is kept elsewhere.
        assert at == N - 1
        assert found[1] != last


def test_what_is_no_trail(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / AUDIT
    path.touch()
    with pytest.raises(ValueError, match="it is empty"):
        verify(path)
    path.write_text('{"event": "switch"}\n')
    with pytest.raises(ValueError, match=f"{AUDIT}:1: no entry of an audit trail"):
        verify(path)
    assert main(["audit", "verify", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"llmdeploy: {path}:1: no entry of an audit trail\n"
    assert main(["audit", "verify", str(tmp_path / "nowhere")]) == 2


def test_a_line_that_a_crash_cut_does_not_take_the_next_one_with_it(tmp_path: Path) -> None:
    path = tmp_path / AUDIT
    append(path, {"event": "deploy"})
    with path.open("ab") as file:
        file.write(b'{"time": "2026-')
    append(path, {"event": "switch"})
    events = []
    for line in path.read_bytes().splitlines():
        try:
            events.append(json.loads(line)["event"])
        except ValueError:
            events.append("cut")
    assert events == ["deploy", "cut", "switch"]
    with pytest.raises(ValueError, match=f"{AUDIT}:2: no entry of an audit trail"):
        verify(path)


APPENDS = """
import sys
from pathlib import Path
from pytest_llmdeploy.reports.audit import append

for number in range(25):
    append(Path(sys.argv[1]), {"who": sys.argv[2], "number": number})
"""


def test_two_processes_keep_one_chain(tmp_path: Path) -> None:
    path = tmp_path / AUDIT
    both = [subprocess.Popen([sys.executable, "-c", APPENDS, path, who]) for who in ("a", "b")]
    assert [process.wait(60) for process in both] == [0, 0]
    assert verify(path)[0] == 50
    entries = [json.loads(line) for line in path.read_bytes().splitlines()]
    for who in ("a", "b"):
        assert [e["number"] for e in entries if e["who"] == who] == [*range(25)]
