"""The processes of a load run: what each asks, what becomes of them, and what that costs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_llmdeploy.errors import NotMeasuredError
from pytest_llmdeploy.load import controller, worker
from pytest_llmdeploy.load.controller import Progress, run_traffic
from pytest_llmdeploy.load.ledger import Record, read_ledger
from pytest_llmdeploy.load.questions import Questions
from pytest_llmdeploy.load.selfcheck import mock_server
from pytest_llmdeploy.load.spec import Target, TrafficSpec
from tests.contract.conftest import wait_until
from tests.contract.traffic import (
    CHAT,
    HALF,
    WHOLE,
    Sent,
    body_of,
    make_pipes_small,
    send,
    stream,
    traffic,
)
from tests.raw_server import RawServer

FIRST = "load generator process 1 of 1"
END_TIMEOUT = 30.0
"""Seconds until a process that must end has ended."""


def fine() -> RawServer:
    """Return a server that answers well."""
    return RawServer(lambda _request, _number: stream(*WHOLE))


def children(pid: int) -> list[int]:
    """Return the processes that a process has started and that live."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


def runners(pid: int = 0) -> list[int]:
    """Return the load generator processes of a process, in the order of their start."""
    found = []
    for child in children(pid or os.getpid()):
        try:
            line = Path(f"/proc/{child}/cmdline").read_bytes()
        except OSError:
            continue
        if b"pytest_llmdeploy.load.runner" in line:
            found.append(child)
    return sorted(found)


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Meddler:
    """Watches a run and does something to its processes once, when some requests were sent."""

    def __init__(self, meddle: Callable[[list[int]], None], after: int = 5) -> None:
        self.pids: list[int] = []
        self._meddle = meddle
        self._after = after

    def __call__(self, progress: Progress) -> None:
        if not self.pids and progress.sent >= self._after:
            self.pids = runners()
            self._meddle(self.pids)


def signalled(number: signal.Signals, *places: int) -> Callable[[list[int]], None]:
    def meddle(pids: list[int]) -> None:
        for place in places:
            os.kill(pids[place], number)

    return meddle


# Shares


@pytest.mark.parametrize("kind", ["arrivals", "poisson", "conversations", "users"])
def test_the_requests_are_the_same_for_any_number_of_processes(tmp_path: Path, kind: str) -> None:
    kinds: dict[str, dict[str, Any]] = {
        "arrivals": {"output_tokens": (1, 99), "streamed": 1.0},
        "poisson": {"arrivals": "poisson"},
        "conversations": {"turns": 2, "rest": 20.0},
        "users": {"steps": (), "users": 3, "duration": 0.4, "think_time": 0.1},
    }
    asked: list[Counter[str]] = []
    arrivals: list[list[tuple[int, float]]] = []
    for processes in (1, 2, 3) if kind == "arrivals" else (1, 3):
        with fine() as server:
            spec = traffic(server.url, 40, **kinds[kind])
            sent = send(spec, tmp_path, processes=processes)
        assert set(sent.classes) == {"ok"}
        assert sent.result.processes == processes
        assert sent.result.lost == ()
        asked.append(Counter(json.dumps(body_of(each)) for each in server.requests))
        arrivals.append(sorted((r["i"], r["at"]) for r in sent.records if not r.get("turn")))
        if kind == "users":
            # How often users ask depends on the answers' times; what they ask does not.
            questions = Questions(spec)
            numbers = [record["i"] for record in sent.records]
            bodies = [questions.body(questions.question(i), (), "m") for i in numbers]
            assert asked.pop() == Counter(map(json.dumps, bodies))
            assert {i % processes for i in numbers} == set(range(processes))
    if kind == "users":
        return
    assert all(bodies == asked[0] for bodies in asked)
    assert all(times == arrivals[0] for times in arrivals)
    assert [i for i, _ in arrivals[0]] == list(range(40))


def test_shares_of_what_may_be_open(tmp_path: Path) -> None:
    with RawServer(lambda _request, _number: HALF) as server:
        spec = traffic(server.url, 20, max_in_flight=5, drain=1.0)
        sent = send(spec, tmp_path, processes=2)
    assert sent.classes == {"in_flight": 5, "dropped": 15}


def test_fewer_users_than_processes(tmp_path: Path) -> None:
    with fine() as server:
        spec = traffic(server.url, 0, steps=(), users=1, duration=0.3)
        sent = send(spec, tmp_path, processes=2)
    assert set(sent.classes) == {"ok"}
    assert {record["i"] % 2 for record in sent.records} == {0}


