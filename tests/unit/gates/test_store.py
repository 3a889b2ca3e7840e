"""Each case goes to one process, and none is lost with it."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_llmdeploy.gates.store import CaseStore
from pytest_llmdeploy.liveness import Pulse


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[CaseStore, CaseStore]]:
    """Two processes' views of one record, both alive."""
    pulses = [Pulse(tmp_path / f"{name}.pulse") for name in "ab"]
    stores = [CaseStore(tmp_path / "records" / "gates.sqlite", pulse.path) for pulse in pulses]
    yield stores[0], stores[1]
    for store in stores:
        store.close()
    for pulse in pulses:
        pulse.stop()


def ids(count: int) -> list[tuple[int, str]]:
    """Return cases whose alphabetical order is not their own."""
    return [(n, f"c{n}") for n in range(count)]


def test_cases_are_dealt_in_order_and_once(pair: tuple[CaseStore, CaseStore]) -> None:
    first, second = pair
    first.add("s", ids(12))
    second.add("s", ids(12))  # every worker notes the same cases
    assert first.claim("s", 11) == [f"c{n}" for n in range(11)]
    assert second.claim("s", 11) == ["c11"]
    assert second.claim("s", 1) == []
    assert first.claim("other", 1) == []


def test_results_reach_the_other_process_in_order(pair: tuple[CaseStore, CaseStore]) -> None:
    first, second = pair
    first.add("s", ids(12))
    first.claim("s", 12)
    for case_id in ("c10", "c2"):
        first.finish("s", case_id, {"verdict": "PASS", "text": "Grüße, 東京"})
    assert second.result("s", "c3") is None
    assert second.result("s", "c2") == {"verdict": "PASS", "text": "Grüße, 東京"}
    assert list(second.results("s")) == ["c2", "c10"]


def test_a_dead_process_gives_its_cases_back(tmp_path: Path) -> None:
    pulses = [Pulse(tmp_path / f"{name}.pulse") for name in "ab"]
    first, second = (CaseStore(tmp_path / "r.sqlite", pulse.path) for pulse in pulses)
    first.add("s", ids(3))
    first.claim("s", 2)
    first.finish("s", "c0", {"verdict": "PASS"})
    assert second.release_abandoned("s") == 0
    pulses[0].stop()
    assert second.release_abandoned("s") == 1
    assert second.claim("s", 9) == ["c1", "c2"]
    assert second.result("s", "c0") == {"verdict": "PASS"}
    first.close()
    second.close()
    pulses[1].stop()


def test_many_threads_claim_each_case_once(tmp_path: Path) -> None:
    record = tmp_path / "r.sqlite"
    taken: list[str] = []

    def work(name: str) -> None:
        pulse = Pulse(tmp_path / f"{name}.pulse")
        store = CaseStore(record, pulse.path)
        store.add("s", ids(200))
        while claimed := store.claim("s", 3):
            for case_id in claimed:
                store.finish("s", case_id, {"by": name})
            taken.extend(claimed)
        store.close()
        pulse.stop()

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == sorted(f"c{n}" for n in range(200))


def test_the_record_is_readable_with_plain_sqlite(tmp_path: Path) -> None:
    pulse = Pulse(tmp_path / "a.pulse")
    store = CaseStore(tmp_path / "r.sqlite", pulse.path)
    store.add("s", ids(1))
    store.claim("s", 1)
    store.finish("s", "c0", {"verdict": "FAIL"})
    store.close()
    pulse.stop()
    with sqlite3.connect(tmp_path / "r.sqlite") as database:
        rows = database.execute("SELECT suite, id, result ->> 'verdict' FROM cases").fetchall()
    database.close()
    assert rows == [("s", "c0", "FAIL")]
