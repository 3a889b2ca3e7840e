from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmdeploy.sse import EventParser

LINE_ENDS = st.sampled_from(["\n", "\r\n", "\r"])
LINES = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]))


def parsed(pieces: Iterable[bytes]) -> list[str]:
    parser = EventParser()
    found = [event for piece in pieces for event in parser.feed(piece)]
    return found + list(parser.feed(b"", last=True))


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """Return `data` in pieces, cut at each of `places`."""
    bounds = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in pairwise(bounds)]


@given(
    events=st.lists(st.lists(LINES, min_size=1, max_size=3), max_size=5),
    end=LINE_ENDS,
    places=st.lists(st.integers(0, 10_000), max_size=8),
)
def test_what_was_sent_arrives_however_it_is_cut(
    events: list[list[str]], end: str, places: list[int]
) -> None:
    text = "".join("".join(f"data: {line}{end}" for line in event) + end for event in events)
    assert parsed(cut(text.encode(), places)) == ["\n".join(event) for event in events]


@given(
    st.lists(
        st.sampled_from(
            [b"data: a", b"data:b", b"data: ", b"\n", b"\n\n", b"\r\n", b": c", b"\xe2"]
        ),
        max_size=30,
    ),
    st.lists(st.integers(0, 10_000), max_size=8),
)
def test_events_cut_where_they_end_are_the_same_events(
    parts: list[bytes], places: list[int]
) -> None:
    data = b"data: first\n\n" + b"".join(parts)
    ends = [place + 2 for place in range(len(data)) if data[place : place + 2] == b"\n\n"]
    singly = parsed(bytes([byte]) for byte in data)
    assert parsed(cut(data, ends)) == singly
    assert parsed(cut(data, places)) == singly


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_survives_as_raw_json(text: str) -> None:
    event = json.dumps({"content": text}, ensure_ascii=False)
    (found,) = parsed([f"data:{event}\n\n".encode()])
    assert json.loads(found) == {"content": text}


@given(st.lists(st.binary(), max_size=5))
def test_no_bytes_are_too_strange(pieces: list[bytes]) -> None:
    found = parsed(pieces)
    assert found == parsed([b"".join(pieces)])
    assert all("\r" not in event for event in found)


@pytest.mark.parametrize(
    ("sent", "events"),
    [
        (b"", []),
        (b": ping\n\n", []),
        (b"event: message\nid: 1\nretry: 5\ndata: a\n\n", ["a"]),
        (b"data\n\n", [""]),
        (b"data:\n\n", [""]),
        (b"data:  two spaces\n\n", [" two spaces"]),
        (b"database: no\n\n", []),
        (b"\xef\xbb\xbfdata: bom\n\n", ["bom"]),
        (b"data: a\n: comment\ndata: b\n\n\n\n", ["a\nb"]),
        (b"data: [DONE]\n", ["[DONE]"]),
        (b"data: [DONE]", ["[DONE]"]),
        (b"data: x\xff\n\n", ["x\N{REPLACEMENT CHARACTER}"]),
        ("data: a\u2028b\x85c\x0bd\n\n".encode(), ["a\u2028b\x85c\x0bd"]),
    ],
)
def test_the_standards_corners(sent: bytes, events: list[str]) -> None:
    assert parsed([sent]) == events


@pytest.mark.parametrize("pieces", [1, 2, 1000])
def test_the_name_of_an_event_is_its_own(pieces: int) -> None:
    data = b"data: a\n\nevent: error\ndata: b\n\ndata: c\n\nevent:error\n\ndata: d\n\n"
    data += b"data: e\r\nevent: error\r\n\r\n"
    size = max(len(data) // pieces, 1)
    parser = EventParser()
    found = [
        event
        for start in range(0, len(data), size)
        for event in parser.feed(data[start : start + size])
    ]
    assert found == ["a", "b", "c", "d", "e"]
    assert [getattr(event, "name", "") for event in found] == ["", "error", "", "", "error"]


def test_an_event_is_there_as_soon_as_its_empty_line_is() -> None:
    parser = EventParser()
    assert list(parser.feed(b"data: a\n")) == []
    assert list(parser.feed(b"\ndata: b")) == ["a"]
    assert list(parser.feed(b"\r\n\r")) == []
    assert list(parser.feed(b"\n")) == ["b"]