def test_a_spec_larger_than_a_pipe(tmp_path: Path) -> None:
    prompts = tuple(f"{number} " + "word " * 5000 for number in range(40))
    with fine() as server:
        sent = send(traffic(server.url, 40, prompts=prompts), tmp_path, processes=2)
    assert sent.classes == {"ok": 40}
    asked = {body_of(request)["messages"][0]["content"] for request in server.requests}
    assert asked == set(prompts)


# Losses


def lost_run(spec: TrafficSpec, tmp_path: Path, meddler: Meddler, processes: int) -> Sent:
    """Send; see that the run counts as none, and that nothing of it is left."""
    sent = send(spec, tmp_path, processes=processes, watch=meddler)
    assert meddler.pids, "nothing was done to it"
    assert not any(lives(pid) for pid in meddler.pids)
    assert sent.result.lost
    with pytest.raises(NotMeasuredError) as caught:
        sent.result.check_complete()
    assert str(caught.value) == "; ".join(sent.result.lost)
    return sent


def by_process(records: Iterable[Record], count: int) -> list[Counter[str]]:
    """Return the classes of each process's requests."""
    found: list[Counter[str]] = [Counter() for _ in range(count)]
    for record in records:
        found[record["i"] % count][record["class"]] += 1
    return found


def test_one_of_two_processes_is_killed(tmp_path: Path) -> None:
    meddler = Meddler(signalled(signal.SIGKILL, 0))
    with RawServer(lambda _request, _number: HALF) as server:
        sent = lost_run(traffic(server.url, 2000, rate=20.0), tmp_path, meddler, 2)
    (text,) = sent.result.lost
    assert text in {
        f"load generator process {place} of 2 was lost: killed by SIGKILL" for place in (1, 2)
    }
    place = int(text.split()[3]) - 1
    found = by_process(sent.records, 2)
    assert set(found[place]) == {"worker_lost"}
    assert set(found[1 - place]) == {"cancelled"}
    assert sent.result.stopped == "a load generator process was lost"
    assert 5 <= sum(map(Counter.total, found)) == sent.result.intended < 2000
    for share in range(2):
        numbers = sorted(record["i"] for record in sent.records if record["i"] % 2 == share)
        assert numbers == list(range(share, 2 * len(numbers), 2)), "none was left out"


def test_what_a_killed_process_had_answered_is_not_lost(tmp_path: Path) -> None:
    def kill(pids: list[int]) -> None:
        os.kill(pids[0], signal.SIGKILL)

    with fine() as server:
        spec = traffic(server.url, 2000, rate=20.0)
        sent = lost_run(spec, tmp_path, Meddler(kill, after=60), 1)
    assert sent.classes["ok"] >= 20, "the ledger is flushed each second"
    assert set(sent.classes) <= {"ok", "worker_lost"}
    assert sorted(record["i"] for record in sent.records) == list(range(len(sent.records)))
    assert sent.result.lost == (f"{FIRST} was lost: killed by SIGKILL",)


def test_users_of_a_killed_process(tmp_path: Path) -> None:
    meddler = Meddler(signalled(signal.SIGKILL, 0))
    with RawServer(lambda _request, _number: HALF) as server:
        spec = traffic(server.url, 0, steps=(), users=6, duration=60.0)
        sent = lost_run(spec, tmp_path, meddler, 1)
    assert sent.classes == {"worker_lost": 6}
    assert sorted(record["i"] for record in sent.records) == list(range(6))


def test_a_process_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controller, "SILENCE", 2.0)
    monkeypatch.setattr(worker, "STOP_TIMEOUT", 0.5)
    meddler = Meddler(signalled(signal.SIGSTOP, 0))
    with RawServer(lambda _request, _number: HALF) as server:
        sent = lost_run(traffic(server.url, 2000, rate=20.0), tmp_path, meddler, 1)
    assert sent.result.lost == (
        f"{FIRST} was lost: killed by SIGKILL",
        f"{FIRST} has said nothing for 2 s",
    )
    assert set(sent.classes) == {"worker_lost"}


def test_a_process_that_does_not_come_to_an_end_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(controller, "OVERTIME", -19.0)
    with RawServer(lambda _request, _number: HALF) as server:
        sent = send(traffic(server.url, 10, drain=20.0), tmp_path)
    assert sent.result.lost == ("the load generator did not end within 1 s",)
    assert sent.classes == {"cancelled": 10}


