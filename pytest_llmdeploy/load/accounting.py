"""Joins the ledgers of a run's processes, so that each intended request has its line in one.

A process that was lost has not said what became of its requests: what it was to send by then and
what is not in its own ledger is in the joined one as ``worker_lost``.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from pytest_llmdeploy.load.ledger import EndClass, LedgerWriter, Record, read_ledger
from pytest_llmdeploy.load.questions import Questions
from pytest_llmdeploy.load.schedule import arrivals, expected_arrivals
from pytest_llmdeploy.load.spec import TrafficSpec
from pytest_llmdeploy.load.worker import Worker


@dataclass(slots=True)
class Accounts:
    """What the joined ledger holds, and what it should."""

    intended: int = 0
    """Requests by the processes' own count; of a lost one, those that it is known to have begun."""
    first_turns: int = 0
    """Records of arrivals: all but the later questions of conversations."""
    last: float = 0.0
    """Seconds since the run's start when the last request had ended."""
    wrong: list[str] = field(default_factory=list)

    def check_schedule(self, traffic: TrafficSpec) -> None:
        """Note where a run that came to its end has not what its schedule says."""
        if traffic.open_loop and self.first_turns != (due := expected_arrivals(traffic)):
            self.wrong.append(f"the ledger has {self.first_turns} of {due} arrivals")


class _Latest(NamedTuple):
    """The latest question of a conversation in a ledger."""

    turn: int
    end: float
    ok: bool


def join_ledgers(
    traffic: TrafficSpec,
    workers: Sequence[Worker],
    ledger: Path,
    lost_at: float | None,
    over_at: float | None,
) -> Accounts:
    """Write the ledger of all processes.

    Until `lost_at` a lost process may have been at work, and after `over_at` nothing was begun any
    more, both in seconds since the run's start.
    """
    accounts = Accounts(last=max([lost_at or 0.0, *(w.latest.get("t", 0.0) for w in workers)]))
    partial = ledger.with_name(f"{ledger.name}.partial")
    writer = LedgerWriter(partial)
    for worker in workers:
        before = writer.written
        conversations = _copy(worker, writer, accounts)
        recorded = writer.written - before
        if worker.result is None:
            end = accounts.last if over_at is None else min(over_at, accounts.last)
            for record in _unaccounted(traffic, worker, conversations, recorded, end):
                accounts.first_turns += not record.get("turn")
                writer.write(record | {"end": accounts.last, "class": EndClass.WORKER_LOST}, 0.0)
            accounts.intended += writer.written - before
            continue
        intended = worker.result["intended"]
        accounts.intended += intended
        if recorded != intended:
            accounts.wrong.append(
                f"the ledger of process {worker.spec.index + 1} has {recorded} of "
                f"{intended} requests"
            )
    writer.close()
    partial.replace(ledger)
    return accounts


def _copy(worker: Worker, writer: LedgerWriter, accounts: Accounts) -> dict[int, _Latest]:
    """Copy the ledger of one process; of a lost one return where its conversations are."""
    conversations: dict[int, _Latest] = {}
    try:
        for record in read_ledger(Path(worker.spec.ledger)):
            number, turn, end = record["i"], record.get("turn", 0), record["end"]
            writer.write(record, 0.0)
            accounts.last = max(accounts.last, end)
            accounts.first_turns += not turn
            if worker.result is None:
                conversations[number] = _Latest(turn, end, record["class"] == EndClass.OK)
    except (OSError, ValueError, LookupError) as error:
        accounts.wrong.append(f"the ledger of {worker.name} cannot be read to its end: {error}")
    return conversations


def _unaccounted(
    traffic: TrafficSpec,
    worker: Worker,
    conversations: dict[int, _Latest],
    recorded: int,
    end: float,
) -> Iterator[Record]:
    """Yield what a lost process had begun by `end` and did not record.

    A next question is asked a think time after the answer to the one before, so the ledger tells
    of each whether it was. Users ask anew when they are answered: how many had, the process's last
    report tells alone.
    """
    spec = worker.spec
    questions = Questions(traffic)

    def record(number: int, turn: int, at: float) -> Record:
        if traffic.locustfile:
            return {"i": number, "at": round(at, 6), "stream": False}
        return questions.record(questions.question(number, turn), number, turn, at)

    following = sorted(
        (latest.end + traffic.think_time, number, latest.turn + 1)
        for number, latest in conversations.items()
        if latest.ok and latest.turn + 1 < traffic.turns
    )
    begun = [each for each in following if each[0] < min(end, traffic.traffic_duration)]
    if traffic.open_loop:
        for number, at in enumerate(arrivals(traffic)):
            if at > end:
                break
            if number % spec.count == spec.index and number not in conversations:
                yield record(number, 0, at)
    else:
        missing = max(worker.latest.get("intended", 0) - recorded, 0)
        del begun[missing:]
        numbers = itertools.count(spec.index, spec.count)
        fresh = (number for number in numbers if number not in conversations)
        for number in itertools.islice(fresh, missing - len(begun)):
            yield record(number, 0, end)
    for at, number, turn in begun:
        yield record(number, turn, at)
