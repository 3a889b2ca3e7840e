"""Ledger records as the load generator writes them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pytest_llmdeploy.load.ledger import LedgerWriter, Record


def answered(number: int, at: float, **changes: Any) -> Record:
    """Return a stream of 5 tokens: the first after 0.1 s, the others 10 ms apart, all from `at`.

    A change to None takes the key away.
    """
    record = {
        "i": number,
        "at": at,
        "client": "keep_alive",
        "stream": True,
        "sent": at,
        "first": at + 0.1,
        "last": at + 0.14,
        "status": 200,
        "tokens": 5,
        "chunks": 5,
        "gaps": 4,
        "end": at + 0.15,
        "class": "ok",
        **changes,
    }
    return {key: value for key, value in record.items() if value is not None}


def failed(number: int, at: float, end_class: str = "reset", **changes: Any) -> Record:
    """Return a request that was sent, and ended after 0.2 s without an answer."""
    return {
        "i": number,
        "at": at,
        "client": "keep_alive",
        "stream": True,
        "sent": at,
        "end": at + 0.2,
        "class": end_class,
        "detail": "connection reset by peer",
        **changes,
    }


def write_ledger(path: Path, records: Iterable[Record]) -> Path:
    """Write a ledger; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = LedgerWriter(path)
    for record in records:
        writer.write(record, 0.0)
    writer.close()
    return path
