"""How true our load generator's times are, beside what else reads streams, and what it costs.

``python bench/load.py [--only streams,omission,processes,flat] [--streams 20,50] [--kinds …]``

The server is `pytest_llmdeploy.load.mock` on one CPU, whose chunks say when they were written; the
client has another CPU to itself. The table of processes has to share what there is.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import ceil
from pathlib import Path
from typing import Any

from common import HERE, table
from load_figures import ANSWER, INTERVAL, TOKENS, TTFT, WARMUP, quantile
from load_rivals import HEADERS, KINDS, PATH

from pytest_llmdeploy.load.controller import Progress, TrafficResult, run_traffic
from pytest_llmdeploy.load.definitions import value_of
from pytest_llmdeploy.load.ledger import Record, read_ledger
from pytest_llmdeploy.load.mock import Schedule
from pytest_llmdeploy.load.spec import Step, Target, TrafficSpec

CPUS = sorted(os.sched_getaffinity(0))
NAMES = {
    "floor": "asyncio, bytes only (floor)",
    "ours": "pytest-llmdeploy",
    "aiohttp": "aiohttp iter_any",
    "httpx": "httpx async",
    "openai": "openai SDK async",
    "openai-aiohttp": "openai SDK async on aiohttp",
    "locust-fast": "Locust FastHttpUser iter_lines",
    "locust-http": "Locust HttpUser iter_lines",
}
assert set(NAMES) | {"locust-paced"} == set(KINDS)


@contextmanager
def mock(schedule: Schedule) -> Iterator[str]:
    """Run the mock on the first CPU; yield its address."""
    flags = {
        "--ttft": schedule.ttft,
        "--interval": schedule.interval,
        "--tokens": schedule.tokens,
        "--stall": schedule.stall,
        "--stall-period": schedule.stall_period,
        "--stall-offset": schedule.stall_offset,
        "--pin": CPUS[0],
    }
    arguments = [str(part) for flag in flags.items() for part in flag]
    command = [sys.executable, "-m", "pytest_llmdeploy.load.mock", *arguments]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield process.stdout.readline().split()[1]
        process.stdin.close()


@contextmanager
def on_cpus(cpus: Sequence[int]) -> Iterator[None]:
    """Run this process, and what it starts meanwhile, on these CPUs."""
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, CPUS)


def rival(kind: str, url: str, streams: int, seconds: float) -> dict[str, Any]:
    """Run a client in a process of its own; return its figures, or what went wrong."""
    command = [sys.executable, str(HERE / "load_rivals.py"), kind, url, str(streams), str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or ["no output"])[-1][:60]}
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def traffic(url: str, rate: float, seconds: float, **more: Any) -> TrafficSpec:
    """Return our traffic at a constant rate."""
    return TrafficSpec(
        targets=(Target(url + PATH, HEADERS, "mock"),),
        steps=(Step(rate, rate, seconds),),
        arrivals="constant",
        output_tokens=(TOKENS, TOKENS),
        **more,
    )


@contextmanager
def ran(
    spec: TrafficSpec, processes: int = 1, watch: Callable[[Progress], None] = lambda _: None
) -> Iterator[tuple[TrafficResult, list[Record]]]:
    """Run our traffic; yield the result and the whole ledger."""
    with tempfile.TemporaryDirectory() as folder:
        result = run_traffic(spec, Path(folder, "run"), processes=processes, watch=watch)
        result.check_complete()
        yield result, list(read_ledger(result.ledger))


def milliseconds(value: float | None, digits: int = 1) -> str:
    """Return seconds as text."""
    return "-" if value is None else f"{value * 1000:.{digits}f}"


def streams(options: argparse.Namespace) -> None:
    """Print how true each client's times are by the number of streams."""
    head = ["streams", "client", "TTFT p50 ms", "error %", "ITL error p50 ms", "p99 ms"]
    head += ["chunks/s", "CPU %", "others %", "requests", "mock late p99 ms"]
    rows: list[list[object]] = []
    for count in options.streams:
        for kind in options.kinds:
            with mock(Schedule(TTFT, INTERVAL, TOKENS)) as url, on_cpus(CPUS[-1:]):
                runs = [rival(kind, url, count, options.seconds) for _ in range(options.runs)]
            rows.append([count, NAMES[kind], *_stream_cells(runs)])
        with mock(Schedule(TTFT, INTERVAL, TOKENS)) as url, on_cpus(CPUS[-1:]):
            rows.append([count, "pytest-llmdeploy, run_traffic", *_our_cells(url, count, options)])
    offered = ", ".join(f"{n}: {n * TOKENS / ANSWER:.0f}" for n in options.streams)
    print(
        f"\nTTFT {TTFT * 1000:.0f} ms, then a token each {INTERVAL * 1000:.0f} ms, {TOKENS} in all;"
    )
    print(f"client on one CPU; median of {options.runs}; chunks/s at most: {offered}\n")
    table(head, rows)


