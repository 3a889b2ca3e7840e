"""Records to what is told of them, over the wire and back."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pytest_llmdeploy.load.ledger import Record
from pytest_llmdeploy.load.outcomes import received, tell
from pytest_llmdeploy.load.spec import Target, TrafficSpec, WorkerSpec
from pytest_llmdeploy.ports import RequestOutcome
from tests.unit.load.records import answered, failed


def through(record: Record, start: float = 100.0) -> RequestOutcome:
    (outcome,) = received(json.loads(json.dumps([tell(record)])), start)
    return outcome


def test_a_stream() -> None:
    record = answered(0, 2.0, gap_mean=0.01, version="2.0.0", color="green", sent=2.01)
    outcome = through(record)
    assert outcome == RequestOutcome(
        end=102.15,
        version="2.0.0",
        ok=True,
        ended="ok",
        latency=0.14,
        ttft=0.09,
        itl=0.01,
        tokens=5,
        color="green",
        sent=102.01,
    )


def test_an_answer_in_one_piece_has_no_first_token() -> None:
    outcome = through(answered(0, 2.0, stream=False, gap_mean=0.01))
    assert (outcome.ok, outcome.latency, outcome.ttft, outcome.itl) == (True, 0.15, None, None)


@pytest.mark.parametrize(
    ("ended", "changes", "latency"),
    [
        ("http_5xx", {"status": 503, "color": "green"}, 0.2),
        ("connect", {}, None),
        ("total_timeout", {}, None),
        ("dropped", {"sent": None}, None),
    ],
)
def test_failures_have_a_latency_where_they_were_answered(
    ended: str, changes: dict[str, Any], latency: float | None
) -> None:
    record = {k: v for k, v in failed(0, 1.0, ended, **changes).items() if v is not None}
    outcome = through(record)
    assert (outcome.ok, outcome.ended, outcome.version) == (False, ended, None)
    assert outcome.latency == (None if latency is None else pytest.approx(latency))
    assert outcome.color == changes.get("color")


def test_the_spec_says_whether_they_are_told() -> None:
    target = Target("http://127.0.0.1:1", {"x-canary": "true"}, "m", color_header="x-color")
    for outcomes in (False, True):
        spec = WorkerSpec(TrafficSpec(targets=(target,), outcomes=outcomes), (), "l", "r")
        back = WorkerSpec.from_json(spec.to_json()).traffic
        assert (back.outcomes, back.targets) == (outcomes, (target,))
    assert not TrafficSpec(targets=(target,)).outcomes
