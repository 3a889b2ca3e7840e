"""What a power cut leaves of a record: whole transactions, with the calls that they rest on."""

from __future__ import annotations

import shutil
from pathlib import Path

from pytest_llmdeploy.gates.answers import AnswerStore, Call
from pytest_llmdeploy.gates.store import CaseStore, as_text

CASES = 12


def call(number: int) -> Call:
    return Call("chat", "m", [{"role": "user", "content": f"q{number}"}], {}, whose=f"s/c{number}")


def recorded_calls(path: Path) -> set[str]:
    store = AnswerStore(path, writable=False)
    found = {f"c{n}" for n in range(CASES) if store.find(call(n)) is not None}
    store.close()
    return found


def test_a_half_written_log_keeps_what_was_whole(tmp_path: Path) -> None:
    whole = tmp_path / "whole" / "gates.sqlite"
    log = whole.with_name("gates.sqlite-wal")
    writing = CaseStore(whole, tmp_path / "w.pulse")
    writing.add("s", [(n, f"c{n}") for n in range(CASES)])
    ends = []
    for n in range(CASES):
        result = {"verdict": "PASS", "text": "x" * 5000}
        writing.write([("s", f"c{n}", as_text(result))], [call(n).row('{"text": "a"}', {})])
        ends.append(log.stat().st_size)
    # As the disk was while the run went on: nothing has been folded into the database yet.
    cuts = [*ends, *(end - 1 for end in ends), *(end - 4000 for end in ends), ends[0] // 2]
    for cut in cuts:
        left = tmp_path / f"cut-{cut}" / whole.name
        shutil.copytree(whole.parent, left.parent)
        with left.with_name(log.name).open("r+b") as file:
            file.truncate(cut)
        left.with_name("gates.sqlite-shm").unlink(missing_ok=True)
        reading = CaseStore(left, tmp_path / "r.pulse")
        results = reading.results("s")
        reading.close()
        survived = sum(end <= cut for end in ends)
        assert list(results) == [f"c{n}" for n in range(survived)], cut
        assert recorded_calls(left) == set(results), cut
    writing.close()
