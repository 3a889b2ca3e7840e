"""What a canary saw is read as it was written, whatever it was, and wherever a crash cut it."""

from __future__ import annotations

import json
from collections import Counter
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmdeploy.ports import Buckets, Tally
from pytest_llmdeploy.release.canary.looks import Look, LookWriter, Missing, read_looks
from tests.unit.release.canary.looks_of import DOWN, EMPTY, look, tally, value

INFINITE = float("inf")
EDGES = [0.0, 0.001, 0.0125, 0.1 + 0.2, 1.0, 1e9, INFINITE]
COUNTS = st.dictionaries(st.sampled_from(EDGES), st.integers(1, 10**12))
TEXTS = st.text(alphabet=st.characters(), max_size=20)
MISSING = st.builds(Missing, st.sampled_from(["no-data", "not-measured"]), TEXTS)


@st.composite
def growing(draw: st.DrawFn) -> list[Tally | Missing]:
    """Return tallies that are sums, as they grow; some cannot be had in between."""
    steps = draw(st.lists(st.tuples(COUNTS, COUNTS, st.integers(0, 99)), min_size=1, max_size=8))
    none: Counter[float] = Counter()
    latencies = accumulate((Counter(step[0]) for step in steps), initial=none)
    ttfts = accumulate((Counter(step[1]) for step in steps), initial=none)
    errors = accumulate((step[2] for step in steps), initial=0)
    found: list[Tally | Missing] = []
    for latency, ttft, failed in zip(latencies, ttfts, errors, strict=True):
        requests = latency.total() + failed
        found.append(tally(requests, failed, buckets(latency), buckets(ttft)))
        if draw(st.booleans()):
            found.append(draw(MISSING))
    return found


def buckets(counts: Counter[float]) -> Buckets:
    return tuple(sorted(counts.items()))


def written(path: Path, looks: list[Look]) -> list[Look]:
    """Return the looks as they are read again."""
    path.unlink(missing_ok=True)
    writer = LookWriter(path)
    for each in looks:
        writer.write(each)
    writer.close()
    return list(read_looks(path))


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("looks") / "folder" / "looks.jsonl"


@given(growing(), growing(), TEXTS)
def test_any_growing_tallies_are_read_as_they_were(
    path: Path, stable: list[Tally | Missing], canary: list[Tally | Missing], text: str
) -> None:
    path.parent.mkdir(exist_ok=True)
    looks = [
        look(
            stable=one,
            canary=other,
            sent=(other.requests if isinstance(other, Tally) else 0, 7),
            sample={"error_rate": value(0.1 + 0.2, 3), "cpu_usage": EMPTY, text: value(1e-300)},
            unattributed=number,
            answers={"both": 3, "differing": [text]},
        )
        for number, (one, other) in enumerate(zip(stable, canary, strict=False))
    ]
    assert written(path, looks) == looks


def test_phases_are_counted_apart(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    looks = [
        look(weight=weight, canary=tally(number, 0, ((0.5, number),)), stable=DOWN)
        for weight in (10, 100)
        for number in (5, 9)
    ]
    assert written(path, looks) == looks
    assert [line["tallies"]["canary"]["requests"] for line in lines(path)] == [5, 4, 5, 4]


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_line_holds_what_has_come(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    many = ((0.1, 10**6), (INFINITE, 3))
    more = ((0.1, 10**6), (0.2, 1), (INFINITE, 4))
    written(path, [look(canary=tally(1, 0, many)), look(canary=tally(2, 0, more))])
    assert lines(path)[1]["tallies"]["canary"]["latency"] == [[0.2, 1], [None, 1]]


def test_a_last_line_that_was_cut_is_left_out(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    looks = [look(canary=tally(n, 0, ((0.5, n),)), sample={"é": DOWN}) for n in (1, 2, 3)]
    assert written(path, looks) == looks
    whole = path.read_bytes()
    start = whole[:-1].rindex(b"\n") + 1
    for end in range(start, len(whole) - 1):
        path.write_bytes(whole[:end])
        assert list(read_looks(path)) == looks[:2]
    path.write_bytes(whole[:-1])  # only its end is missing
    assert list(read_looks(path)) == looks


@pytest.mark.parametrize(
    "foreign", ["no json", "5", "[]", "null", '{"phase": "weight-5"}', '{"tallies": {"canary": 5}}']
)
def test_a_line_that_is_none_is_named(path: Path, foreign: str) -> None:
    path.parent.mkdir(exist_ok=True)
    written(path, [look(), look()])
    first, second = path.read_text().splitlines()
    path.write_text(f"{first}\n{foreign}\n{second}\n")
    with pytest.raises(ValueError, match=r"looks\.jsonl:2 is no look of a canary: ") as caught:
        list(read_looks(path))
    assert str(caught.value).startswith(f"{path}:2 is no look")


def test_nothing_is_read_of_nothing(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("")
    assert list(read_looks(path)) == []


def test_a_lag_and_failures_are_kept(path: Path) -> None:
    seen = look(canary=tally(1), stable=tally(2), lag=15.0, failed={"canary": 1})
    (again,) = written(path, [seen])
    assert (again.lag, again.failed) == (15, {"canary": 1})
