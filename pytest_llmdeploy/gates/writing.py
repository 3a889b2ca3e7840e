"""Results and calls on their way to the disk, many in one transaction."""

from __future__ import annotations

import asyncio
import contextlib

from pytest_llmdeploy.errors import NotMeasuredError
from pytest_llmdeploy.gates.answers import AnswerStore, Row
from pytest_llmdeploy.gates.store import CaseStore, Result, as_text

INTERVAL = 0.01
"""Seconds for which a result waits for others to be written with it."""


class Writer:
    """Writes what comes within INTERVAL at once; to be used in one event loop.

    The results and the calls that they rest on are in the record together or not at all.
    """

    def __init__(self, store: CaseStore, shared: AnswerStore | None = None) -> None:
        """`shared` gets all calls that were answered, for runs to come."""
        self._store = store
        self._shared = shared
        self._results: list[tuple[str, str, str]] = []
        self._calls: list[Row] = []
        self._answered: list[Row] = []
        self._written: asyncio.Future[None] | None = None

    def keep(self, row: Row, *, failed: bool = False) -> None:
        """Note the row of a call; it is written with the next results, or shortly after."""
        self._calls.append(row)
        if not failed and self._shared is not None:
            self._answered.append(row)
        self._schedule()

    async def finish(self, suite: str, case_id: str, result: Result) -> None:
        """Return when the result is in the record; raise NotMeasuredError where it cannot be."""
        self._results.append((suite, case_id, as_text(result)))
        await asyncio.shield(self._schedule())

    def _schedule(self) -> asyncio.Future[None]:
        if self._written is None:
            loop = asyncio.get_running_loop()
            self._written = loop.create_future()
            loop.call_later(INTERVAL, self.flush)
        return self._written

    def flush(self) -> None:
        """Write what there is now."""
        written, self._written = self._written, None
        results, self._results = self._results, []
        calls, self._calls = self._calls, []
        answered, self._answered = self._answered, []
        if written is None:
            return
        try:
            self._store.write(results, calls)
            if self._shared is not None and answered:
                self._shared.keep(answered)
        except NotMeasuredError as error:
            with contextlib.suppress(asyncio.InvalidStateError):
                written.set_exception(error)
            written.exception()  # where only calls were written, nobody looks at it
        else:
            with contextlib.suppress(asyncio.InvalidStateError):
                written.set_result(None)
