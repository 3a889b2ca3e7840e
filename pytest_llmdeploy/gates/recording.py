"""Every call of a model on its way: replayed or sent, within the budget, in turn, and recorded."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

from pytest_llmdeploy.errors import BudgetSpentError, NotMeasuredError
from pytest_llmdeploy.gates.answers import AnswerStore, Call, Row
from pytest_llmdeploy.gates.budget import Budget, Prices, Used
from pytest_llmdeploy.gates.pacing import Pacer
from pytest_llmdeploy.ports import Answer, Embedded, Embedder, Message, Model

Redact = Callable[[Any], Any]


class NotRecordedError(NotMeasuredError):
    """Record it: a run that only replays has no answer to what is asked now."""


class Keeper(Protocol):
    """Takes the rows of calls, and the cases' results, to the disk."""

    def keep(self, row: Row, *, failed: bool = False) -> None:
        """Note a row; it is written with the next result, or shortly after."""
        ...


@dataclass(slots=True)
class Calls:
    """What all calls of one suite have in common."""

    keeper: Keeper
    redact: Redact
    prices: Prices = field(default_factory=lambda: Prices({}))
    budget: Budget | None = None
    replay: AnswerStore | None = None
    """Answers that are taken instead of asking; a miss is an error."""

    def recorded(self, call: Call) -> dict[str, Any]:
        """Return the recorded answer to a call; raise NotRecordedError, or what was recorded."""
        assert self.replay is not None
        answer = self.replay.find(call)
        if answer is None:
            why = self.replay.difference(call, self.redact(dict(call.parameters)))
            who = f"{call.whose}: " if call.whose else ""
            raise NotRecordedError(
                f"{who}no answer is recorded in {self.replay.path}: {self.redact(why)};"
                " run once with --llmdeploy-replay record"
            )
        # The record of a replay is whole too: it can be judged again, and replayed itself.
        self.keep(call, answer)
        if "error" in answer:
            raise NotMeasuredError(str(answer["error"]))
        return answer

    def reserve(self) -> None:
        """Count an attempt; raise BudgetSpentError."""
        if self.budget is not None:
            self.budget.reserve()

    def charge(self, used: Used) -> None:
        """Count what was used."""
        if self.budget is not None and used != Used():
            self.budget.charge(used)

    def keep(self, call: Call, answer: Mapping[str, Any]) -> None:
        """Note an answer without secrets."""
        text = json.dumps(self.redact(dict(answer)), ensure_ascii=False)
        text = text.encode("utf-8", "replace").decode()
        self.keeper.keep(call.row(text, self.redact(dict(call.parameters))))

    def keep_failure(self, call: Call, error: NotMeasuredError) -> None:
        """Note that there was no answer: for this run's record only."""
        text = json.dumps({"error": self.redact(str(error))}, ensure_ascii=False)
        text = text.encode("utf-8", "replace").decode()
        self.keeper.keep(call.row(text, self.redact(dict(call.parameters))), failed=True)


