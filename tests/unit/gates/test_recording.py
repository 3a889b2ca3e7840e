"""Calls: what tells them apart, what is kept of them, and what a replay says without one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from pytest_llmdeploy.errors import NotMeasuredError
from pytest_llmdeploy.gates.answers import AnswerStore, Call, Row
from pytest_llmdeploy.gates.pacing import Pacer
from pytest_llmdeploy.gates.recording import Calls, NotRecordedError, RecordedModel
from pytest_llmdeploy.ports import Answer, Message

QUESTION = [{"role": "user", "content": "Capital of France?"}]
ANSWER = Answer("Paris, sk-secret", "stop", 3, 2, 0.25, "m", extra={"a": [1]}, logprobs=[-0.5])


class Kept:
    """Keeps rows in a list."""

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def keep(self, row: Row, *, failed: bool = False) -> None:
        self.rows.append(row)


class Fixed:
    """A model with one answer; counts how often it was asked."""

    def __init__(self, error: NotMeasuredError | None = None) -> None:
        self.asked = 0
        self.error = error

    async def ask(
        self, messages: Sequence[Message], parameters: Mapping[str, Any], timeout: float
    ) -> Answer:
        self.asked += 1
        if self.error:
            raise self.error
        return ANSWER

    async def aclose(self) -> None:
        pass


def hide(value: Any) -> Any:
    return json.loads(json.dumps(value).replace("sk-secret", "***"))


def ask(calls: Calls, inner: Fixed, *, model: str = "m", **more: Any) -> Answer:
    asked = {"messages": QUESTION, "parameters": {"temperature": 0}, "timeout": 1.0, **more}
    return asyncio.run(RecordedModel(lambda: inner, model, calls, Pacer(1, 300)).ask(**asked))


def recorded(path: Path, inner: Fixed | None = None, **more: Any) -> AnswerStore:
    kept = Kept()
    ask(Calls(kept, hide), inner or Fixed(), **more)
    with_them = AnswerStore(path, writable=True)
    with_them.keep(kept.rows)
    with_them.close()
    return AnswerStore(path, writable=False)


def test_what_is_kept_has_no_secret_and_comes_back_marked(tmp_path: Path) -> None:
    store = recorded(tmp_path / "a.sqlite")
    inner = Fixed()
    answer = ask(Calls(Kept(), hide, replay=store), inner)
    store.close()
    assert inner.asked == 0
    assert answer == Answer(
        "Paris, ***", "stop", 3, 2, 0.25, "m", extra={"a": [1]}, logprobs=[-0.5], replayed=True
    )
    assert b"sk-secret" not in b"".join(path.read_bytes() for path in tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"model": "n"}, "the same was asked of m, not of n"),
        (
            {"parameters": {"temperature": 0.5, "seed": 1}},
            "other parameters: seed was null, is 1, temperature was 0, is 0.5",
        ),
        ({"index": 2}, "only 1 answers are there, not 3"),
        (
            {"messages": [{"role": "user", "content": "Spain?"}]},
            "the messages of this case have changed",
        ),
        (
            {"messages": [{"role": "user", "content": "Spain?"}], "whose": "g/new"},
            "nothing like it was asked",
        ),
    ],
)
def test_a_miss_says_what_differs(tmp_path: Path, change: dict[str, Any], why: str) -> None:
    store = recorded(tmp_path / "a.sqlite", whose="g/fr")
    whose = change.get("whose", "g/fr")
    with pytest.raises(NotRecordedError) as caught:
        ask(Calls(Kept(), hide, replay=store), Fixed(), **{"whose": whose, **change})
    store.close()
    assert str(caught.value) == (
        f"{whose}: no answer is recorded in {tmp_path / 'a.sqlite'}: {why};"
        " run once with --llmdeploy-replay record"
    )


def test_cases_that_ask_the_same_keep_their_own_answers(tmp_path: Path) -> None:
    store = AnswerStore(tmp_path / "a.sqlite", writable=True)
    for whose in ("g/b", "g/a"):
        call = Call("chat", "m", QUESTION, {}, 0, whose)
        store.keep([call.row(json.dumps({"text": whose}), {})])
    found = [store.find(Call("chat", "m", QUESTION, {}, 0, w)) for w in ("g/a", "g/b", "g/c")]
    store.close()
    assert found == [{"text": "g/a"}, {"text": "g/b"}, {"text": "g/a"}]


def test_a_failure_is_replayed_as_one(tmp_path: Path) -> None:
    kept = Kept()
    with pytest.raises(NotMeasuredError):
        ask(Calls(kept, hide), Fixed(NotMeasuredError("HTTP 503")))
    store = AnswerStore(tmp_path / "a.sqlite", writable=True)
    store.keep(kept.rows)
    with pytest.raises(NotMeasuredError, match=r"^HTTP 503$"):
        ask(Calls(Kept(), hide, replay=store), Fixed())
    store.close()


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotMeasuredError) as caught:
        AnswerStore(tmp_path / "no.sqlite", writable=False)
    assert str(caught.value) == (
        f"there are no recorded answers in {tmp_path / 'no.sqlite'}: record some with"
        " --llmdeploy-replay record, or name them with --llmdeploy-answers"
    )


def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.sqlite").write_text("no database at all, " * 100)
    with pytest.raises(NotMeasuredError, match="cannot be used: file is not a database"):
        AnswerStore(tmp_path / "a.sqlite", writable=False)
