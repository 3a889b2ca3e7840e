"""What the clients of the load benchmark keep while they read, and the figures made of it."""

from __future__ import annotations

import os
import re
import resource
import time
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

TTFT, INTERVAL, TOKENS = 0.1, 0.01, 50
ANSWER = TTFT + (TOKENS - 1) * INTERVAL
WARMUP = 1.0
"""Seconds whose requests do not count: connections are made, code is first run."""


@dataclass
class Exchange:
    """One request as its client saw it."""

    sent: float
    pieces: list[tuple[float, Any]] = field(default_factory=list)
    ended: bool = False

    def add(self, piece: Any) -> None:
        """Keep a piece and when it came."""
        self.pieces.append((time.monotonic(), piece))


def written_and_read(exchange: Exchange) -> tuple[float, list[tuple[float, float]]]:
    """Return when the request arrived, and for each token when it was written and read."""
    texts = [_bytes(piece) for _, piece in exchange.pieces]
    ends = list(accumulate(len(text) for text in texts))
    whole = b"".join(texts)
    arrived = re.search(rb'"arrived": *([\d.]+)', whole)
    assert arrived, whole[:1000]
    tokens = [
        (float(match[1]), exchange.pieces[bisect_left(ends, match.end())][0])
        for match in re.finditer(rb'"written": *([\d.]+)', whole)
    ]
    return float(arrived[1]), tokens


def _bytes(piece: Any) -> bytes:
    if isinstance(piece, str):
        return piece.encode()
    return piece if isinstance(piece, bytes) else piece.model_dump_json().encode()


def quantile(values: Sequence[float], q: float) -> float | None:
    """Return a quantile by rank; None of nothing."""
    ordered = sorted(values)
    return ordered[min(int(q * len(ordered)), len(ordered) - 1)] if ordered else None


def summary(log: Iterable[Exchange], seconds: float, meter: Meter) -> dict[str, Any]:
    """Return the figures; seconds throughout."""
    shares, begun = meter.shares(), meter.begun
    ttfts, true_ttfts, errors, late, count = [], [], [], [], 0
    for exchange in log:
        if not exchange.pieces:
            continue
        arrived, tokens = written_and_read(exchange)
        count += sum(begun + WARMUP <= read < begun + seconds for _, read in tokens)
        if not exchange.ended or exchange.sent < begun + WARMUP:
            continue
        assert len(tokens) == TOKENS, len(tokens)
        ttfts.append(tokens[0][1] - exchange.sent)
        true_ttfts.append(tokens[0][0] - arrived)
        for (wrote, read), (wrote_next, read_next) in pairwise(tokens):
            errors.append(abs((read_next - read) - (wrote_next - wrote)))
        for number, (wrote, _) in enumerate(tokens):
            late.append(wrote - arrived - TTFT - number * INTERVAL)
    return {
        "requests": len(ttfts),
        "ttft_p50": quantile(ttfts, 0.5),
        "ttft_p99": quantile(ttfts, 0.99),
        "true_ttft_p50": quantile(true_ttfts, 0.5),
        "itl_error_p50": quantile(errors, 0.5),
        "itl_error_p99": quantile(errors, 0.99),
        "mock_late_p99": quantile(late, 0.99),
        "chunks_per_second": count / (seconds - WARMUP),
        **shares,
    }


class Meter:
    """CPU use since it was made: of this process, and of all others on the CPUs it may use."""

    def __init__(self) -> None:
        self.begun = time.monotonic()
        self._own, self._all = self._used()

    def shares(self) -> dict[str, float]:
        """Return both as shares of one CPU."""
        wall = time.monotonic() - self.begun
        own, everything = self._used()
        others = everything - self._all - (own - self._own)
        return {"cpu": (own - self._own) / wall, "others": max(others, 0.0) / wall}

    def _used(self) -> tuple[float, float]:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        names = {f"cpu{number}" for number in os.sched_getaffinity(0)}
        lines = map(str.split, Path("/proc/stat").read_text().splitlines())
        # user nice system idle iowait irq softirq steal, in ticks
        ticks = [line[1:4] + line[6:9] for line in lines if line[0] in names]
        used = sum(int(tick) for line in ticks for tick in line) / os.sysconf("SC_CLK_TCK")
        return usage.ru_utime + usage.ru_stime, used