def test_sigterm_ends_a_run_in_order(tmp_path: Path) -> None:
    meddler = Meddler(signalled(signal.SIGTERM, 1))
    with RawServer(lambda _request, _number: HALF) as server:
        spec = traffic(server.url, 2000, rate=20.0)
        sent = send(spec, tmp_path, processes=2, watch=meddler)
    assert not any(lives(pid) for pid in meddler.pids)
    assert (sent.result.stopped, sent.result.lost) == ("SIGTERM", ())
    assert set(sent.classes) == {"cancelled"}
    assert 5 <= len(sent.records) < 2000
    assert {record["detail"] for record in sent.records} == {"SIGTERM"}


LOCUSTFILE = """
import os, sys
from pathlib import Path
import locust

class Asker(locust.FastHttpUser):
    @locust.task
    def ask(self):
        self.client.get("/")
        locust.runners.gevent.sleep(0.05)

"""
NO_RESULT = """
@locust.events.quitting.add_listener
def leave(**_):
    os._exit(0)
"""
BROKEN_RESULT = """
replace = Path.replace

def broken(self, target):
    if self.suffix == ".partial":
        self.write_text('{"intended": 1')
    return replace(self, target)

Path.replace = broken
"""
STARTS = """
import subprocess
Path("{folder}/pid").write_text(str(subprocess.Popen(["sleep", "600"]).pid))
"""
RAISES = """
raise RuntimeError("no such setting")
"""


def locusts(url: str, path: Path, more: str) -> TrafficSpec:
    """Return the traffic of a locustfile."""
    path.write_text(LOCUSTFILE + more, encoding="utf-8")
    return traffic(
        url, 0, steps=(), users=1, duration=1.0, drain=5.0, locustfile=str(path), host=url
    )


def test_a_process_that_leaves_without_a_result_is_lost(tmp_path: Path) -> None:
    with fine() as server:
        spec = locusts(server.url, tmp_path / "locustfile.py", NO_RESULT)
        sent = send(spec, tmp_path)
    (text,) = sent.result.lost
    assert text.startswith(f"{FIRST} was lost: no result can be read ([Errno 2] No such file")


def test_a_result_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    with fine() as server:
        spec = locusts(server.url, tmp_path / "locustfile.py", BROKEN_RESULT)
        sent = send(spec, tmp_path)
    (text,) = sent.result.lost
    assert text.startswith(f"{FIRST} was lost: no result can be read (Expecting ")
    assert sent.classes, "what it recorded is in the ledger"


def test_what_a_process_has_started_does_not_outlive_it(tmp_path: Path) -> None:
    with fine() as server:
        spec = locusts(server.url, tmp_path / "locustfile.py", STARTS.format(folder=tmp_path))
        sent = send(spec, tmp_path)
    assert sent.result.lost == ()
    pid = int((tmp_path / "pid").read_text())
    wait_until(lambda: not lives(pid), END_TIMEOUT)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_process_that_does_not_start_says_why(tmp_path: Path, processes: int) -> None:
    spec = locusts("http://127.0.0.1:9", tmp_path / "locustfile.py", RAISES)
    with pytest.raises(NotMeasuredError) as caught:
        run_traffic(spec, tmp_path / "run", processes=processes)
    assert str(caught.value) == ("a load generator did not start: RuntimeError: no such setting")
    assert runners() == []


def test_a_process_that_cannot_go_on_says_why(tmp_path: Path) -> None:
    target = Target("https://127.0.0.1:9" + CHAT, {}, "m", ca_file="/nowhere/authority.pem")
    sent = send(traffic("", 3, targets=(target,)), tmp_path)
    (text,) = sent.result.lost
    assert text == (
        f"{FIRST} was lost: exit code 1 (FileNotFoundError: [Errno 2] No such file or directory)"
    )


def test_a_watch_that_raises_leaves_nothing_behind(tmp_path: Path) -> None:
    pids: list[int] = []

    def watch(progress: Progress) -> str | None:
        pids[:] = pids or runners()
        if progress.sent:
            raise KeyboardInterrupt
        return None

    with RawServer(lambda _request, _number: HALF) as server, pytest.raises(KeyboardInterrupt):
        run_traffic(
            traffic(server.url, 2000, rate=20.0), tmp_path / "run", watch=watch, processes=2
        )
    assert len(pids) == 2
    assert not any(lives(pid) for pid in pids)


# An owner of its own