def _stream_cells(runs: Sequence[dict[str, Any]]) -> list[object]:
    if missing := [run["missing"] for run in runs if "missing" in run]:
        return [f"not installed: {missing[0]}", *[""] * 8]
    if failed := [run["failed"] for run in runs if "failed" in run]:
        return [f"failed: {failed[0]}", *[""] * 8]

    def middle(name: str) -> float | None:
        values = [run[name] for run in runs if run[name] is not None]
        return statistics.median(values) if values else None

    ttft, truth = middle("ttft_p50"), middle("true_ttft_p50")
    return [
        "nothing finished" if ttft is None else milliseconds(ttft),
        "" if ttft is None or truth is None else f"{(ttft / truth - 1) * 100:+.1f}",
        milliseconds(middle("itl_error_p50"), 2),
        milliseconds(middle("itl_error_p99"), 2),
        f"{middle('chunks_per_second'):.0f}",
        f"{(middle('cpu') or 0) * 100:.0f}",
        f"{(middle('others') or 0) * 100:.0f}",
        f"{middle('requests'):.0f}",
        milliseconds(middle("mock_late_p99")),
    ]


def _our_cells(url: str, count: int, options: argparse.Namespace) -> list[object]:
    """Return the figures of the whole thing, by its ledger; it does not keep single chunks."""
    with ran(traffic(url, count / ANSWER, options.seconds)) as (result, records):
        judged = [record for record in records if record["at"] >= WARMUP]
        ttft = quantile([value_of("ttft", each, since="sent") or 0.0 for each in judged], 0.5)
    assert ttft is not None
    error = f"{(ttft / TTFT - 1) * 100:+.1f}"
    chunks = f"{_chunk_rate(records, options.seconds):.0f}"
    cpu = f"{result.cpu * 100:.0f}"
    return [milliseconds(ttft), error, "", "", chunks, cpu, "", len(judged), ""]


def _chunk_rate(records: Sequence[Record], seconds: float) -> float:
    """Return the chunks per second of the answers that ended while the rate was steady."""
    begin = WARMUP + ANSWER
    ended = (record for record in records if begin <= record["end"] < seconds)
    return float(sum(record.get("chunks", 0) for record in ended) / (seconds - begin))


def omission(_options: argparse.Namespace) -> None:
    """Print what a stall of 3 s looks like from outside, and what it was."""
    rate, seconds, users = 20.0, 20.0, 10
    rows: list[list[object]] = []

    def stalling() -> Schedule:
        offset = (time.monotonic() + 8) % 1000
        return Schedule(0.05, 0.01, 1, stall_period=1000, stall=3, stall_offset=offset)

    def row(name: str, latencies: Sequence[float]) -> None:
        values = [_by_rank(latencies, q) for q in (0.5, 0.9, 0.95, 0.99)]
        rows.append([name, len(latencies), *(milliseconds(value, 0) for value in values)])

    with mock(schedule := stalling()) as url, on_cpus(CPUS[-1:]):
        with ran(traffic(url, rate, seconds)) as (result, records):
            start = result.started - (time.time() - time.monotonic())
        truth = [start + record["at"] for record in records]
        row("the truth, by the schedule", [schedule.due(at, 0) - at for at in truth])
        row("pytest-llmdeploy", [value_of("ttft", record) or 0.0 for record in records])
        sent = [value_of("ttft", record, since="sent") or 0.0 for record in records]
        row("pytest-llmdeploy, from sent", sent)
    with mock(stalling()) as url, on_cpus(CPUS[-1:]):
        figures = rival("locust-paced", url, users, seconds)
        name = f"Locust constant_throughput, {users} users"
        if "latencies" in figures:
            row(name, figures["latencies"])
        else:
            rows.append([name, *figures.items(), "", "", ""])
    print(f"\n{rate:.0f} requests/s for {seconds:.0f} s; the server stalls for 3 s\n")
    table(["", "requests", "p50 ms", "p90 ms", "p95 ms", "p99 ms"], rows)


