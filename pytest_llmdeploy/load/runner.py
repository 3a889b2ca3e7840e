"""The load generator process: ``python -m pytest_llmdeploy.load.runner``.

It reads its spec as one line of JSON from stdin, says ``{"ready": …}`` on the descriptor that its
only argument names, starts at the moment that stdin's next line gives, and reports progress there,
a line of JSON each half second, more often where outcomes are told. The result file appears when
all has ended well, and only then. Stdin's end means that whoever started it is gone: then it ends
too.
"""

from __future__ import annotations

import locust  # first: it patches sockets and threads, which must happen before they are imported

# isort: split
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
import gevent.fileobject
from locust.env import Environment
from locust.exception import StopUser

from pytest_llmdeploy.load.costs import memory_mb, open_files
from pytest_llmdeploy.load.generator import Generator
from pytest_llmdeploy.load.ledger import EndClass, Record
from pytest_llmdeploy.load.spec import WorkerSpec

PROGRESS_INTERVAL = 0.5
OUTCOMES_INTERVAL = 0.2
"""Seconds between two reports that tell outcomes."""
Send = Callable[[Generator], None]
"""Sends the traffic of this process; returns when nothing more is begun."""
LAST_WORDS_TIMEOUT = 5.0
"""Seconds for the owner to read the last progress lines."""
OWNER_GONE = 3
"""Exit code of a process whose owner has died."""
FAILED = 1
"""Exit code of a process that could not do what it was told."""


class _Traffic(locust.User):
    """A user that sends what the generator says."""

    abstract = True
    generator: Generator


class _Arrivals(_Traffic):
    """Open loop: one dispatcher that starts each request at its time."""

    fixed_count = 1

    @locust.task
    def dispatch(self) -> None:
        """Send the whole schedule."""
        _or_die(self.generator.run_schedule)
        raise StopUser


class _Asker(_Traffic):
    """Closed loop: a user who waits for an answer before the next question."""

    numbers: Any

    @locust.task
    def ask(self) -> None:
        """Ask until the time is over."""
        _or_die(lambda: self.generator.run_user(self.numbers))
        raise StopUser


def _or_die(send: Callable[[], None]) -> None:
    """Send; end the process where that raises, for Locust would begin anew."""
    try:
        send()
    except Exception:  # noqa: BLE001 - whatever it is, the traffic is not what was asked for
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(FAILED)


