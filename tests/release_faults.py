"""Releases on a real local fleet whose control plane fails where and when a test wants it.

Envoy, supervisor and replicas are real; a replica is a few lines of Python that start at once, and
the traffic is a thread of the test.
"""

from __future__ import annotations

import http.client
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from pytest_llmdeploy.assembly.fleets import make_fleet
from pytest_llmdeploy.assembly.release_parts import release_checks
from pytest_llmdeploy.config.loader import LoadedConfig, load_config
from pytest_llmdeploy.config.release import BlueGreenConfig
from pytest_llmdeploy.errors import LockedError
from pytest_llmdeploy.events import Measurement
from pytest_llmdeploy.platforms.local_fleet.fleet import LocalFleet
from pytest_llmdeploy.ports import (
    COLOR_HEADER,
    Fleet,
    RequestOutcome,
    Traffic,
    TrafficProgress,
)
from pytest_llmdeploy.release.blue_green import STEPS
from pytest_llmdeploy.release.conductor import Conductor
from pytest_llmdeploy.release.journal import Journal, read_entries, situation
from pytest_llmdeploy.release.record import FINAL, ReleaseResult, StepRecord
from pytest_llmdeploy.release.recovery import Recovery
from pytest_llmdeploy.release.state import Checks, Order, Release
from pytest_llmdeploy.verdicts import Verdict
from pytest_llmdeploy.waiting import wait_until

REPLICA = """
import json, os, signal, socket, sys, threading

body = json.dumps({"status": "ok", "color": os.environ["COLOR"]}).encode()
head = f"HTTP/1.1 200 OK\\r\\nx-llm-version: {os.environ['VERSION']}\\r\\n"
answer = head.encode() + b"content-length: %d\\r\\n\\r\\n" % len(body) + body

failure = answer.replace(b"200 OK", b"500 Bad")
every = int(os.environ.get("FAIL_EVERY", "0"))
spoilt = os.environ.get("FAIL_WHILE", "")
asked = 0

def serve(connection):
    global asked
    seen = b""
    while piece := connection.recv(65536):
        seen += piece
        while b"\\r\\n\\r\\n" in seen:
            request, _, seen = seen.partition(b"\\r\\n\\r\\n")
            work = request.startswith(b"GET /work")
            asked += work
            fails = os.path.exists(spoilt) or (every and asked % every == 0)
            connection.sendall(failure if work and fails else answer)

listener = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=128)
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"""
CONFIG = """
service: {name: app, version_header: x-llm-version}
environments:
  local:
    command: ["PYTHON", -I, -S, replica.py, "{port}"]
    stable_image: "app:1"
    stop_timeout: 3
    images:
      "app:1": {variables: {VERSION: "1"}}
      "app:2": {variables: {VERSION: "2"}}
      "app:3": {variables: {VERSION: "3"}}
health: {checks: [{name: health, path: /health}]}
blue_green:
  replicas: 2
  liveness: {path: /health, delay: 1, period: 0.5}
  readiness: {path: /ready, delay: 0, period: 0.05}
  pre_stop: 0.1
  termination_grace_period: 2
  fresh_connections: 3
  watch_duration: 0.2
  drain_duration: 0.1
  rollout_timeout: 10
  converge_timeout: 5
  rollback_timeout: 10
  traffic: {rate: 150, max_loss: 0.05}
"""
RATE = 150.0
BEFORE, AFTER = "before", "after"
Fault = Callable[[str, str, str], None]
"""Hears phase and method of each call `BEFORE` it is made and `AFTER` it was, and may raise."""
Calls = list[tuple[str, str]]


def no_fault(phase: str, method: str, when: str) -> None:
    """Let all be well."""


class Phase:
    """What a release is at: a step, ``rollback``, or ``final-state``."""

    def __init__(self, steps: Sequence[str] = tuple(STEPS)) -> None:
        self.steps = tuple(steps)
        self.ended = 0
        self.back = False

    def __str__(self) -> str:
        if self.ended >= len(self.steps):
            return FINAL
        return "rollback" if self.back else self.steps[self.ended]

    def on_step(self, record: StepRecord) -> None:
        self.ended += 1

    def on_action(self, action: str, arguments: Mapping[str, Any]) -> None:
        self.back |= action == "rollback"


