"""Answers of models by what was asked: a file that runs share, or the record of one run."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_llmdeploy.errors import NotMeasuredError

RECORD = Path("records") / "gates.sqlite"
"""Where a run's output folder has the answers of its gates."""
BUSY_TIMEOUT = 30.0
SCHEMA = """
CREATE TABLE IF NOT EXISTS calls (
    key TEXT NOT NULL,
    whose TEXT NOT NULL,
    kind TEXT NOT NULL,
    model TEXT NOT NULL,
    asked TEXT NOT NULL,
    parameters TEXT NOT NULL,
    number INTEGER NOT NULL,
    answer TEXT NOT NULL,
    PRIMARY KEY (key, whose)
) WITHOUT ROWID;
"""
INSERT = (
    "INSERT OR REPLACE INTO calls (key, whose, kind, model, asked, parameters, number, answer)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
Row = tuple[str, str, str, str, str, str, int, str]


@dataclass(frozen=True, slots=True)
class Call:
    """What is asked of a model, and what tells it from all other questions."""

    kind: str
    """chat or embedding."""
    model: str
    """As the file names it; empty where the endpoint chooses. No address: ports change."""
    asked: Any
    """Messages or texts, as builtins."""
    parameters: Mapping[str, Any]
    number: int = 0
    """Of the repeat, or of the judge's vote."""
    whose: str = ""
    """Gate and case: two cases that ask the same have answers of their own."""

    @property
    def key(self) -> str:
        """A hash of all but whose it is, 64 hex digits."""
        return _hash([self.kind, self.model, self.asked, dict(self.parameters), self.number])

    @property
    def asked_hash(self) -> str:
        """A hash of the messages or texts alone, to find questions that are nearly the same."""
        return _hash(self.asked)

    def row(self, answer: str, parameters: Mapping[str, Any]) -> Row:
        """Return the row of a record; `answer` is JSON, and `parameters` are without secrets."""
        return (
            self.key,
            self.whose,
            self.kind,
            self.model,
            self.asked_hash,
            _text(dict(parameters)),
            self.number,
            answer,
        )


def _text(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=repr)
    return text.encode("utf-8", "replace").decode()


def _hash(value: Any) -> str:
    return hashlib.sha256(_text(value).encode()).hexdigest()


def answers_file(path: Path) -> Path:
    """Return the file of answers that a user means by a file or by a run's output folder."""
    return path / RECORD if path.is_dir() else path


class AnswerStore:
    """A file of answers, read or written from one thread at a time."""

    def __init__(self, path: Path, *, writable: bool) -> None:
        """Raise NotMeasuredError where the file cannot be used."""
        self.path = path
        if not writable and not path.is_file():
            raise NotMeasuredError(
                f"there are no recorded answers in {path}: record some with"
                " --llmdeploy-replay record, or name them with --llmdeploy-answers"
            )
        try:
            if writable:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._database = _connect(f"file:{_quoted(path)}")
                self._database.execute("PRAGMA journal_mode=WAL")
                self._database.execute("PRAGMA synchronous=NORMAL")
                self._database.executescript(SCHEMA)
            else:
                self._database = open_readable(path)
        except (sqlite3.Error, OSError) as error:
            raise NotMeasuredError(f"the answers in {path} cannot be used: {error}") from error

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def keep(self, rows: Iterable[Row]) -> None:
        """Write answers, over earlier ones to the same questions."""
        try:
            self._database.execute("BEGIN IMMEDIATE")
            self._database.executemany(INSERT, rows)
            self._database.execute("COMMIT")
        except sqlite3.Error as error:
            with suppress(sqlite3.Error):
                self._database.execute("ROLLBACK")
            raise NotMeasuredError(f"the answers in {self.path} cannot be used: {error}") from error

    def find(self, call: Call) -> dict[str, Any] | None:
        """Return the answer to a call, its own case's where that was asked; None without one."""
        rows = self._rows(
            "SELECT answer FROM calls WHERE key = ? ORDER BY whose = ? DESC, whose LIMIT 1",
            (call.key, call.whose),
        )
        if not rows:
            return None
        try:
            answer = json.loads(rows[0][0])
        except ValueError as error:
            raise NotMeasuredError(f"the answers in {self.path} cannot be used: {error}") from error
        return answer if isinstance(answer, dict) else None

    def difference(self, call: Call, parameters: Mapping[str, Any]) -> str:
        """Say how a call that is not there differs from those that are."""
        near = self._rows(
            "SELECT model, parameters, number FROM calls WHERE kind = ? AND asked = ?"
            " ORDER BY whose = ? DESC, model = ? DESC, parameters = ? DESC, number DESC LIMIT 1",
            (call.kind, call.asked_hash, call.whose, call.model, _text(dict(parameters))),
        )
        if near:
            model, recorded, number = near[0]
            if model != call.model:
                return f"the same was asked of {model or 'the first model'}, not of " + (
                    call.model or "the first model"
                )
            if recorded != _text(dict(parameters)):
                return f"other parameters: {_changed(json.loads(recorded), parameters)}"
            return f"only {number + 1} answers are there, not {call.number + 1}"
        if call.whose and self._rows("SELECT 1 FROM calls WHERE whose = ? LIMIT 1", (call.whose,)):
            return "the messages of this case have changed"
        return "nothing like it was asked"

    def _rows(self, statement: str, values: Sequence[Any]) -> list[Any]:
        try:
            return self._database.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise NotMeasuredError(f"the answers in {self.path} cannot be used: {error}") from error


def open_readable(path: Path) -> sqlite3.Connection:
    """Return a connection that changes nothing, also in a folder that cannot be written."""
    error: sqlite3.Error | None = None
    for mode in ("mode=ro", "immutable=1"):
        database = _connect(f"file:{_quoted(path)}?{mode}")
        try:
            database.execute("SELECT 1 FROM calls LIMIT 1").fetchall()
        except sqlite3.Error as caught:
            database.close()
            error = error or caught
        else:
            return database
    assert error is not None
    raise error


def _connect(uri: str) -> sqlite3.Connection:
    return sqlite3.connect(
        uri, uri=True, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False
    )


def _quoted(path: Path) -> str:
    from urllib.parse import quote

    return quote(str(path.absolute()))


def _changed(was: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    names = sorted(name for name in {*was, *now} if was.get(name) != now.get(name))
    return ", ".join(
        f"{name} was {json.dumps(was.get(name), ensure_ascii=False)}, is "
        f"{json.dumps(now.get(name), ensure_ascii=False, default=repr)}"
        for name in names
    )
