"""Sends the requests of one process and writes its ledger; runs inside gevent."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import gevent
import gevent.event
import gevent.pool

from pytest_llmdeploy.load.answer import Answer
from pytest_llmdeploy.load.connection import Connection, ExchangeError, Line, OwnLimitError
from pytest_llmdeploy.load.costs import Cpu
from pytest_llmdeploy.load.counts import Counts
from pytest_llmdeploy.load.definitions import is_judged
from pytest_llmdeploy.load.ledger import EndClass, LedgerWriter, Record, rounded
from pytest_llmdeploy.load.outcomes import Told, tell
from pytest_llmdeploy.load.questions import Questions
from pytest_llmdeploy.load.schedule import arrivals
from pytest_llmdeploy.load.spec import Target, WorkerSpec
from pytest_llmdeploy.redaction import Redactor
from pytest_llmdeploy.verdicts.histogram import Histogram

LONGEST_DETAIL = 200
"""Characters of a failure's text in the ledger."""
OK_STATUS = 200
LAG_INTERVAL = 0.02
"""Seconds between two looks at how late the loop wakes up."""
Ended = Callable[[Record], None]


class Generator:
    """The load generator of one process."""

    def __init__(self, spec: WorkerSpec, start: float) -> None:
        """`start` is the run's zero on time.monotonic."""
        self.spec = spec
        self.traffic = spec.traffic
        self.start = start
        self._cpu = Cpu()
        self.intended = 0
        self.sent = 0
        self.stopped: str | None = None
        """Why the run ended before its time."""
        self.notes: list[str] = []
        """What a reader of the results should know."""
        self.dispatch_lag = Histogram()
        self.loop_lag = Histogram()
        self.gaps = Histogram()
        """Seconds between pieces of content, of the requests that are judged."""
        self.token_gaps = Histogram()
        """The same by token, as far as usage tells how many tokens there were."""
        self.classes: Counter[str] = Counter()
        self.tokens = 0
        """Completion tokens that count for the cap; without usage those that were asked for."""
        self.ttft = Histogram()
        """Since the last progress report."""
        self.outcomes: list[Told] = []
        """Of requests that have ended since then, where the spec wants them told."""
        objectives = self.traffic.parsed_objectives()
        self.counts = Counts(objectives, self.traffic.good, self.traffic.warmup)
        self._gap_limits = [each.limit for each in objectives if each.metric == "itl"]
        self.on_end: Ended = lambda _record: None
        """Hears of every request that has ended."""
        self._ledger = LedgerWriter(Path(spec.ledger))
        self._redact = Redactor(spec.secrets)
        self._questions = Questions(self.traffic)
        timeouts = self.traffic.timeouts
        connect = min(timeouts.connect, timeouts.total)
        self._lines = [Line(target, connect) for target in self.traffic.targets]
        self._pool = gevent.pool.Pool()
        self._over = gevent.event.Event()
        """Nothing more is begun."""
        self._stop = gevent.event.Event()
        """What is open is given up, too."""
        self._finished_at: float | None = None
        self._cut = EndClass.CANCELLED
        # The remainder goes to the first processes, so that no share is lost.
        share, rest = divmod(self.traffic.max_in_flight, spec.count)
        self._most_open = max(1, share + (spec.index < rest))

    def note_event(self, record: Record, end: EndClass, detail: str | None) -> None:
        """Take a request that somebody else sent, when it has ended."""
        foreign = ("name", "version")
        record |= {key: self._redact(record[key]) for key in foreign if key in record}
        self.intended += 1
        self.sent += 1
        self._record(record, end, detail)

    @property
    def in_flight(self) -> int:
        """Requests that have begun and not ended."""
        return self.intended - self.ended

    @property
    def ended(self) -> int:
        """Requests in the ledger."""
        return self._ledger.written

    def now(self) -> float:
        """Return the seconds since the run's start."""
        return time.monotonic() - self.start

    @property
    def is_over(self) -> bool:
        """Nothing more is begun."""
        return bool(self._over.is_set())

    @property
    def cpu(self) -> float:
        """Share of one core that this process used in its busiest stretch until the drain."""
        return self._cpu.share

    def flush(self) -> None:
        """See to it that what has ended is in the ledger's file, should this process be killed."""
        self._ledger.flush()

    def stop(self, why: str) -> None:
        """Intend nothing more, and give up what is open."""
        if self.stopped is None:
            self.stopped = why
            self._over.set()
            self._stop.set()

    def finish(self) -> None:
        """Intend nothing more, and let what is open come to its end."""
        if self._finished_at is None:
            self._finished_at = self.now()
            self._over.set()

    def numbers(self) -> Iterator[int]:
        """Yield the numbers of this process's requests or conversations."""
        return itertools.count(self.spec.index, self.spec.count)

    def run_schedule(self) -> None:
        """Send every arrival of this process's share at its time."""
        for number, at in enumerate(arrivals(self.traffic)):
            if number % self.spec.count != self.spec.index:
                continue
            if self._wait_until(at):
                return
            self.dispatch_lag.add(max(self.now() - at, 0.0))
            self._begin(number, at)

    def run_user(self, numbers: Iterator[int]) -> None:
        """Ask one question after the other until the traffic's time is over."""
        traffic = self.traffic
        while self.now() < traffic.duration and not self._over.is_set():
            self.intended += 1
            job = self._pool.spawn(self._converse, next(numbers), self.now())
            left = max(traffic.duration - self.now(), 0.0)
            gevent.wait([job, self._over], timeout=left, count=1)
            if not job.ready() or not self._think():
                return  # what is open is the drain's

    def drain(self) -> None:
        """Wait for what is open, then cut it; close the ledger."""
        self._cpu.end()
        ended = self._finished_at
        deadline = (self.traffic.traffic_duration if ended is None else ended) + self.traffic.drain
        while self._pool and not self._stop.is_set():
            if (left := deadline - self.now()) <= 0:
                self._cut = EndClass.IN_FLIGHT
                break
            gevent.wait([*list(self._pool)[:1], self._stop], timeout=left, count=1)
        gevent.sleep(0)  # one killed before its first step could not record itself
        self._pool.kill()
        self._ledger.close()

    def watch_loop(self) -> None:
        """Record for ever how late the loop wakes a sleeper, and what that takes."""
        self._cpu.begin()
        while True:
            due = time.monotonic() + LAG_INTERVAL
            gevent.sleep(LAG_INTERVAL)
            lag = max(time.monotonic() - due, 0.0)
            self.loop_lag.add(lag)
            while (lag := lag - LAG_INTERVAL) > 0:
                self.loop_lag.add(lag)  # of those that would have slept meanwhile
            self._cpu.look()

    def _wait_until(self, at: float) -> bool:
        """Return at the moment `at`, with true where the run was stopped before."""
        left = at - self.now()
        return bool(self._over.wait(left) if left > 0 else self._over.is_set())

    def _think(self) -> bool:
        """Wait before the next question; return whether there will be one."""
        pause = self.traffic.think_time
        if self.now() + pause >= self.traffic.traffic_duration:
            return False
        return not self._over.wait(pause)

    def _begin(self, number: int, at: float) -> None:
        if self._has_room(number, 0, at):
            self._pool.spawn(self._converse, number, at)

    def _has_room(self, number: int, turn: int, at: float) -> bool:
        """Intend a request; record it as dropped where no more may be open."""
        self.intended += 1
        if self.in_flight <= self._most_open or not self.traffic.open_loop:
            return True
        question = self._questions.question(number, turn)
        record = self._questions.record(question, number, turn, at)
        self._record(record, EndClass.DROPPED, f"{self._most_open} requests were open")
        return False

    def _converse(self, number: int, at: float) -> None:
        """Ask the questions of one conversation, one after the other."""
        before: list[Mapping[str, Any]] = []
        said = self._ask(number, 0, at, before)
        for turn in range(1, self.traffic.turns):
            if said is None or not self._think():
                return
            before.append({"role": "assistant", "content": said})
            at = self.now()
            if not self._has_room(number, turn, at):
                return
            said = self._ask(number, turn, at, before)

    def _ask(
        self, number: int, turn: int, at: float, before: list[Mapping[str, Any]]
    ) -> str | None:
        """Ask one question; return the answer's text where it is whole."""
        question = self._questions.question(number, turn)
        line = self._lines[self.traffic.target_at(at)]
        answer = Answer(stream=question.stream, keep_text=self.traffic.turns > 1)
        record = self._questions.record(question, number, turn, at)
        fresh = question.client != "keep_alive"
        request = line.request(
            self._questions.body(question, before, line.target.model),
            close=question.client == "new_connection",
        )
        before += question.messages
        connection: Connection | None = None
        whole = False
        try:
            begun = time.monotonic()
            connection = line.take(fresh=fresh)
            # A new connection's handshakes are part of what its request costs.
            sent = begun if connection.exchanges == 0 else time.monotonic()
            record["sent"] = round(sent - self.start, 6)
            self.sent += 1
            connection.exchange(request, answer, self.traffic.timeouts, sent)
            end, detail = answer.verdict()
            whole = True
        except gevent.GreenletExit:
            end, detail = self._cut, self.stopped
        except ExchangeError as error:
            end, detail = error.end, error.detail
            if answer.status not in (None, 200):
                end, detail = answer.verdict()  # an error's body may break off
        except OwnLimitError as error:
            self.stop(f"the generator's machine gives no more connections: {error}")
            end, detail = EndClass.CANCELLED, self.stopped
        except Exception as error:  # noqa: BLE001 - a request that vanished would be the worst
            end, detail = EndClass.MALFORMED, f"{type(error).__name__}: {error}"
        self._note(record, answer)
        if answer.completion_tokens is not None:
            self.tokens += answer.completion_tokens
        elif answer.status == OK_STATUS and (answer.chunks or not question.stream):
            self.tokens += question.max_tokens
        if connection is not None:
            self._note_headers(record, connection, line.target)
        self._record(record, end, detail, answer.ended if end is EndClass.OK else None)
        if is_judged(record, self.traffic.warmup):
            for gap in answer.gaps:
                self.gaps.add(gap)
            for gap in answer.token_gaps():
                self.token_gaps.add(gap)
        if connection is not None:
            line.give(connection, keep=whole and not fresh)
        return "".join(answer.text or ()) if end is EndClass.OK else None

    def _note_headers(self, record: Record, connection: Connection, target: Target) -> None:
        """Put into the record what the answer's headers say about who answered."""
        for key, name in (("version", target.version_header), ("color", target.color_header)):
            if name and (value := self._redact(connection.header(name))):
                record[key] = value

    def _note(self, record: Record, answer: Answer) -> None:
        """Put what was seen of the answer into its record."""
        start = self.start
        times = {"reason": answer.reason, "first": answer.first, "last": answer.last}
        record |= rounded({k: None if t is None else t - start for k, t in times.items()})
        known = {
            "status": answer.status,
            "tokens": answer.completion_tokens,
            "prompt_tokens": answer.prompt_tokens,
            "cached_tokens": answer.cached_tokens,
        }
        record |= {name: value for name, value in known.items() if value is not None}
        if not answer.chunks:
            return
        record["chunks"] = answer.chunks
        if gaps := answer.gaps:
            record |= {
                "gaps": len(gaps),
                "gap": round(max(gaps), 6),
                "gap_mean": round(sum(gaps) / len(gaps), 6),
            }
            if limits := self._gap_limits:
                record["over"] = {repr(limit): sum(gap > limit for gap in gaps) for limit in limits}

    def _record(
        self, record: Record, end: EndClass, detail: str | None, ended: float | None = None
    ) -> None:
        """Write a request that has ended, at `ended` on time.monotonic or just now."""
        now = time.monotonic()
        record["end"] = round((now if ended is None else ended) - self.start, 6)
        record["class"] = str(end)
        if detail:
            record["detail"] = self._redact(detail)[:LONGEST_DETAIL]
        self.classes[str(end)] += 1
        if end is EndClass.OK and "first" in record:
            self.ttft.add(max(record["first"] - record["at"], 0.0))
        self.counts.add(record)
        self._ledger.write(record, now)
        if self.traffic.outcomes:
            self.outcomes.append(tell(record))
        self.on_end(record)
        if why := self.traffic.cap_reached(self.tokens):
            self.stop(why)
