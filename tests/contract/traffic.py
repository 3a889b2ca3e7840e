"""Traffic in small doses, and what its ledger says."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pytest_llmdeploy.load.controller import TrafficResult, run_traffic
from pytest_llmdeploy.load.ledger import Record, read_ledger
from pytest_llmdeploy.load.schedule import expected_arrivals
from pytest_llmdeploy.load.spec import Step, Target, Timeouts, TrafficSpec
from tests.raw_server import FOREVER, Piece, Then

CHAT = "/v1/chat/completions"
PATIENT = Timeouts(connect=20.0, first_token=20.0, idle=20.0, total=40.0)
DONE = b"data: [DONE]\n\n"


def traffic(
    url: str, number: int, rate: float = 100.0, rest: float = 0.0, **more: Any
) -> TrafficSpec:
    """Return a spec of so many requests at even distances; `more` changes it.

    For `rest` seconds after them conversations go on, and none begins.
    """
    steps = (Step(rate, rate, number / rate),) if number else ()
    options: dict[str, Any] = {
        "targets": (Target(url + CHAT, {}, "m"),),
        "steps": (*steps, Step(1e-6, 1e-6, rest)) if rest else steps,
        "arrivals": "constant",
        "timeouts": PATIENT,
        "drain": 20.0,
        "seed": 1,
    }
    return TrafficSpec(**{**options, **more})


@dataclass(frozen=True)
class Sent:
    """A run that has ended."""

    result: TrafficResult
    records: list[Record]

    @property
    def classes(self) -> dict[str, int]:
        """Number of requests by how they ended."""
        return Counter(record["class"] for record in self.records)

    def of(self, end: str) -> list[Record]:
        """Return the requests that ended so."""
        return [record for record in self.records if record["class"] == end]


def send(spec: TrafficSpec, tmp_path: Path, **options: Any) -> Sent:
    """Send the traffic; see that each intended request is in the ledger exactly once."""
    folder = tmp_path / f"run-{len(list(tmp_path.glob('run-*')))}"
    result = run_traffic(spec, folder, **options)
    records = list(read_ledger(result.ledger))
    assert len(records) == result.intended
    keys = [(record["i"], record.get("turn", 0)) for record in records]
    assert len(set(keys)) == len(keys), "no request is there twice"
    if spec.open_loop and result.stopped is None and not result.lost and "finish" not in options:
        assert {i for i, _ in keys} == set(range(expected_arrivals(spec)))
    for record in records:
        times = [record[key] for key in ("sent", "first", "last", "end") if key in record]
        assert times == sorted(times), record
    left = {path.name for path in folder.iterdir()}
    assert left - {"generator.log"} == {"ledger.jsonl.zst"}
    return Sent(result, records)


# Answers


def event(delta: Any = None, finish: str | None = None, **more: Any) -> bytes:
    """Return an event of a stream; no choices without a delta."""
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    return b"data: " + json.dumps({"choices": choices, **more}).encode() + b"\n\n"


ROLE = event({"role": "assistant", "content": ""})
HI = event({"content": "hi"})
STOP = event({}, "stop")
USAGE = event(usage={"prompt_tokens": 3, "completion_tokens": 2})


def chunk(data: bytes) -> bytes:
    """Return one chunk of a chunked message."""
    return b"%x\r\n%s\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"


def head(*headers: str, status: str = "200 OK", kind: str = "text/event-stream") -> bytes:
    """Return the head of an answer."""
    lines = [f"HTTP/1.1 {status}", f"content-type: {kind}", *headers]
    return "\r\n".join([*lines, "", ""]).encode()


CHUNKED = head("transfer-encoding: chunked")


def stream(*events: bytes, then: Piece = Then.NEXT) -> Iterable[Piece]:
    """Return a whole streamed answer, each event in a chunk of its own."""
    return [CHUNKED, *map(chunk, events), LAST_CHUNK, then]


WHOLE = (ROLE, HI, HI, STOP, USAGE, DONE)
"""The events of a fine answer."""
HALF: list[Piece] = [CHUNKED, chunk(ROLE), chunk(HI), chunk(HI), FOREVER]
"""An answer that stalls half-way."""


def body_of(request: bytes) -> dict[str, Any]:
    """Return what a request asks for."""
    body: dict[str, Any] = json.loads(request.partition(b"\r\n\r\n")[2])
    return body


def prompt_of(request: bytes) -> str:
    """Return the last thing that was said in a request."""
    text: str = body_of(request)["messages"][-1]["content"]
    return text


def make_pipes_small(patch: pytest.MonkeyPatch) -> None:
    """Let new pipes be full after 4 KiB; Linux only."""
    import fcntl

    pipe = os.pipe

    def small() -> tuple[int, int]:
        ends = pipe()
        fcntl.fcntl(ends[0], fcntl.F_SETPIPE_SZ, 4096)
        return ends

    patch.setattr(os, "pipe", small)
