from __future__ import annotations

import itertools
from fractions import Fraction

import pytest

from pytest_llmdeploy.reference.faults import (
    KINDS,
    FaultBook,
    FaultError,
    RequestFaults,
    parse_faults,
)


def test_values_and_their_defaults() -> None:
    assert parse_faults("error-500=0.02, latency=1.5,hang,unhealthy,") == {
        "error-500": Fraction(1, 50),
        "latency": Fraction(3, 2),
        "hang": Fraction(1),
        "unhealthy": Fraction(1),
    }


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("eror-500=1", "unknown fault 'eror-500': did you mean 'error-500'?"),
        ("zzzzzz", f"unknown fault 'zzzzzz': the kinds are {', '.join(KINDS)}"),
        ("error-500=1.5", "fault 'error-500=1.5': error-500 takes a share from 0 to 1"),
        ("error-500=", "fault 'error-500=': error-500 takes a share from 0 to 1"),
        ("latency", "fault 'latency': latency takes a number of 0 or more"),
        ("latency=-1", "fault 'latency=-1': latency takes a number of 0 or more"),
        ("latency=1e999999999", "fault 'latency=1e999999999': latency takes a number of 0 or more"),
        ("fail-first=1.5", "fault 'fail-first=1.5': fail-first takes a whole number"),
        ("unhealthy=1", "fault 'unhealthy=1': unhealthy takes no value"),
    ],
)
def test_a_wrong_fault_says_what_it_takes(spec: str, message: str) -> None:
    with pytest.raises(FaultError) as caught:
        parse_faults(spec)
    assert str(caught.value) == message


def _book(faults: str = "", seed: int = 0) -> FaultBook:
    return FaultBook(parse_faults(faults), seed)


def _hits(book: FaultBook, kind: str, count: int) -> list[int]:
    return [n for n in range(1, count + 1) if kind in book.drawn((kind,))]


def test_a_share_hits_exactly_every_nth_request() -> None:
    assert _hits(_book("error-500=0.02"), "error-500", 150) == [50, 100, 150]
    assert _hits(_book("hang=0.4"), "hang", 10) == [3, 5, 8, 10]
    assert _hits(_book("hang=0"), "hang", 100) == []


@pytest.mark.parametrize("seed", range(1, 20))
def test_the_seed_shifts_the_hits_and_keeps_their_number(seed: int) -> None:
    hits = _hits(_book("hang=0.1", seed), "hang", 100)
    assert len(hits) == 10
    assert {late - early for early, late in itertools.pairwise(hits)} == {10}


def test_seeds_differ() -> None:
    assert len({_hits(_book("hang=0.1", seed), "hang", 10)[0] for seed in range(20)}) > 5


def test_exclusive_faults_wait_for_the_next_request() -> None:
    book = _book("error-500=0.5,hang=0.5")
    drawn = [book.first_drawn(("error-500", "hang")) for _ in range(6)]
    assert drawn == [None, "error-500", "hang", "error-500", "hang", "error-500"]


def test_a_count_is_used_up() -> None:
    book = _book("fail-first=2")
    assert [book.within("fail-first") for _ in range(4)] == [True, True, False, False]
    assert _book().within("fail-first") is False


def test_a_header_adds_to_the_faults_of_the_process() -> None:
    book = _book("latency=1,unhealthy")
    faults = RequestFaults(book, "latency=0.25,no-done")
    assert (faults.value("latency"), faults.value("unhealthy")) == (0.25, 1.0)
    assert faults.drawn(("no-done", "no-finish")) == {"no-done"}
    assert RequestFaults(book).drawn(("no-done",)) == set()


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("crash-after=1", "fault 'crash-after' concerns the process, not one request"),
        ("hang=0.5", "fault 'hang': one request has no share, leave the value out"),
    ],
)
def test_what_a_header_cannot_plant(header: str, message: str) -> None:
    with pytest.raises(FaultError) as caught:
        RequestFaults(_book(), header)
    assert str(caught.value) == message
