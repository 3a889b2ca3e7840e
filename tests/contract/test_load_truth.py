"""What a run measures, held against what the server is known to have done."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pytest_llmdeploy.load.mock import Schedule
from pytest_llmdeploy.load.spec import Target
from pytest_llmdeploy.load.summary import Tally, tally
from tests.contract.traffic import (
    CHUNKED,
    DONE,
    HI,
    LAST_CHUNK,
    ROLE,
    STOP,
    Sent,
    chunk,
    event,
    send,
    traffic,
)
from tests.raw_server import Piece, RawServer, Then

STALLING = Schedule(ttft=0.05, interval=0.01, tokens=5, stall_period=6.0, stall=2.0)
"""A stall of 3 s in 20, shortened: its p90 is well within the stall, too."""


@contextmanager
def served(schedule: Schedule) -> Iterator[str]:
    """Run the mock; yield the address of its completions."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "pytest_llmdeploy.load.mock"),
            *("--ttft", str(schedule.ttft), "--interval", str(schedule.interval)),
            *("--tokens", str(schedule.tokens), "--stall", str(schedule.stall)),
            *("--stall-period", str(schedule.stall_period)),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield process.stdout.readline().split()[1] + "/chat/completions"
    finally:
        process.communicate()


def rank(values: list[float], q: float) -> float:
    return sorted(values)[math.ceil(q * len(values)) - 1]


def counted(sent: Sent, duration: float) -> Tally:
    return tally(sent.result, (), {}, 0.0, duration)


def test_percentiles_hold_all_of_a_stall(tmp_path: Path) -> None:
    """Coordinated omission: whoever waits for answers sees one late request in a stall, not all.

    Requests are due through exactly one period, so any phase has the same share of late ones. All
    these percentiles are above 1.2 s, so 5 % of them are 60 ms and more.
    """
    number, rate = 180, 30.0
    with served(STALLING) as url:
        spec = traffic("", number, rate, targets=(Target(url, {}, "m"),), output_tokens=(5, 5))
        sent = send(spec, tmp_path)
    assert sent.classes == {"ok": number}
    due = [sent.result.zero + record["at"] for record in sent.records]
    firsts = [STALLING.due(moment, 0) - moment for moment in due]
    ends = [STALLING.due(moment, STALLING.tokens - 1) - moment for moment in due]
    spreads = counted(sent, number / rate).spreads
    for name, values in (("ttft", firsts), ("e2e", ends)):
        for q in (0.9, 0.99):
            assert rank(values, q) > 1.2
            assert spreads[name].quantile(q) == pytest.approx(rank(values, q), rel=0.05), name


def test_gaps_by_token_are_told_beside_those_by_piece(tmp_path: Path) -> None:
    """Two pieces 0.4 s apart of 5 tokens: 0.1 s for each after the first."""
    usage = event(usage={"prompt_tokens": 3, "completion_tokens": 5})
    rest = [chunk(each) for each in (HI, STOP, usage, DONE)]
    pieces: list[Piece] = [CHUNKED, chunk(ROLE), chunk(HI), 0.4, *rest, LAST_CHUNK, Then.NEXT]
    with RawServer(lambda *_: pieces) as server:
        sent = send(traffic(server.url, 5), tmp_path)
    assert sent.classes == {"ok": 5}
    found = counted(sent, 1.0).to_json(sent.result.gaps, sent.result.token_gaps)["latencies"]
    for key in ("p50", "p99", "mean"):
        assert found["itl_per_token"][key] == pytest.approx(found["itl"][key] / 4, rel=2e-3)
    assert found["itl_per_token"]["n"] == found["itl"]["n"] == 5