class Progress:
    """Writes progress lines; never waits for the reader, and ends the process where it has gone."""

    def __init__(self, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        os.set_inheritable(descriptor, False)
        self._descriptor = descriptor
        self._unsent = b""
        self._owner = os.getppid()

    def write(self, line: dict[str, Any]) -> None:
        """Write one line, as much of it as the pipe takes."""
        self._unsent += json.dumps(line).encode() + b"\n"
        self.catch_up()

    def catch_up(self) -> bool:
        """Write what the pipe did not take before; return whether all is written."""
        try:
            while self._unsent:
                self._unsent = self._unsent[os.write(self._descriptor, self._unsent) :]
        except BlockingIOError:
            pass
        except OSError:
            os._exit(OWNER_GONE)
        if os.getppid() != self._owner:
            os._exit(OWNER_GONE)  # a process that it forked may hold our pipes open
        return not self._unsent


def report(generator: Generator, progress: Progress, *, last: bool = False) -> None:
    """Tell the state of the run once; not where the owner has not yet read the one before."""
    if not progress.catch_up() and not last:
        return
    ttft, generator.ttft = generator.ttft, type(generator.ttft)()
    outcomes, generator.outcomes = generator.outcomes, []
    progress.write(
        {
            "t": round(generator.now(), 3),
            "intended": generator.intended,
            "sent": generator.sent,
            "ended": generator.ended,
            "classes": dict(generator.classes),
            "tokens": generator.tokens,
            "ttft": ttft.to_json(),
            "counts": generator.counts.to_json(),
            "lag": generator.dispatch_lag.highest,
            "stopped": generator.stopped,
            "memory_mb": round(memory_mb(), 1),
            "files": open_files(),
            **({"outcomes": outcomes} if outcomes else {}),
        }
    )


def _control(lines: Any, generator: Generator) -> None:
    for line in lines:
        command = json.loads(line)
        if "stop" in command:
            generator.stop(command["stop"])
        elif "finish" in command:
            generator.finish()
    os._exit(OWNER_GONE)


def _locust_events(environment: Environment) -> Any:
    """Return what fires Locust's own event for a request, so that its listeners see them."""

    def fire(record: Record) -> None:
        failed = record["class"] != EndClass.OK
        sent = record.get("sent", record["at"])
        environment.events.request.fire(  # type: ignore[no-untyped-call]
            request_type="POST",
            name=record.get("client", "chat"),
            response_time=(record["end"] - sent) * 1000,
            response_length=0,
            exception=RuntimeError(record["class"]) if failed else None,
            context={},
        )

    return fire


def _own_users(spec: WorkerSpec) -> Send:
    """Return what sends the traffic that the spec describes."""

    def send(generator: Generator) -> None:
        environment = Environment(events=locust.events)
        generator.on_end = _locust_events(environment)
        _Traffic.generator = generator
        _Asker.numbers = generator.numbers()
        share, rest = divmod(spec.traffic.users, spec.count)
        count = 1 if spec.traffic.open_loop else share + (spec.index < rest)
        if not count:
            return  # fewer users than processes
        environment.user_classes = [_Arrivals if spec.traffic.open_loop else _Asker]
        runner = environment.create_local_runner()
        runner.start(count, spawn_rate=count)
        assert runner.spawning_greenlet is not None
        runner.spawning_greenlet.join()
        while runner.user_count:
            gevent.sleep(0.02)
        runner.quit()

    return send


def generate(spec: WorkerSpec, lines: Any, progress: Progress) -> Generator:
    """Run the traffic of this process to its end."""
    if spec.traffic.locustfile:
        from pytest_llmdeploy.load.locustfile import users_of_file

        send = users_of_file(spec)
    else:
        send = _own_users(spec)
    progress.write({"ready": os.getpid()})
    start: float = json.loads(next(lines))["start"]
    generator = Generator(spec, start)
    gevent.spawn(_control, lines, generator)
    gevent.signal_handler(signal.SIGTERM, generator.stop, "SIGTERM")
    gevent.signal_handler(signal.SIGINT, lambda: None)  # Ctrl-C is the owner's to handle
    gevent.sleep(max(start - time.monotonic(), 0))
    watch = gevent.spawn(generator.watch_loop)
    interval = OUTCOMES_INTERVAL if spec.traffic.outcomes else PROGRESS_INTERVAL

    def tell() -> None:
        while True:
            generator.flush()  # before: all that a report counts as ended is in the file
            report(generator, progress)
            gevent.sleep(interval)

    telling = gevent.spawn(tell)
    send(generator)
    generator.drain()
    gevent.killall([watch, telling])
    report(generator, progress, last=True)
    deadline = time.monotonic() + LAST_WORDS_TIMEOUT
    while not progress.catch_up() and time.monotonic() < deadline:
        gevent.sleep(0.05)
    return generator


def raise_file_limit() -> None:
    """Allow as many sockets as the system gives; library mode leaves the limit as it is."""
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _own_stdin() -> int:
    """Return a descriptor of stdin that nothing started from here shares.

    What a locustfile starts would make it blocking, for itself and so for all.
    """
    own = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return own


def main() -> None:
    """Run one process of a load run."""
    progress = Progress(int(sys.argv[1]))
    lines = iter(gevent.fileobject.FileObject(_own_stdin(), "rb", closefd=False))
    spec = WorkerSpec.from_json(next(lines).decode())
    raise_file_limit()
    generator = generate(spec, lines, progress)
    result = {
        "intended": generator.intended,
        "records": generator.ended,
        "classes": dict(generator.classes),
        "tokens": generator.tokens,
        "stopped": generator.stopped,
        "notes": generator.notes,
        "dispatch_lag": generator.dispatch_lag.to_json(),
        "loop_lag": generator.loop_lag.to_json(),
        "gaps": generator.gaps.to_json(),
        "token_gaps": generator.token_gaps.to_json(),
        "cpu": generator.cpu,
        "memory_mb": memory_mb(),
    }
    path = Path(spec.result)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(result), encoding="utf-8")
    partial.replace(path)
    sys.stdout.flush()
    os._exit(0)  # Locust's own greenlets would keep the process for a while


if __name__ == "__main__":
    main()