OWNER = """
import resource, sys
from pathlib import Path
from pytest_llmdeploy.load.controller import run_traffic
from pytest_llmdeploy.load.ledger import read_ledger
from pytest_llmdeploy.load.spec import Step, Target, TrafficSpec

url, folder, number, files = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
if files:
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
result = run_traffic(
    TrafficSpec(
        targets=(Target(url, {}, "m"),),
        steps=(Step(100, 100, number / 100),),
        arrivals="constant",
    ),
    folder,
)
print(sum(record["class"] == "ok" for record in read_ledger(result.ledger)))
print(result.stopped)
print([name for name in ("gevent", "locust", "geventhttpclient") if name in sys.modules])
"""


def owner(url: str, tmp_path: Path, number: int, files: int = 0) -> subprocess.Popen[str]:
    """Start a process that sends traffic."""
    arguments = [url + CHAT, str(tmp_path / "owned"), str(number), str(files)]
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(OWNER), *arguments],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
        text=True,
    )


def test_the_owner_does_not_import_what_patches_sockets(tmp_path: Path) -> None:
    with fine() as server:
        process = owner(server.url, tmp_path, 10)
        out, _ = process.communicate(timeout=60)
    assert out.splitlines() == ["10", "None", "[]"]


def test_a_machine_without_more_sockets_is_no_failure_of_the_service(tmp_path: Path) -> None:
    with RawServer(lambda _request, _number: HALF) as server:
        process = owner(server.url, tmp_path, 200, files=64)
        out, _ = process.communicate(timeout=60)
    ok, stopped, _ = out.splitlines()
    assert (ok, stopped) == (
        "0",
        "the generator's machine gives no more connections: Too many open files",
    )
    classes = Counter(r["class"] for r in read_ledger(tmp_path / "owned/ledger.jsonl.zst"))
    assert set(classes) == {"cancelled"}


def test_processes_do_not_outlive_their_owner(tmp_path: Path) -> None:
    with RawServer(lambda _request, _number: HALF) as server:
        process = owner(server.url, tmp_path, 6000)
        try:
            wait_until(lambda: len(server.requests) >= 5, END_TIMEOUT)
            (runner,) = runners(process.pid)
            process.kill()
            process.wait(END_TIMEOUT)
            wait_until(lambda: not lives(runner), END_TIMEOUT)
        finally:
            process.kill()
            process.communicate()


def test_an_owner_that_does_not_listen_holds_nothing_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_pipes_small(monkeypatch)
    objectives = tuple(f"ttft_p{share} <= 9" for share in range(50, 95))
    with fine() as server:

        def watch(progress: Progress) -> None:
            if progress.sent:
                wait_until(lambda: len(server.requests) >= 600, END_TIMEOUT)

        spec = traffic(server.url, 700, rate=200.0, objectives=objectives)
        sent = send(spec, tmp_path, watch=watch)
    assert sent.classes == {"ok": 700}
    assert sent.result.lost == ()


# Costs


def test_memory_and_descriptors_do_not_grow_with_the_requests(tmp_path: Path) -> None:
    latest: list[dict[str, Any]] = []
    hear = worker.Worker.hear

    def tapped(self: worker.Worker, piece: bytes) -> None:
        hear(self, piece)
        if self.latest and (not latest or self.latest is not latest[-1]):
            latest.append(self.latest)

    with pytest.MonkeyPatch.context() as patch, mock_server(2) as url:
        patch.setattr(worker.Worker, "hear", tapped)
        spec = traffic("", 2500, rate=500.0, targets=(Target(f"{url}/chat/completions", {}, "m"),))
        sent = send(replace(spec, output_tokens=(2, 2)), tmp_path)
    assert sent.classes == {"ok": 2500}
    middle = [each for each in latest if each["ended"] >= 500]
    assert middle[0]["ended"] < 1500 < 2500 == middle[-1]["ended"]
    grown = middle[-1]["memory_mb"] - middle[0]["memory_mb"]
    assert grown < 15, f"{grown} MB in {middle[-1]['ended'] - middle[0]['ended']} requests"
    assert middle[-1]["files"] - middle[0]["files"] < 50


def test_the_owner_keeps_no_descriptor(tmp_path: Path) -> None:
    with fine() as server:
        send(traffic(server.url, 2), tmp_path)
        before = open_files()
        send(traffic(server.url, 2), tmp_path, processes=2)
        wait_until(lambda: open_files() <= before, END_TIMEOUT)


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