class Faulty:
    """Something of the platform, of which each call may fail."""

    def __init__(self, inner: Any, hears: Callable[[str, str], None], prefix: str = "") -> None:
        self._inner = inner
        self._hears = hears
        self._prefix = prefix

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name in ("journal", "lock"):
            return Faulty(found, self._hears, f"{name}.")
        if not callable(found):
            return found
        return partial(self._call, self._prefix + name, found)

    def _call(self, name: str, method: Callable[..., Any], *arguments: Any) -> Any:
        self._hears(name, BEFORE)
        found = method(*arguments)
        self._hears(name, AFTER)
        return found


class ThreadTraffic:
    """Requests over new connections from a thread; some can be said to be lost."""

    def __init__(self, url: str, path: Path) -> None:
        self.url = urlsplit(url)
        self.path = path
        self.zero = time.monotonic()
        self.lost_by_plan = 0
        self._told = 0
        self._records: list[Mapping[str, Any]] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._send, daemon=True)

    def start(self) -> ThreadTraffic:
        self._thread.start()
        return self

    def _send(self) -> None:
        number = 0
        while not self._over.wait(max(0.0, self.zero + number / RATE - time.monotonic())):
            at = time.monotonic() - self.zero
            ended, version, color = self._ask()
            end = time.monotonic() - self.zero
            record = {"i": number, "at": at, "sent": at, "end": end, "class": ended}
            record |= {"client": "new_connection", "version": version, "color": color}
            self._records.append(record)
            number += 1

    def _ask(self) -> tuple[str, str | None, str | None]:
        assert self.url.hostname is not None
        connection = http.client.HTTPConnection(self.url.hostname, self.url.port, timeout=3)
        try:
            connection.request("GET", "/work")
            answer = connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException):
            return "connection_error", None, None
        finally:
            connection.close()
        ended = "ok" if answer.status == 200 else "http_error"
        return ended, answer.headers["x-llm-version"], answer.headers[COLOR_HEADER]

    def progress(self) -> TrafficProgress:
        ended = len(self._records)
        failed = sum(record["class"] != "ok" for record in self._records) + self.lost_by_plan
        return TrafficProgress(ended, ended, failed)

    def outcomes(self) -> Sequence[RequestOutcome]:
        ended = self._records[self._told :]
        self._told += len(ended)
        return [
            RequestOutcome(
                end=self.zero + record["end"],
                version=record["version"],
                ok=record["class"] == "ok",
                ended=record["class"],
                latency=record["end"] - record["sent"] if record["class"] == "ok" else None,
                color=record["color"],
                sent=self.zero + record["sent"],
            )
            for record in ended
        ]

    def finish(self) -> ThreadTraffic:
        self._over.set()
        self._thread.join()
        return self

    def records(self) -> Iterator[Mapping[str, Any]]:
        yield from self._records


@dataclass
class Performed:
    """A release that has ended."""

    release: Release
    result: ReleaseResult
    calls: Calls
    """Phase and method of each call of the platform."""
    seconds: float

    @property
    def final(self) -> StepRecord:
        return self.result.steps[-1]

    @property
    def failed(self) -> StepRecord:
        """The first step that did not pass."""
        return next(step for step in self.result.steps if step.verdict is not Verdict.PASS)


