"""What became of each case of a run: claimed by one process, answered once, kept as the record.

An SQLite file in the run's ``records`` folder, shared by all xdist workers and readable afterwards
with any SQLite tool: table ``cases`` has a row per case with its result as JSON, ``calls`` a row
per call of a model.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

from pytest_llmdeploy.errors import NotMeasuredError
from pytest_llmdeploy.gates import answers
from pytest_llmdeploy.liveness import is_alive

Result = dict[str, Any]
BUSY_TIMEOUT = 30.0
"""Seconds to wait for another process's write; each takes well below a millisecond."""
READ_AT_ONCE = 500
"""Results of one text; more would be long in memory twice."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS cases (
    suite TEXT NOT NULL,
    id TEXT NOT NULL,
    position INTEGER NOT NULL,
    claimed_by TEXT,
    result TEXT,
    PRIMARY KEY (suite, id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS open_cases ON cases (suite, position) WHERE claimed_by IS NULL;
CREATE TABLE IF NOT EXISTS settled (suite TEXT PRIMARY KEY) WITHOUT ROWID;
"""


class CaseStore:
    """One connection to the record; use each instance from one thread at a time.

    `pulse` is this process's pulse (see liveness): a claim counts for as long as it is held.
    """

    def __init__(self, path: Path, pulse: Path) -> None:
        self._pulse = str(pulse)
        with _as_ours():
            path.parent.mkdir(parents=True, exist_ok=True)
            # SQLite's own wait for locks does not cover the change to write-ahead logging.
            with FileLock(path.with_suffix(".lock"), timeout=BUSY_TIMEOUT):
                self._database = sqlite3.connect(
                    path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False
                )
                self._database.execute("PRAGMA journal_mode=WAL")
                self._database.execute("PRAGMA synchronous=NORMAL")
                self._database.executescript(_SCHEMA + answers.SCHEMA)

    def close(self) -> None:
        """Close the connection."""
        self._database.close()

    def add(self, suite: str, cases: Iterable[tuple[int, str]]) -> None:
        """Note cases, as (position, id), that are to be asked; those already there stay."""
        with _as_ours(), self._database:
            self._database.execute("BEGIN IMMEDIATE")
            self._database.executemany(
                "INSERT OR IGNORE INTO cases (suite, id, position) VALUES (?, ?, ?)",
                [(suite, case_id, position) for position, case_id in cases],
            )

    def claim(self, suite: str, count: int) -> list[str]:
        """Return the ids of at most `count` unclaimed cases, now this process's, in their order."""
        rows = self._rows(
            "UPDATE cases SET claimed_by = ?1 WHERE suite = ?2 AND id IN (SELECT id FROM cases"
            " WHERE suite = ?2 AND claimed_by IS NULL ORDER BY position LIMIT ?3)"
            " AND NOT EXISTS (SELECT 1 FROM settled WHERE suite = ?2) RETURNING position, id",
            (self._pulse, suite, count),
        )
        return [case_id for _, case_id in sorted(rows)]

    def finish(self, suite: str, case_id: str, result: Mapping[str, Any]) -> None:
        """Keep the result of a claimed case."""
        self.write([(suite, case_id, as_text(result))], [])

    def write(self, results: Sequence[tuple[str, str, str]], calls: Sequence[answers.Row]) -> None:
        """Keep results, as (suite, id, JSON), and what was asked for them, all or none."""
        with _as_ours(), self._database:
            self._database.execute("BEGIN IMMEDIATE")
            self._database.executemany(answers.INSERT, calls)
            self._database.executemany(
                "UPDATE cases SET result = ?3 WHERE suite = ?1 AND id = ?2", results
            )

    def settle(self, suite: str) -> None:
        """Deal out no more cases of a suite, in any process: its verdict is known."""
        self._rows("INSERT OR IGNORE INTO settled (suite) VALUES (?)", (suite,))

    def is_settled(self, suite: str) -> bool:
        """Return whether no more cases of the suite are dealt out."""
        return bool(self._rows("SELECT 1 FROM settled WHERE suite = ?", (suite,)))

    def give_back(self, suite: str, case_ids: Iterable[str]) -> None:
        """Open cases again that this process claimed and has not begun."""
        with _as_ours(), self._database:
            self._database.execute("BEGIN IMMEDIATE")
            self._database.executemany(
                "UPDATE cases SET claimed_by = NULL WHERE suite = ? AND id = ? AND result IS NULL",
                [(suite, case_id) for case_id in case_ids],
            )

    def unclaimed(self, suite: str, case_id: str) -> bool:
        """Return whether nobody is asking the case, and nobody has."""
        return bool(
            self._rows(
                "SELECT 1 FROM cases WHERE suite = ? AND id = ? AND claimed_by IS NULL"
                " AND result IS NULL",
                (suite, case_id),
            )
        )

    def finished(self, suite: str) -> set[str]:
        """Return the ids of the cases that have a result."""
        rows = self._rows("SELECT id FROM cases WHERE suite = ? AND result IS NOT NULL", (suite,))
        return {case_id for (case_id,) in rows}

    def result(self, suite: str, case_id: str) -> Result | None:
        """Return the result of one case; None while there is none."""
        rows = self._rows(
            "SELECT result FROM cases WHERE suite = ? AND id = ? AND result IS NOT NULL",
            (suite, case_id),
        )
        return json.loads(rows[0][0]) if rows else None

    def results(self, suite: str) -> dict[str, Result]:
        """Return the results of a suite so far, by case id, in the order of its cases."""
        rows = self._rows(
            "SELECT id, result FROM cases WHERE suite = ? AND result IS NOT NULL ORDER BY position",
            (suite,),
        )
        # Read many at once: their keys, the same in each, are one object then.
        results: dict[str, Result] = {}
        for first in range(0, len(rows), READ_AT_ONCE):
            some = rows[first : first + READ_AT_ONCE]
            read = json.loads(f"[{','.join(result for _, result in some)}]")
            results.update(zip((case_id for case_id, _ in some), read, strict=True))
        return results

    def release_abandoned(self, suite: str) -> int:
        """Open the cases again whose claimant died before it had a result; return how many."""
        claimants = self._rows(
            "SELECT DISTINCT claimed_by FROM cases"
            " WHERE suite = ? AND result IS NULL AND claimed_by NOT NULL",
            (suite,),
        )
        dead = [pulse for (pulse,) in claimants if not is_alive(Path(pulse))]
        released = 0
        for pulse in dead:
            opened = self._rows(
                "UPDATE cases SET claimed_by = NULL"
                " WHERE suite = ? AND claimed_by = ? AND result IS NULL RETURNING id",
                (suite, pulse),
            )
            released += len(opened)
        return released

    def _rows(self, statement: str, values: tuple[Any, ...]) -> list[Any]:
        with _as_ours():
            return self._database.execute(statement, values).fetchall()


def as_text(result: Mapping[str, Any]) -> str:
    """Return a result as JSON; half surrogates, which no file holds, become ``?``."""
    return json.dumps(result, ensure_ascii=False).encode("utf-8", "replace").decode()


@contextmanager
def _as_ours() -> Iterator[None]:
    """Turn a record that cannot be read or written into an error that says so."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise NotMeasuredError(f"the record of the answers cannot be used: {error}") from error
