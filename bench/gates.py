"""A gate of many cases from the pytest command to its exit, beside the floor of the arithmetic.

Every run is checked: all cases passed, and the model saw each question exactly once.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import Timing, mock_model, seen, table, timed

from pytest_llmdeploy.config.gates import BudgetConfig
from pytest_llmdeploy.gates.budget import Budget, Used
from pytest_llmdeploy.gates.store import CaseStore

LARGE = (5000, 10_000)
LARGE_SECONDS = 0.02
"""Seconds an answer of the large tables: they are about our own work, not about waiting."""
FLOOR_CLIENT = """
import asyncio, sys, aiohttp
async def main(url, cases, concurrency):
    connector = aiohttp.TCPConnector(limit=concurrency)
    async with aiohttp.ClientSession(connector=connector) as session:
        numbers = iter(range(cases))
        async def ask():
            for n in numbers:
                question = f"What is the capital of France? ({n})"
                body = {"model": "mock", "messages": [{"role": "user", "content": question}]}
                async with session.post(url + "/v1/chat/completions", json=body) as response:
                    answer = await response.json()
                assert "Paris" in answer["choices"][0]["message"]["content"]
        await asyncio.gather(*(ask() for _ in range(concurrency)))
asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
"""
CONFIG = """
service: {{model: mock}}
environments: {{local: {{url: "{url}"}}}}
health: {{checks: []}}
smoke: {{checks: []}}
{budget}
gates:
  many:
    cases: cases.jsonl
    prompt: "What is the capital of France? ({{{{ n }}}})"
    assert: ["icontains: paris", "word-count: 1"]
    concurrency: {concurrency}
"""
BUDGET = "budget: {requests: 1000000, seconds: 86400}"
EMPTY = """
import pytest
@pytest.mark.parametrize("n", range({cases}))
def test_nothing(n):
    pass