@dataclass
class Site:
    """A fleet, and releases of its service."""

    folder: Path
    fleet: LocalFleet
    loaded: LoadedConfig
    made: int = 0
    traffics: list[ThreadTraffic] = field(default_factory=list)

    @classmethod
    def build(cls, folder: Path, config: str = CONFIG) -> Self:
        (folder / "replica.py").write_text(REPLICA)
        (folder / "llmdeploy.yaml").write_text(config.replace("PYTHON", sys.executable))
        loaded = load_config(folder / "llmdeploy.yaml", "local")
        return cls(folder, cls.client_of(loaded, folder), loaded)

    @staticmethod
    def client_of(loaded: LoadedConfig, folder: Path) -> LocalFleet:
        import os

        fleet = make_fleet(loaded, folder / "output", os.getpid(), "run")
        assert isinstance(fleet, LocalFleet)
        return fleet

    def client(self) -> LocalFleet:
        """Return another client of the same fleet, as another process has one."""
        return self.client_of(self.loaded, self.folder)

    @property
    def checks(self) -> Checks:
        found = release_checks(self.loaded)
        smoke = [("answers", Measurement(Verdict.PASS, "it answers"))]
        return replace(found, smoke=lambda _url: smoke)

    def next_image(self) -> str:
        """Return an image that does not run now."""
        color = self.fleet.color()
        now = None if color is None else self.fleet.image(color)
        return "app:3" if now == "app:2" else "app:2"

    def release(
        self,
        fault: Fault = no_fault,
        *,
        holder: str = "tester@here:1",
        image: str | None = None,
        fleet: LocalFleet | None = None,
        traffic: Callable[[Path, str], Traffic | None] | None = None,
        **settings: Any,
    ) -> tuple[Conductor, Release, Calls]:
        """Return a release that meets the fault; the platform's calls are noted in the list."""
        phase, calls = Phase(), Calls()

        def hears(method: str, when: str) -> None:
            if when == BEFORE:
                calls.append((str(phase), method))
            fault(str(phase), method, when)

        wrapped: Any = Faulty(fleet or self.fleet, hears)
        faulty: Fleet = wrapped
        self.made += 1
        folder = self.folder / f"release-{self.made}"
        release = Release(
            order=Order("app", "local", image or self.next_image(), "run", holder),
            config=self.config(settings),
            fleet=faulty,
            checks=self.checks,
            traffic_to=partial(traffic or self._traffic, folder),
            journal=Journal(folder / "journal.jsonl", faulty.journal),
            on_action=phase.on_action,
        )
        return Conductor(release, STEPS, phase.on_step), release, calls

    def config(self, settings: Mapping[str, Any]) -> BlueGreenConfig:
        assert self.loaded.blue_green is not None
        return self.loaded.blue_green.model_copy(update=dict(settings))

    def _traffic(self, folder: Path, url: str) -> ThreadTraffic:
        self.traffics.append(ThreadTraffic(url, folder / "ledger"))
        return self.traffics[-1]

    def perform(self, fault: Fault = no_fault, **options: Any) -> Performed:
        """Perform a release to its end."""
        performed, release, calls = self.release(fault, **options)
        begun = time.monotonic()
        result = performed.run()
        return Performed(release, result, calls, time.monotonic() - begun)

    def lose(self) -> None:
        """Have the traffic say that it lost a request."""
        self.traffics[-1].lost_by_plan = 1

    def state(self) -> dict[str, Any]:
        """Return what a rollback has to bring back, once all is at rest."""

        def at_rest() -> dict[str, Any] | None:
            found = dict(self.fleet.snapshot())
            colors = [each for each in found["colors"].values() if each is not None]
            return found if all(each["ready"] == each["replicas"] for each in colors) else None

        return wait_until(at_rest, what="the fleet should rest", timeout=10, setting="the test's")

    def recover(self, performed: Performed) -> None:
        """Undo what is left, as ``llmdeploy rollback`` does it."""
        journal = performed.release.journal
        found = situation(read_entries(journal.path))
        assert found is not None
        fleet = self.fleet
        again = Journal(journal.path, fleet.journal)
        report = Recovery(found, fleet, self.config({}), self.checks, again).undo()
        assert report.succeeded, report.reason
        fleet.lock.release()

    def clear(self) -> None:
        """Leave neither an open journal nor a held lock, and the running version whole."""
        self.fleet.lock.steal("tester@here:1")
        self.fleet.lock.release()
        self.fleet.journal.clear()

    def is_free(self) -> bool:
        """Return whether another process could release now."""
        other = self.client()
        try:
            other.lock.acquire("somebody@else:2")
        except LockedError:
            return False
        finally:
            with suppress(LockedError):
                other.lock.release()
            other.close()
        return True
