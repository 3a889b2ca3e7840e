"""What a run's ledger says of requests that nobody saw to their end, and when a run is over."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from pytest_llmdeploy.load import accounting
from pytest_llmdeploy.load.controller import Progress
from pytest_llmdeploy.load.questions import Questions
from pytest_llmdeploy.load.schedule import expected_arrivals
from pytest_llmdeploy.load.spec import Target, Timeouts, TrafficSpec
from tests.contract.test_load_processes import runners
from tests.contract.traffic import (
    CHAT,
    CHUNKED,
    DONE,
    HI,
    LAST_CHUNK,
    ROLE,
    STOP,
    WHOLE,
    body_of,
    chunk,
    send,
    stream,
    traffic,
)
from tests.raw_server import FOREVER, Piece, RawServer, Then, as_json, completion

OPEN: list[Piece] = [CHUNKED, chunk(ROLE), chunk(HI), FOREVER]
USERS: dict[str, Any] = {"steps": (), "duration": 60.0}
DURATION = 60.0
"""Seconds of traffic in runs that end before it is over."""


def talkative(request: bytes, _number: int) -> Iterable[Piece]:
    """Answer the first question of a conversation, and no other to its end."""
    return stream(*WHOLE) if len(body_of(request)["messages"]) == 1 else OPEN


class Killer:
    """Kills the first process once so many requests were begun and have ended."""

    def __init__(self, begun: int, ended: int) -> None:
        self._begun = begun
        self._ended = ended
        self.pids: list[int] = []

    def __call__(self, progress: Progress) -> None:
        if not self.pids and progress.intended >= self._begun and progress.ended >= self._ended:
            self.pids = runners()
            os.kill(self.pids[0], signal.SIGKILL)


# Lost processes


def test_later_questions_of_a_killed_process_are_lost_too(tmp_path: Path) -> None:
    killer = Killer(10, 5)
    with RawServer(talkative) as server:
        spec = traffic(server.url, 600, rate=10.0, turns=3)
        sent = send(spec, tmp_path, watch=killer)
    found = {(record["i"], record["turn"]): record["class"] for record in sent.records}
    answered = {number for (number, turn), end in found.items() if (turn, end) == (0, "ok")}
    assert len(answered) >= 5, "what was reported as ended is in the ledger"
    assert {number for number, turn in found if turn} == answered
    assert {found[number, 1] for number in answered} == {"worker_lost"}
    first = sorted(number for number, turn in found if not turn)
    assert first == list(range(len(first)))


def test_questions_of_users_of_a_killed_process_are_lost_each_once(tmp_path: Path) -> None:
    killer = Killer(8, 4)
    with RawServer(talkative) as server:
        spec = traffic(server.url, 0, **USERS, users=4, turns=2)
        sent = send(spec, tmp_path, watch=killer)
    found = {(record["i"], record["turn"]): record["class"] for record in sent.records}
    assert found == {
        **{(number, 0): "ok" for number in range(4)},
        **{(number, 1): "worker_lost" for number in range(4)},
    }


def test_a_killed_process_has_lost_no_more_than_its_users_had_asked(tmp_path: Path) -> None:
    def quick(_request: bytes, _number: int) -> Iterable[Piece]:
        return [0.02, *stream(*WHOLE)]

    with RawServer(quick) as server:
        spec = traffic(server.url, 0, **USERS, users=3)
        sent = send(spec, tmp_path, watch=Killer(40, 30))
    assert sent.classes["ok"] >= 30
    assert set(sent.classes) <= {"ok", "worker_lost"}
    assert sent.classes["worker_lost"] <= 3


def test_what_was_never_sent_is_told_as_what_was(tmp_path: Path) -> None:
    """A metric of streams, or of one of two versions, must know which requests it is about."""
    with RawServer(lambda _request, _number: OPEN) as server:
        targets = (Target(server.url + CHAT, {}, "m"),) * 2
        spec = traffic(
            server.url,
            40,
            targets=targets,
            block=0.1,
            streamed=0.5,
            max_in_flight=2,
            drain=0.0,
            clients={"keep_alive": 1, "new_connection": 1},
        )
        dropped = send(spec, tmp_path).of("dropped")
        lost = send(
            traffic(server.url, 600, rate=10.0, targets=targets, block=0.1, streamed=0.5),
            tmp_path,
            watch=Killer(5, 0),
        ).of("worker_lost")
    assert (len(dropped), len(lost) >= 5) == (38, True)
    questions = Questions(spec)
    for record in [*dropped, *lost]:
        assert record["stream"] is questions.question(record["i"]).stream
        assert record["target"] == spec.target_at(record["at"])
    assert {record["client"] for record in dropped} == {"keep_alive", "new_connection"}


def test_a_ledger_that_lacks_arrivals_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def one_more(spec: TrafficSpec) -> int:
        return expected_arrivals(spec) + 1

    monkeypatch.setattr(accounting, "expected_arrivals", one_more)
    with RawServer(lambda _request, _number: stream(*WHOLE)) as server:
        sent = send(traffic(server.url, 10), tmp_path)
        assert sent.result.lost == ("the ledger has 10 of 11 arrivals",)
        users = traffic(server.url, 0, steps=(), users=1, duration=0.2)
        assert send(users, tmp_path).result.lost == (), "users have no schedule"


# Ends


@pytest.mark.parametrize("kind", ["arrivals", "conversations", "users"])
@pytest.mark.parametrize("processes", [1, 2])
def test_traffic_that_is_finished_lets_what_is_open_end(
    tmp_path: Path, kind: str, processes: int
) -> None:
    kinds: dict[str, dict[str, Any]] = {
        "arrivals": {},
        "conversations": {"turns": 3},
        "users": {"steps": (), "users": 4, "duration": DURATION},
    }
    moments: list[float] = []

    def slow(_request: bytes, _number: int) -> Iterable[Piece]:
        return [CHUNKED, chunk(ROLE), chunk(HI), 1.0, *map(chunk, (HI, STOP, DONE)), LAST_CHUNK]

    def watch(progress: Progress) -> None:
        if progress.intended >= 4 and progress.in_flight and not moments:
            moments.append(time.monotonic())

    with RawServer(slow) as server:
        number = 0 if kind == "users" else 600
        spec = traffic(server.url, number, rate=10.0, **kinds[kind])
        begun = time.monotonic()
        sent = send(spec, tmp_path, processes=processes, watch=watch, finish=lambda: bool(moments))
    assert time.monotonic() - begun < DURATION / 2
    assert (sent.result.stopped, sent.result.lost) == (None, ())
    assert sent.classes == {"ok": len(sent.records)}, "nothing was cut, and nothing is missing"
    told = moments[0] - sent.result.zero
    assert max(record["at"] for record in sent.records) < told + 0.5, "nothing was begun after it"
    assert any(record["end"] > told for record in sent.records)
    if kind == "arrivals":
        numbers = sorted(record["i"] for record in sent.records)
        assert numbers == list(range(len(numbers))), "none of those before it was left out"


def test_a_locustfile_is_finished_too(tmp_path: Path) -> None:
    path = tmp_path / "locustfile.py"
    path.write_text(ASKS, encoding="utf-8")
    seen: list[int] = []

    def watch(progress: Progress) -> None:
        if progress.ended:
            seen.append(progress.ended)

    with RawServer(lambda _request, _number: [as_json(completion())]) as server:
        spec = locusts(server.url, path, DURATION)
        begun = time.monotonic()
        sent = send(spec, tmp_path, watch=watch, finish=lambda: bool(seen))
    assert time.monotonic() - begun < DURATION / 2
    assert set(sent.classes) == {"ok"}
    assert sent.result.stopped is None


def test_a_conversation_ends_with_the_traffic(tmp_path: Path) -> None:
    with RawServer(lambda _request, _number: [0.05, *stream(*WHOLE)]) as server:
        spec = traffic(server.url, 5, rate=5.0, turns=100)
        sent = send(spec, tmp_path)
    assert sent.classes == {"ok": len(sent.records)}
    assert max(record["turn"] for record in sent.records) > 0
    assert max(record["at"] for record in sent.records) < 1.0
    assert sent.result.duration < 15, "not when the drain is over, or all has been said"


@pytest.mark.parametrize("kind", ["users", "conversations"])
def test_thinking_does_not_outlast_the_traffic(tmp_path: Path, kind: str) -> None:
    more: dict[str, Any] = {"steps": (), "users": 2, "duration": 0.5}
    if kind == "conversations":
        more = {"turns": 3}
    with RawServer(lambda _request, _number: stream(*WHOLE)) as server:
        begun = time.monotonic()
        number = 0 if kind == "users" else 5
        spec = traffic(server.url, number, rate=10.0, think_time=DURATION, **more)
        sent = send(spec, tmp_path)
    assert time.monotonic() - begun < DURATION / 2
    assert set(sent.classes) == {"ok"}


def test_later_questions_are_dropped_where_no_more_may_be_open(tmp_path: Path) -> None:
    with RawServer(talkative) as server:
        spec = traffic(
            server.url,
            4,
            rate=5.0,
            rest=20.0,
            turns=2,
            think_time=1.5,
            max_in_flight=2,
            timeouts=Timeouts(idle=5.0),
        )
        sent = send(spec, tmp_path)
    found = Counter((record["turn"], record["class"]) for record in sent.records)
    assert found == {(0, "ok"): 4, (1, "idle_timeout"): 2, (1, "dropped"): 2}
    assert {record["detail"] for record in sent.of("dropped")} == {"2 requests were open"}


# Caps


@pytest.mark.parametrize("streamed", [0.0, 1.0])
def test_an_answer_without_usage_counts_as_its_longest(tmp_path: Path, streamed: float) -> None:
    silent = completion()
    del silent["usage"]

    def respond(_request: bytes, _number: int) -> Iterable[Piece]:
        return stream(ROLE, HI, STOP, DONE) if streamed else [as_json(silent)]

    with RawServer(respond) as server:
        spec = traffic(
            server.url,
            600,
            rate=10.0,
            streamed=streamed,
            output_tokens=(50, 50),
            max_tokens_total=400,
        )
        sent = send(spec, tmp_path)
    assert sent.result.stopped == "the cap of 400 completion tokens was reached"
    assert sent.result.tokens == 400
    assert sent.classes["ok"] == 8


def test_what_fails_costs_no_tokens(tmp_path: Path) -> None:
    answer = as_json({}, "429 Too Many Requests")
    with RawServer(lambda _request, _number: [answer]) as server:
        sent = send(traffic(server.url, 20, max_tokens_total=1), tmp_path)
    assert (sent.classes, sent.result.stopped, sent.result.tokens) == ({"http_429": 20}, None, 0)


def test_the_cap_is_for_all_processes_however_they_share(tmp_path: Path) -> None:
    """The one user is the first process's; half of the cap is none."""
    with RawServer(lambda _request, _number: [0.02, *stream(*WHOLE)]) as server:
        spec = traffic(server.url, 0, **USERS, users=1, max_tokens_total=100)
        sent = send(spec, tmp_path, processes=2)
    assert sent.result.stopped == "the cap of 100 completion tokens was reached"
    assert sent.result.tokens == sum(record.get("tokens", 0) for record in sent.records) >= 100


