"""Whom model-graded assertions ask: a judge and an embeddings endpoint on the engine's event loop.

Assertions judge in threads, and clients live on the loop; each question crosses over and back.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from pytest_llmdeploy.errors import NotMeasuredError
from pytest_llmdeploy.gates.assertions import Grading, NotEvaluable
from pytest_llmdeploy.ports import Answer, Embedded, Embedder, Message

T = TypeVar("T")
ITSELF = "the judged model judged itself"


@dataclass(frozen=True, slots=True)
class Judging:
    """How a suite's judge is asked."""

    parameters: Mapping[str, Any] = field(default_factory=lambda: {"temperature": 0})
    votes: int = 1
    timeout: float = 60.0
    """Seconds an attempt."""
    model: str | None = None
    """The judging model's name as the file has it; None: the judged model itself."""


class NumberedModel(Protocol):
    """A model that can be asked the same again, and tells the answers apart in a record."""

    async def ask(
        self,
        messages: Sequence[Message],
        parameters: Mapping[str, Any],
        timeout: float,
        index: int = 0,
    ) -> Answer:
        """Return the answer number `index` to this question; raise NotMeasuredError."""
        ...

    async def aclose(self) -> None:
        """Release connections."""
        ...


class LoopGrading:
    """Asks on an event loop, for threads beside it. Make and close it inside the loop.

    The clients are made when the first question comes: most suites have none.
    """

    def __init__(
        self,
        judging: Judging,
        judge: Callable[[], NumberedModel] | None,
        embedder: Callable[[], Embedder] | None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._judging = judging
        self._make_judge = judge
        self._make_embedder = embedder
        self._judge: NumberedModel | None = None
        self._embedder: Embedder | None = None
        self._named: str | None = None
        self._lock = threading.Lock()
        self._pending: set[Future[Any]] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    @property
    def votes(self) -> int:
        """How often the judge is asked about one answer."""
        return self._judging.votes

    @property
    def judge(self) -> str:
        """The judging model's name, and whether it judges itself."""
        if self._judging.model is None:
            return f"{self._named or 'the service'} ({ITSELF})"
        return self._judging.model

    def chat(
        self,
        messages: Sequence[Message],
        parameters: Mapping[str, Any] | None = None,
        *,
        vote: int = 0,
    ) -> Answer:
        """Return the judge's answer; `parameters` are added to the judge's own."""
        asked = {**self._judging.parameters, **(parameters or {})}
        return self._wait(lambda: self._chat(messages, asked, vote))

    def embed(self, texts: Sequence[str]) -> Embedded:
        """Return a vector for each text."""
        return self._wait(lambda: self._embed(texts))

    async def _chat(
        self, messages: Sequence[Message], parameters: Mapping[str, Any], vote: int
    ) -> Answer:
        if self._judge is None:
            if self._make_judge is None:
                raise NotEvaluable("there is no judge to ask: set the gate's judge")
            self._judge = self._make_judge()
        answer = await self._judge.ask(messages, parameters, self._judging.timeout, vote)
        self._named = answer.model
        return answer

    async def _embed(self, texts: Sequence[str]) -> Embedded:
        if self._embedder is None:
            if self._make_embedder is None:
                raise NotEvaluable("there is nobody to ask for vectors: set the gate's embeddings")
            self._embedder = self._make_embedder()
        return await self._embedder.embed(texts, self._judging.timeout)

    def _wait(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return what `work` returns on the loop; each attempt in it has its own deadline."""
        with self._lock:  # between close's look at what is pending and ours at whether it is closed
            if self._closed or self._loop.is_closed():
                raise NotMeasuredError("the judge was not asked: the run is over")
            future = asyncio.run_coroutine_threadsafe(self._on_loop(work), self._loop)
            self._pending.add(future)
        try:
            return future.result()
        except CancelledError as error:
            raise NotMeasuredError("the judge was given up: the run is over") from error
        finally:
            with self._lock:
                self._pending.discard(future)

    async def _on_loop(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return what `work` returns, known to `aclose` for as long as it is under way."""
        if self._closed:  # a client that was closed would open connections anew
            raise NotMeasuredError("the judge was not asked: the run is over")
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            return await work()
        finally:
            self._tasks.discard(task)

    async def aclose(self) -> None:
        """Give up what is being asked, and close the clients."""
        with self._lock:
            self._closed = True
            pending = list(self._pending)
        for future in pending:
            future.cancel()
        # Cancelling reaches a task through the loop; its client must not be closed before.
        await asyncio.sleep(0)
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for client in (self._judge, self._embedder):
            if client is not None:
                await client.aclose()


class Beside:
    """A grading that asks another one; what differs is overridden."""

    def __init__(self, grading: Grading) -> None:
        self._grading = grading

    @property
    def votes(self) -> int:
        """See Grading."""
        return self._grading.votes

    @property
    def judge(self) -> str:
        """See Grading."""
        return self._grading.judge

    def chat(
        self,
        messages: Sequence[Message],
        parameters: Mapping[str, Any] | None = None,
        *,
        vote: int = 0,
    ) -> Answer:
        """See Grading."""
        return self._grading.chat(messages, parameters, vote=vote)

    def embed(self, texts: Sequence[str]) -> Embedded:
        """See Grading."""
        return self._grading.embed(texts)


class Stopwatch(Beside):
    """Counts the seconds for which one answer's assertions waited for a grading."""

    def __init__(self, grading: Grading) -> None:
        super().__init__(grading)
        self._waited = 0.0
        self._since: float | None = None

    @property
    def waited(self) -> float:
        """Seconds spent waiting so far, a question that is still open among them."""
        since = self._since
        return self._waited + (0.0 if since is None else time.monotonic() - since)

    @property
    def waiting(self) -> bool:
        """Whether a question is open."""
        return self._since is not None

    def chat(
        self,
        messages: Sequence[Message],
        parameters: Mapping[str, Any] | None = None,
        *,
        vote: int = 0,
    ) -> Answer:
        """See Grading."""
        return self._timed(lambda: self._grading.chat(messages, parameters, vote=vote))

    def embed(self, texts: Sequence[str]) -> Embedded:
        """See Grading."""
        return self._timed(lambda: self._grading.embed(texts))

    def _timed(self, work: Callable[[], T]) -> T:
        self._since = time.monotonic()
        try:
            return work()
        finally:
            self._waited += time.monotonic() - self._since
            self._since = None
