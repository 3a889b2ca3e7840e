"""What each latency is: one place for the definitions, from a ledger record to seconds.

Times count from the intended start. A request that did not end well is infinitely late; one that a
metric does not apply to has no value.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from pytest_llmdeploy.load.ledger import EndClass, Record

FAILED = math.inf
NOT_JUDGED = frozenset({EndClass.CANCELLED})
"""Ends that say nothing about the service."""
STREAMED_ONLY = frozenset({"ttft", "ttfr", "tpot", "itl"})


class NoUsageError(ValueError):
    """A value needs token counts, and the service did not report usage."""


def is_judged(record: Record, warmup: float) -> bool:
    """Return whether a request counts for verdicts: those to a version compared with do not."""
    if record["class"] in NOT_JUDGED or record.get("target"):
        return False
    return bool(record.get("at", 0.0) >= warmup)


def value_of(metric: str, record: Record, *, since: str = "at") -> float | None:
    """Return a request's latency in seconds; infinity where it failed, None where not applicable.

    A stream that ended well and showed nothing never had its first token: infinitely late, too.
    `since` is ``at`` (intended) or ``sent``. Raises NoUsageError for a tpot without usage.
    """
    if metric in STREAMED_ONLY and record.get("stream") is False:
        return None
    if metric == "queueing":
        sent: float | None = record.get("sent")
        return FAILED if sent is None else max(sent - float(record["at"]), 0.0)
    if record["class"] != EndClass.OK:
        return FAILED
    begun: float = record[since]
    if metric == "e2e":
        ended: float = record["end"]
        return max(ended - begun, 0.0)
    if metric == "tpot":
        return _time_per_token(record)
    moment: float | None = record.get("first", FAILED) if metric == "ttft" else record.get("reason")
    return None if moment is None else max(moment - begun, 0.0)


def _time_per_token(record: Record) -> float | None:
    """Return (last - first)/(tokens - 1); the first token is the first of either kind."""
    if "last" not in record:
        return None
    tokens = record.get("tokens")
    if tokens is None:
        raise NoUsageError
    if tokens < 2:
        return None
    begun: float = min(record[key] for key in ("first", "reason") if key in record)
    ended: float = record["last"]
    return (ended - begun) / (int(tokens) - 1)


def is_good(record: Record, limits: Mapping[str, float]) -> bool:
    """Return whether a request ended well and within each of the limits that apply to it.

    A stream that showed nothing missed any limit on its first token. Raises NoUsageError.
    """
    if record["class"] != EndClass.OK:
        return False
    if "ttft" in limits and record.get("stream") is not False and "first" not in record:
        return False
    values = {metric: value_of(metric, record) for metric in limits}
    return all(value is None or value <= limits[metric] for metric, value in values.items())