# The process


ASKS = """
import locust
from locust import task

class Asker(locust.FastHttpUser):
    @task
    def ask(self):
        self.client.get("/")
        locust.runners.gevent.sleep(0.02)
"""
BLOCKS = """
import time
from locust import User, task

class Blocker(User):
    @task
    def block(self):
        until = time.perf_counter() + 1.5
        while time.perf_counter() < until:
            pass
        self.environment.runner.quit()
"""


def locusts(url: str, path: Path, duration: float) -> TrafficSpec:
    """Return the traffic of a locustfile with one user."""
    more: dict[str, Any] = {"steps": (), "users": 1, "locustfile": str(path), "host": url}
    return traffic(url, 0, **more, duration=duration, drain=5.0)


def test_a_loop_that_is_held_up_once_was_late_all_the_while(tmp_path: Path) -> None:
    """Of 3 s it stood still for 1.5: half of those who would have woken up were late."""
    path = tmp_path / "locustfile.py"
    path.write_text(BLOCKS, encoding="utf-8")
    sent = send(locusts("http://127.0.0.1:9", path, 3.0), tmp_path)
    late = sent.result.loop_lag.quantile(0.75)
    assert late is not None
    assert late > 0.4


def test_a_users_files_do_not_hide_what_the_generator_needs(tmp_path: Path) -> None:
    for name in ("locust", "gevent", "json", "asyncio"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('not this one')")
    with RawServer(lambda _request, _number: stream(*WHOLE)) as server:
        sent = send(traffic(server.url, 3), tmp_path, directory=tmp_path)
    assert sent.classes == {"ok": 3}


def test_a_locustfile_imports_what_lies_beside_it_and_in_the_projects_folder(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "load"
    folder.mkdir()
    (tmp_path / "ours.py").write_text("PATH = '/'", encoding="utf-8")
    (folder / "beside.py").write_text("from ours import PATH", encoding="utf-8")
    path = folder / "locustfile.py"
    text = ASKS.replace('"/"', "PATH").replace("import locust\n", "import locust, beside\n", 1)
    path.write_text(text.replace("PATH", "beside.PATH"), encoding="utf-8")
    with RawServer(lambda _request, _number: [as_json(completion())]) as server:
        sent = send(locusts(server.url, path, 0.5), tmp_path, directory=tmp_path)
    assert set(sent.classes) == {"ok"}


def test_gaps_are_those_of_the_requests_that_are_judged(tmp_path: Path) -> None:
    """Not those of the other version, nor of what was given up when the run was stopped."""

    def respond(request: bytes, number: int) -> Iterable[Piece]:
        if request.startswith(b"POST /other"):
            return stream(ROLE, *[HI] * 9, STOP, DONE)
        if number > 20:
            return [CHUNKED, *map(chunk, [ROLE, *[HI] * 99]), FOREVER]
        return stream(ROLE, HI, HI, STOP, DONE, then=Then.NEXT)

    def watch(progress: Progress) -> str | None:
        return "enough" if progress.in_flight >= 5 and progress.sent > 25 else None

    with RawServer(respond) as server:
        targets = tuple(Target(server.url + path, {}, "m") for path in ("/this", "/other"))
        spec = traffic(server.url, 600, rate=20.0, targets=targets, block=0.2)
        sent = send(spec, tmp_path, watch=watch)
    assert sent.classes["cancelled"]
    assert any(record.get("target") for record in sent.of("ok"))
    ours = [record for record in sent.of("ok") if not record["target"]]
    assert sent.result.gaps.total == sum(record["gaps"] for record in ours) == len(ours)
