"""What each request says: a function of the seed and its number alone."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_llmdeploy.load.ledger import Record
from pytest_llmdeploy.load.spec import TrafficSpec

LONG_STREAM = "long_stream"
_WORDS = (  # noqa: SIM905 - reads better than a list of lines
    "time year people way day man thing woman life child world school state family student group "
    "country problem hand part place case week company system program question work number night "
    "point home water room mother area money story fact month lot right study book eye job word "
    "business issue side kind head house"
).split()


@dataclass(frozen=True, slots=True)
class Question:
    """One request, but for what was said before it in its conversation."""

    messages: Sequence[Mapping[str, Any]]
    max_tokens: int
    stream: bool
    client: str


class Questions:
    """Makes the requests of a run."""

    def __init__(self, spec: TrafficSpec) -> None:
        self._spec = spec
        self._kinds = list(spec.clients)
        self._weights = list(spec.clients.values())
        common = round(spec.words * spec.shared_prefix)
        self._prefix = _words(random.Random(spec.seed), common)  # noqa: S311 - no secret
        self._own = spec.words - common
        self._order = list(range(len(spec.prompts)))
        random.Random(spec.seed).shuffle(self._order)  # noqa: S311 - no secret

    def question(self, number: int, turn: int = 0) -> Question:
        """Return what request `number` asks in a turn of its conversation."""
        spec = self._spec
        draw = random.Random((spec.seed << 40) + number * 128 + turn)  # noqa: S311 - no secret
        (client,) = draw.choices(self._kinds, self._weights)
        long = client == LONG_STREAM
        return Question(
            messages=self._messages(number, turn, draw),
            max_tokens=spec.long_stream_tokens if long else draw.randint(*spec.output_tokens),
            stream=long or draw.random() < spec.streamed,
            client=client,
        )

    def _messages(self, number: int, turn: int, draw: random.Random) -> Sequence[Mapping[str, Any]]:
        if self._order:
            place = (number * self._spec.turns + turn) % len(self._order)
            prompt = self._spec.prompts[self._order[place]]
            return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        words = [*self._prefix, *_words(draw, self._own)] if turn == 0 else _words(draw, self._own)
        return [{"role": "user", "content": " ".join(words or self._prefix)}]

    def record(self, question: Question, number: int, turn: int, at: float) -> Record:
        """Return what the ledger says of a request that is intended `at` this moment."""
        spec = self._spec
        record: Record = {"i": number, "at": round(at, 6), "client": question.client}
        if spec.turns > 1:
            record["turn"] = turn
        if len(spec.targets) > 1:
            record["target"] = spec.target_at(at)
        record["stream"] = question.stream
        return record

    def body(
        self, question: Question, before: Sequence[Mapping[str, Any]], model: str
    ) -> dict[str, Any]:
        """Return the body of a chat completion request."""
        body: dict[str, Any] = {
            "model": model,
            "messages": [*before, *question.messages],
            "max_tokens": question.max_tokens,
            "stream": question.stream,
            **self._spec.parameters,
        }
        options = body.pop("stream_options", None) or {}
        if question.stream:
            body["stream_options"] = {"include_usage": True, **options}
        return body


def _words(draw: random.Random, number: int) -> list[str]:
    return draw.choices(_WORDS, k=number) if number else []
