"""Answers as they arrive: times, text, usage, and the one class each ends in."""

from __future__ import annotations

import gzip
import json
import zlib
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmdeploy.load.answer import LARGEST_PLAIN, Answer
from pytest_llmdeploy.load.ledger import EndClass

DONE = b"data: [DONE]\n\n"


def event(delta: Any = None, finish: Any = None, **more: Any) -> bytes:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    return b"data: " + json.dumps({"choices": choices, **more}).encode() + b"\n\n"


ROLE = event({"role": "assistant", "content": ""})
STOP = event({}, "stop")


def begun(kind: str = "text/event-stream", *, encoding: str = "", **options: Any) -> Answer:
    answer = Answer(**{"stream": True, **options})
    answer.begin(200, kind, encoding)
    return answer


def fed(*pieces: bytes, **options: Any) -> Answer:
    """Return an answer whose pieces came a second apart, from 1.0 on."""
    answer = begun(**options)
    for moment, piece in enumerate(pieces, 1):
        answer.feed(piece, float(moment))
    return answer


def plain(body: bytes, *, complete: bool = True, **options: Any) -> Answer:
    answer = begun("application/json", **{"stream": False, **options})
    answer.feed(body, 1.0)
    answer.end(2.0, complete=complete)
    return answer


def test_times_of_a_stream() -> None:
    thought = event({"reasoning_content": "hm"})
    word = event({"content": "a"})
    answer = fed(ROLE, thought, thought, word, b": ping\n\n", word, STOP, DONE)
    assert (answer.reason, answer.first, answer.last, answer.ended) == (2.0, 4.0, 6.0, 8.0)
    assert answer.gaps == [1.0, 1.0, 2.0]
    assert answer.chunks == 4
    assert answer.verdict() == (EndClass.OK, None)


def test_the_end_of_a_stream_is_its_done() -> None:
    answer = fed(event({"content": "a"}), STOP, DONE, event({"content": "b"}), event(error="no"))
    answer.end(99.0, complete=True)
    assert answer.ended == 3.0
    assert (answer.chunks, answer.last) == (1, 1.0)
    assert answer.verdict() == (EndClass.OK, None)


def test_the_end_of_any_other_answer_is_that_of_its_message() -> None:
    answer = plain(b"{}")
    assert answer.ended == 2.0
    assert (answer.first, answer.last, answer.chunks) == (None, None, 0)


def test_gaps_by_token_are_those_by_piece_over_the_tokens_of_a_piece() -> None:
    """3 pieces, 2 gaps of 1 s, 9 tokens: 8 tokens came in 2 s."""
    word = event({"content": "abc"})
    answer = fed(word, word, word, STOP, event(usage={"completion_tokens": 9}), DONE)
    assert answer.gaps == [1.0, 1.0]
    assert answer.token_gaps() == [0.25, 0.25]


@pytest.mark.parametrize(
    ("counts", "gaps"),
    [
        ((1, 2, 6), [1.0, 0.25]),
        ((3, 3, 6), [0.4, 0.4]),
        ((1, None, 6), [0.4, 0.4]),
        ((None, None, 1), []),
        ((None, None, None), []),
    ],
)
def test_usage_with_each_piece_tells_how_many_tokens_it_has(
    counts: tuple[int | None, ...], gaps: list[float]
) -> None:
    """Where it does not tell it of each, or a piece has none, the mean of the answer counts."""
    usages = [{} if n is None else {"usage": {"completion_tokens": n}} for n in counts]
    answer = fed(*(event({"content": "a"}, **usage) for usage in usages), STOP, DONE)
    assert answer.token_gaps() == gaps


def test_one_piece_has_no_gap_by_token() -> None:
    answer = fed(event({"content": "a"}), STOP, event(usage={"completion_tokens": 9}), DONE)
    assert answer.token_gaps() == []


@pytest.mark.parametrize(
    ("delta", "first", "reason"),
    [
        ({"content": "a"}, 1.0, None),
        ({"tool_calls": [{"index": 0}]}, 1.0, None),
        ({"refusal": "no"}, 1.0, None),
        ({"reasoning": "hm"}, None, 1.0),
        ({"reasoning_content": "hm", "content": "a"}, 1.0, 1.0),
        ({"reasoning_content": "", "content": None}, None, None),
        ({"role": "assistant"}, None, None),
        ("text", None, None),
    ],
)
def test_what_counts_as_content(delta: Any, first: float | None, reason: float | None) -> None:
    answer = fed(event(delta))
    assert (answer.first, answer.reason) == (first, reason)
    assert answer.chunks == (first is not None or reason is not None)


def test_choices_of_one_event_are_one_piece_of_content() -> None:
    two = {"choices": [{"index": i, "delta": {"content": f"{i}"}} for i in (0, 1)]}
    later = {"choices": [{"index": 0, "delta": {}}, {"index": 1, "delta": {"content": "x"}}, 7]}
    answer = fed(
        *(b"data: " + json.dumps(each).encode() + b"\n\n" for each in (two, later)),
        STOP,
        DONE,
        keep_text=True,
    )
    assert (answer.chunks, answer.gaps) == (2, [1.0])
    assert answer.text == ["0"], "a conversation goes on with the first choice"
    assert answer.verdict() == (EndClass.OK, None)


