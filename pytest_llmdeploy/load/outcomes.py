"""Requests that have ended, told while the traffic goes on: from a record to the wire and back.

On the wire each is a short list, for there may be hundreds a second. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pytest_llmdeploy.load.ledger import EndClass
from pytest_llmdeploy.ports import RequestOutcome

Told = list[Any]
"""End, version, class, latency, ttft, itl, tokens, color, sent; moments since the start."""


def tell(record: Mapping[str, Any]) -> Told:
    """Return what is told of a record of the ledger."""
    sent = record.get("sent")
    latency = ttft = None
    if sent is not None:
        if "status" in record:
            latency = round(max(record["end"] - sent, 0.0), 6)
        if "first" in record and record.get("stream"):
            ttft = round(max(record["first"] - sent, 0.0), 6)
    return [
        record["end"],
        record.get("version"),
        record["class"],
        latency,
        ttft,
        record.get("gap_mean") if record.get("stream") else None,
        record.get("tokens"),
        record.get("color"),
        sent,
    ]


def received(told: Iterable[Told], start: float) -> list[RequestOutcome]:
    """Return what was told; `start` is the traffic's zero on time.monotonic."""
    return [
        RequestOutcome(
            end=start + end,
            version=version,
            ok=ended == EndClass.OK,
            ended=ended,
            latency=latency,
            ttft=ttft,
            itl=itl,
            tokens=tokens,
            color=color,
            sent=None if sent is None else start + sent,
        )
        for end, version, ended, latency, ttft, itl, tokens, color, sent in told
    ]