class RecordedModel:
    """A chat model whose answers are kept, or come from what was kept."""

    def __init__(
        self, inner: Callable[[], Model], name: str | None, calls: Calls, pacer: Pacer
    ) -> None:
        """`inner` makes the model when the first question is sent; never in a replay."""
        self._make = inner
        self._model: Model | None = None
        self._name = name or ""
        self._calls = calls
        self._pacer = pacer

    def prepare(self) -> None:
        """Make the model now; raise what keeps it from being made."""
        if self._model is None:
            self._model = self._make()

    async def ask(
        self,
        messages: Sequence[Message],
        parameters: Mapping[str, Any],
        timeout: float,
        index: int = 0,
        *,
        whose: str = "",
        go: Callable[[], None] = lambda: None,
    ) -> Answer:
        """Return the answer number `index`; `go` is called when it is the request's turn.

        What `go` raises is raised here, and nothing is sent then.
        """
        asked = [dict(message) for message in messages]
        call = Call("chat", self._name, asked, parameters, index, whose)
        calls = self._calls
        if calls.replay is not None:
            go()
            return _answer(calls.recorded(call))
        calls.prices.check(self._name)
        self.prepare()
        model = self._model
        assert model is not None

        sent = reserved = 0

        async def attempt(_: int) -> Answer:
            nonlocal sent, reserved
            go()
            calls.reserve()
            reserved += 1
            try:
                answer = await model.ask(messages, parameters, timeout)
            except NotMeasuredError as error:
                sent += error.attempts
                raise
            sent += answer.attempts
            return answer

        try:
            answer = await self._pacer.send(attempt)
        except NotMeasuredError as error:
            calls.charge(Used(requests=sent - reserved))
            if not (isinstance(error, BudgetSpentError) or getattr(error, "unsent", False)):
                calls.keep_failure(call, error)
            raise
        tokens = (answer.prompt_tokens or 0) + (answer.completion_tokens or 0)
        # What an unpriced answer has used is counted as far as it is known.
        calls.charge(Used(requests=sent - reserved, tokens=tokens))
        cost = calls.prices.cost(
            answer.model, self._name, answer.prompt_tokens, answer.completion_tokens
        )
        calls.charge(Used(dollars=cost or 0.0))
        answer = replace(answer, attempts=sent, cost=cost)
        calls.keep(call, asdict(answer))
        return answer

    async def aclose(self) -> None:
        """Release connections."""
        if self._model is not None:
            await self._model.aclose()


class RecordedEmbedder:
    """An embeddings endpoint whose vectors are kept, or come from what was kept."""

    def __init__(
        self, inner: Callable[[], Embedder], name: str | None, calls: Calls, pacer: Pacer
    ) -> None:
        self._make = inner
        self._embedder: Embedder | None = None
        self._name = name or ""
        self._calls = calls
        self._pacer = pacer

    async def embed(self, texts: Sequence[str], timeout: float) -> Embedded:
        """Return a vector for each text."""
        call = Call("embedding", self._name, list(texts), {})
        calls = self._calls
        if calls.replay is not None:
            return _embedded(calls.recorded(call))
        calls.prices.check(self._name)
        if self._embedder is None:
            self._embedder = self._make()
        embedder = self._embedder

        async def attempt(_: int) -> Embedded:
            calls.reserve()
            return await embedder.embed(texts, timeout)

        try:
            embedded = await self._pacer.send(attempt)
        except NotMeasuredError as error:
            calls.charge(Used(requests=error.attempts - 1))
            raise
        calls.charge(Used(tokens=embedded.tokens or 0))
        cost = calls.prices.cost(embedded.model, self._name, embedded.tokens, 0)
        calls.charge(Used(dollars=cost or 0.0))
        vectors = [list(map(float, vector)) for vector in embedded.vectors]
        if all(math.isfinite(number) for vector in vectors for number in vector):
            answer = {"vectors": vectors, "model": embedded.model, "tokens": embedded.tokens}
            calls.keep(call, answer)
        return embedded

    async def aclose(self) -> None:
        """Release connections."""
        if self._embedder is not None:
            await self._embedder.aclose()


_ANSWER_FIELDS = frozenset(Answer.__dataclass_fields__)


def _answer(record: Mapping[str, Any]) -> Answer:
    """Return a recorded answer; one of another shape raises NotMeasuredError."""
    try:
        kept = {key: value for key, value in record.items() if key in _ANSWER_FIELDS}
        return Answer(**{**kept, "replayed": True})
    except TypeError as error:
        raise NotMeasuredError(f"the recorded answer cannot be read: {error}") from error


def _embedded(record: Mapping[str, Any]) -> Embedded:
    try:
        return Embedded(record["vectors"], record["model"], record["tokens"])
    except KeyError as error:
        raise NotMeasuredError(f"the recorded vectors cannot be read: no {error}") from error