@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), max_size=6),
    st.lists(st.integers(0, 10_000), max_size=12),
    st.sampled_from(["", "identity", "gzip", "deflate"]),
    st.booleans(),
)
def test_no_cut_changes_what_was_said(
    words: list[str], places: list[int], encoding: str, raw: bool
) -> None:
    events = [event({"content": word}) for word in words]
    if raw:
        events = [json.dumps(json.loads(each[6:]), ensure_ascii=False).encode() for each in events]
        events = [b"data: " + each + b"\n\n" for each in events]
    data = b"".join([ROLE, *events, STOP, event(usage={"completion_tokens": len(words)}), DONE])
    if encoding == "gzip":
        data = gzip.compress(data)
    elif encoding == "deflate":
        data = zlib.compress(data)
    bounds = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    answer = begun(keep_text=True, encoding=encoding)
    for start, end in pairwise(bounds):
        answer.feed(data[start:end], 1.0)
    answer.end(2.0, complete=True)
    assert answer.text == words
    assert (answer.chunks, answer.completion_tokens) == (len(words), len(words))
    assert len(answer.gaps) == max(len(words) - 1, 0)
    assert answer.verdict() == (EndClass.OK, None)


@given(st.lists(st.binary(), max_size=6), st.booleans(), st.booleans(), st.booleans())
def test_no_bytes_are_too_strange(
    pieces: list[bytes], stream: bool, events: bool, complete: bool
) -> None:
    answer = begun("text/event-stream" if events else "application/json", stream=stream)
    for piece in pieces:
        answer.feed(piece, 1.0)
    answer.end(2.0, complete=complete)
    end, detail = answer.verdict()
    assert end in {EndClass.TRUNCATED, EndClass.MALFORMED}
    assert detail


@pytest.mark.parametrize(
    ("value", "tokens"), [(3, 3), (0, 0), (-1, None), (True, None), ("3", None), (3.0, None)]
)
def test_usage_is_believed_where_it_is_a_number(value: object, tokens: int | None) -> None:
    usage = {"completion_tokens": value, "prompt_tokens": 5}
    answer = fed(event(usage={**usage, "prompt_tokens_details": {"cached_tokens": value}}))
    assert answer.completion_tokens == answer.cached_tokens == tokens
    assert answer.prompt_tokens == 5
    assert fed(event(usage=[value])).completion_tokens is None


@pytest.mark.parametrize(
    ("pieces", "complete", "end", "detail"),
    [
        ([], True, "truncated", "the stream ended without [DONE] before any content"),
        ([], False, "truncated", "the stream broke off before any content"),
        (
            [event({"content": "a"}), b'data: {"choi'],
            True,
            "truncated",
            "the stream broke off after some content",
        ),
        (
            [event({"content": "a"}), b'data: {"choi'],
            False,
            "truncated",
            "the stream broke off after some content",
        ),
        ([STOP, b"data: [DONE]"], True, "ok", None),
        ([b"data: [DONE]"], True, "truncated", None),
        ([event({}, 7), DONE], True, "truncated", None),
        ([event({}, "error"), DONE], True, "error_event", "finish_reason is 'error'"),
        ([event(error={"code": 5}), DONE], True, "error_event", "{'code': 5}"),
        ([event(error={}), STOP, DONE], True, "ok", None),
        (
            [ROLE, event(object="error", message="out of memory")],
            True,
            "error_event",
            "out of memory",
        ),
        ([b"event: error\ndata: overloaded\n\n"], False, "error_event", "overloaded"),
        ([b'event: error\ndata: {"detail": 1}\n\n'], True, "error_event", '{"detail": 1}'),
        ([b'event: error\ndata: {"error": {"message": "no"}}\n\n'], True, "error_event", "no"),
        ([b"event: chunk\n" + ROLE, b"event: x\n" + STOP, DONE], True, "ok", None),
        ([b"data: nope\n\n", event(error="x")], True, "malformed", None),
    ],
)
def test_verdicts_on_streams(
    pieces: list[bytes], complete: bool, end: str, detail: str | None
) -> None:
    answer = fed(*pieces)
    answer.end(50.0, complete=complete)
    found, said = answer.verdict()
    assert found == end
    if detail is not None or end == "ok":
        assert said == detail


@pytest.mark.parametrize(
    ("status", "end"),
    [
        (None, "malformed"),
        (201, "malformed"),
        (302, "malformed"),
        (400, "http_4xx"),
        (429, "http_429"),
        (499, "http_4xx"),
        (500, "http_5xx"),
        (599, "http_5xx"),
    ],
)
def test_a_status_tells_whatever_the_body_says(status: int | None, end: str) -> None:
    answer = Answer(stream=True)
    if status is not None:
        answer.begin(status, "application/json", "br")
        answer.feed(b'{"error": {"message": "why"}}', 1.0)
        answer.end(1.0, complete=False)
    found, detail = answer.verdict()
    assert found == end
    assert detail == ("status 0" if status is None else f"status {status}: why")


def test_a_body_without_end_is_not_kept() -> None:
    answer = begun("application/json", stream=False)
    for _ in range(3):
        answer.feed(b"[" * LARGEST_PLAIN, 1.0)
    answer.end(1.0, complete=True)
    end, detail = answer.verdict()
    assert end == EndClass.MALFORMED
    assert detail is not None
    assert len(detail) < 200


def test_an_answer_in_one_piece() -> None:
    body = {
        "choices": [{"message": {"content": "Paris"}, "finish_reason": "stop"}],
        "usage": {"completion_tokens": 1, "prompt_tokens": 2},
    }
    answer = plain(json.dumps(body).encode(), keep_text=True)
    assert answer.verdict() == (EndClass.OK, None)
    assert (answer.text, answer.completion_tokens, answer.prompt_tokens) == (["Paris"], 1, 2)
    assert plain(json.dumps(body).encode(), stream=True).verdict() == (
        EndClass.MALFORMED,
        "status 200, but no event stream",
    )