"""
COMMAND = "import sys; from pytest_llmdeploy.commands import main; sys.exit(main(sys.argv[1:]))"
PYTEST = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider")
GATES = (*PYTEST, "-m", "gates")


@dataclass(frozen=True)
class Size:
    """How much is asked."""

    cases: int
    concurrency: int
    seconds: float
    """Until the model answers."""

    @property
    def floor(self) -> float:
        """Seconds below which nobody can be done."""
        return self.cases * self.seconds / self.concurrency


@dataclass(frozen=True)
class Measured:
    """One run, and what the model saw of it."""

    timing: Timing
    saw: dict[str, Any]


Row = Callable[[Size, str, Path], Timing]
"""Perform a row in a folder, against the address of a model."""


def project(size: Size, url: str, root: Path, budget: str = "") -> None:
    """Write a project with the gate."""
    (root / "pytest.ini").write_text("[pytest]\n")
    (root / "llmdeploy.yaml").write_text(
        CONFIG.format(url=url, concurrency=size.concurrency, budget=budget)
    )
    lines = (f'{{"id": "c{n}", "vars": {{"n": {n}}}}}' for n in range(size.cases))
    (root / "cases.jsonl").write_text("\n".join(lines))


def floor_client(size: Size, url: str, root: Path) -> Timing:
    """Ask without any test runner."""
    arguments = (url, str(size.cases), str(size.concurrency))
    return succeeded(timed([sys.executable, "-c", FLOOR_CLIENT, *arguments], root, tree=True))


def bare_pytest(size: Size, _url: str, root: Path) -> Timing:
    """Run as many tests that do nothing, without the plugin."""
    (root / "pytest.ini").write_text("[pytest]\n")
    (root / "test_nothing.py").write_text(EMPTY.format(cases=size.cases))
    return succeeded(timed([*PYTEST, "-p", "no:llmdeploy"], root, tree=True))


def gates(*arguments: str, budget: str = "", first: Sequence[str] = ()) -> Row:
    """Return the row of a gate; `first` are the arguments of a run that comes before."""

    def row(size: Size, url: str, root: Path) -> Timing:
        project(size, url, root, budget)
        if first:
            all_passed(timed([*GATES, *first], root), size)
        return all_passed(timed([*GATES, *arguments], root, tree=True), size)

    return row


def rejudge(size: Size, url: str, root: Path) -> Timing:
    """Judge the record of a run again."""
    project(size, url, root)
    all_passed(timed([*GATES, "--llmdeploy-output", "out"], root), size)
    done = succeeded(timed([sys.executable, "-c", COMMAND, "rejudge", "out"], root, tree=True))
    assert "gate many: recorded PASS, now PASS" in done.out, done.out[-2000:]
    return done


def succeeded(done: Timing) -> Timing:
    """Return a run that exited with 0."""
    assert done.code == 0, done.out[-2000:]
    return done


def all_passed(done: Timing, size: Size) -> Timing:
    """Return a run of which every item passed: the cases, and their gate."""
    assert f"{size.cases + 1} passed" in succeeded(done).out, done.out[-2000:]
    return done


ROWS: dict[str, tuple[str, Row, bool]] = {
    "raw": ("raw aiohttp, no test runner", floor_client, True),
    "bare": ("pytest, as many empty tests, no plugin", bare_pytest, False),
    "one": ("pytest -m gates", gates(), True),
    "budget": ("the same, with a budget", gates(budget=BUDGET), True),
    "two": ("pytest -m gates -n 2", gates("-n", "2"), True),
    "four": ("pytest -m gates -n 4", gates("-n", "4"), True),
    "strict": (
        "--llmdeploy-replay strict",
        gates("--llmdeploy-replay", "strict", first=("--llmdeploy-replay", "record")),
        True,
    ),
    "rejudge": ("llmdeploy rejudge", rejudge, True),
}
"""What is printed, how it is done, and whether the model is asked each question once for it."""


def measure(row: Row, size: Size, asked: bool) -> Measured:
    """Perform a row once with a model and a folder of its own."""
    with mock_model(size.seconds) as url, tempfile.TemporaryDirectory() as folder:
        timing = row(size, url, Path(folder))
        saw = seen(url)
    wanted = size.cases if asked else 0
    assert (saw["total"], saw["different"]) == (wanted, wanted), saw
    return Measured(timing, saw)


def print_table(size: Size, names: Sequence[str], runs: int) -> None:
    """Print medians of `runs` runs."""
    rows: list[list[object]] = [["arithmetic", f"{size.floor:.1f}", "1.00", *[""] * 5]]
    for name in names:
        text, row, asked = ROWS[name]
        done = [measure(row, size, asked) for _ in range(runs)]
        wall, cpu, memory, span = (
            statistics.median(values)
            for values in zip(
                *((m.timing.wall, m.timing.cpu, m.timing.memory_mb, m.saw["span"]) for m in done),
                strict=True,
            )
        )
        # A replay's requests are those of the run that recorded: it asks nobody itself.
        own = asked and name not in ("strict", "rejudge")
        rows.append(
            [
                text,
                f"{wall:.1f}",
                f"{wall / size.floor:.2f}",
                f"{span:.1f}" if own else "",
                max(m.saw["peak"] for m in done) if own else "",
                done[0].saw["total"] if own else 0,
                f"{cpu:.1f}",
                f"{memory:.0f}",
            ]
        )
    print(
        f"\n{size.cases} cases, {size.concurrency} in flight,"
        f" {size.seconds * 1000:.0f} ms an answer; median of {runs}\n"
    )
    head = ["", "wall s", "x floor", "asking s", "peak in flight", "requests", "CPU s", "RSS MB"]
    table(head, rows)


def budget_cost(calls: int = 2000) -> None:
    """Print what one request costs that is counted against a budget."""
    with tempfile.TemporaryDirectory() as folder:
        record, pulse = Path(folder) / "r.sqlite", Path(folder) / "p.pulse"
        store = CaseStore(record, pulse)  # a run's record, in its journal mode
        budget = Budget(record, "b", BudgetConfig(requests=10**9, tokens=10**12))
        budget.reserve()
        begun = time.perf_counter()
        for _ in range(calls):
            budget.reserve()
            budget.charge(Used(tokens=10))
        each = (time.perf_counter() - begun) / calls
        budget.close()
        store.close()
    print(f"\nA budget by itself: {each * 1e6:.0f} us a request, so {1 / each:.0f} requests/s\n")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=1000, help="Cases of the gate (1000)")
    parser.add_argument("--concurrency", type=int, default=50, help="Requests in flight (50)")
    parser.add_argument("--seconds", type=float, default=0.2, help="Until an answer comes (0.2)")
    parser.add_argument("--runs", type=int, default=1, help="Runs of each row, for medians (1)")
    parser.add_argument(
        "--rows",
        default=",".join(ROWS),
        help=f"Which rows, separated by commas: {', '.join(ROWS)} (all)",
    )
    parser.add_argument(
        "--large",
        action="store_true",
        help=f"Tables of {LARGE[0]} and {LARGE[1]} cases too, at {LARGE_SECONDS * 1000:g} ms",
    )
    given = parser.parse_args()
    names = given.rows.split(",")
    if unknown := set(names) - set(ROWS):
        parser.error(f"no such row: {', '.join(sorted(unknown))}; there are {', '.join(ROWS)}")
    print_table(Size(given.cases, given.concurrency, given.seconds), names, given.runs)
    if given.large:
        for cases in LARGE:
            print_table(Size(cases, given.concurrency, LARGE_SECONDS), names, given.runs)
    if "budget" in names:
        budget_cost()


if __name__ == "__main__":
    main()
