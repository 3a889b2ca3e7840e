"""The ledger holds every record, also when its writer has not ended well."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmdeploy.load.ledger import (
    FLUSH_INTERVAL,
    EndClass,
    LedgerWriter,
    Record,
    read_ledger,
    rounded,
)

VALUES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()


def written(path: Path, records: list[Record], now: float = 0.0) -> LedgerWriter:
    writer = LedgerWriter(path)
    for record in records:
        writer.write(record, now)
    return writer


@given(records=st.lists(st.dictionaries(st.text(), VALUES, max_size=5), max_size=20))
def test_what_was_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, records: list[Record]
) -> None:
    path = tmp_path_factory.mktemp("ledger") / "l"
    writer = written(path, records)
    writer.close()
    assert writer.written == len(records)
    # Halves of letters beyond the basic plane are no text; they become question marks.
    expected = json.loads(
        json.dumps(records, ensure_ascii=False).encode("utf-8", "replace").decode()
    )
    assert list(read_ledger(path)) == expected


def test_lines_longer_than_a_block_are_read(tmp_path: Path) -> None:
    records: list[Record] = [{"i": i, "detail": "x" * (300_000 + i)} for i in range(5)]
    written(tmp_path / "l", records).close()
    assert list(read_ledger(tmp_path / "l")) == records


def test_every_tool_reads_it(tmp_path: Path) -> None:
    written(tmp_path / "l", [{"i": 1, "class": str(EndClass.OK), "detail": "ü"}]).close()
    with (tmp_path / "l").open("rb") as file:
        text = zstandard.ZstdDecompressor().stream_reader(file).read().decode()
    assert text == '{"i":1,"class":"ok","detail":"ü"}\n'


def test_a_ledger_is_never_written_over(tmp_path: Path) -> None:
    written(tmp_path / "l", []).close()
    with pytest.raises(FileExistsError):
        LedgerWriter(tmp_path / "l")


WRITER = """
import sys, time
from pathlib import Path
from pytest_llmdeploy.load.ledger import LedgerWriter

writer = LedgerWriter(Path(sys.argv[1]))
for i in range(1000):
    writer.write({"i": i}, 5.0 if i < 999 else 5.0 + float(sys.argv[2]))
print("written", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(("later", "number"), [(FLUSH_INTERVAL, 1000), (0.0, 1)])
def test_what_was_flushed_survives_a_kill(tmp_path: Path, later: float, number: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path / "l"), str(later)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[3],
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "written\n"
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert [record["i"] for record in read_ledger(tmp_path / "l")] == list(range(number))


@given(share=st.floats(0, 1))
def test_a_file_that_breaks_off_gives_what_is_whole(
    tmp_path_factory: pytest.TempPathFactory, share: float
) -> None:
    path = tmp_path_factory.mktemp("ledger") / "l"
    writer = LedgerWriter(path)
    for i in range(50):
        writer.write({"i": i, "at": i / 7}, i * FLUSH_INTERVAL)
    writer.close()
    data = path.read_bytes()
    path.write_bytes(data[: round(share * len(data))])
    found = [record["i"] for record in read_ledger(path)]
    assert found == list(range(len(found)))
    assert share < 1 or len(found) == 50


@pytest.mark.parametrize("data", [b"no ledger", b"{}\n" * 99])
def test_another_file_is_none(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "l"
    path.write_bytes(data)
    with pytest.raises(ValueError, match="is no ledger"):
        list(read_ledger(path))


def test_a_damaged_line_is_none(tmp_path: Path) -> None:
    path = tmp_path / "l"
    path.write_bytes(zstandard.compress(b'{"i":1}\n{"i"\n'))
    records = read_ledger(path)
    assert next(records) == {"i": 1}
    with pytest.raises(ValueError, match="is no ledger"):
        next(records)


def test_no_file_and_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        list(read_ledger(tmp_path / "none"))
    (tmp_path / "empty").write_bytes(b"")
    assert list(read_ledger(tmp_path / "empty")) == []


def test_times_are_kept_to_the_microsecond() -> None:
    times: dict[str, Any] = {"a": 1.23456789, "b": None, "c": 0.0}
    assert rounded(times) == {"a": 1.234568, "c": 0.0}


def test_what_came_last_is_there_once_it_was_flushed(tmp_path: Path) -> None:
    writer = written(tmp_path / "l", [{"i": i} for i in range(3)], now=5.0)
    assert [record["i"] for record in read_ledger(tmp_path / "l")] == [0], "with the first alone"
    writer.flush()
    assert [record["i"] for record in read_ledger(tmp_path / "l")] == [0, 1, 2]
    writer.close()