def _by_rank(values: Sequence[float], q: float) -> float:
    return sorted(values)[ceil(q * len(values)) - 1]


def processes(options: argparse.Namespace) -> None:
    """Print what a second process brings."""
    rows: list[list[object]] = []
    for count in (200, 300, 400):
        for number in (1, 2):
            with mock(Schedule(TTFT, INTERVAL, TOKENS)) as url:
                spec = traffic(url, count / ANSWER, options.seconds, max_in_flight=10_000)
                with ran(spec, number) as (result, records):
                    chunks = _chunk_rate(records, options.seconds)
                    ttft = [value_of("ttft", record) or 0.0 for record in records]
            rows.append(
                [
                    f"{count * TOKENS / ANSWER:.0f}",
                    number,
                    f"{chunks:.0f}",
                    milliseconds(quantile(ttft, 0.5)),
                    milliseconds(result.dispatch_lag.quantile(0.99)),
                    f"{result.cpu * 100:.0f}",
                ]
            )
    print(f"\nServer and client on {len(CPUS)} CPUs together; {options.seconds:.0f} s\n")
    head = ["chunks/s offered", "processes", "chunks/s", "TTFT p50 ms", "dispatch lag p99 ms"]
    table([*head, "CPU % of the busiest"], rows)


def flat(options: argparse.Namespace) -> None:
    """Print what grows with the number of requests."""
    rate, seconds = 400.0, options.flat_seconds
    samples: list[tuple[float, int, float, int]] = []

    def watch(progress: Progress) -> None:
        held = [_held(pid) for pid in _children()]
        samples.extend((progress.elapsed, progress.ended, *each) for each in held)

    with (
        mock(Schedule(0.005, 0.001, 3)) as url,
        on_cpus(CPUS[-1:]),
        ran(traffic(url, rate, seconds), watch=watch) as (result, records),
    ):
        size = result.ledger.stat().st_size
    rows: list[list[object]] = []
    for share in (0.1, 0.25, 0.5, 0.75, 0.99):
        elapsed, ended, memory, files = next(s for s in samples if s[0] >= share * seconds)
        rows.append([f"{elapsed:.0f}", ended, f"{memory:.1f}", files])
    print(f"\n{rate:.0f} requests/s of 3 tokens in 8 ms; {len(records)} requests")
    print(f"Ledger: {size / len(records):.1f} bytes per request\n")
    table(["s", "requests ended", "generator MB", "open files"], rows)


def _children() -> list[int]:
    return [
        int(pid)
        for pid in Path("/proc/self/task", str(os.getpid()), "children").read_text().split()
        if b"load.runner" in Path("/proc", pid, "cmdline").read_bytes()
    ]


def _held(pid: int) -> tuple[float, int]:
    """Return the memory of a process in MB and the number of its open files."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    files = sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6, files


TABLES = {"streams": streams, "omission": omission, "processes": processes, "flat": flat}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser()

    def names(known: Sequence[str]) -> Callable[[str], list[str]]:
        def parse(text: str) -> list[str]:
            chosen = text.split(",")
            if unknown := set(chosen) - set(known):
                parser.error(f"no such name: {', '.join(unknown)}; there are {', '.join(known)}")
            return chosen

        return parse

    def numbers(text: str) -> list[int]:
        return [int(part) for part in text.split(",")]

    parser.add_argument("--only", type=names([*TABLES]), default=[*TABLES])
    parser.add_argument("--kinds", type=names([*NAMES]), default=[*NAMES])
    parser.add_argument("--streams", type=numbers, default=[20, 50, 100, 200])
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--flat-seconds", type=float, default=60.0)
    parser.add_argument("--runs", type=int, default=1)
    options = parser.parse_args()
    for name in options.only:
        TABLES[name](options)


if __name__ == "__main__":
    main()
