"""A locustfile of the user's own, unchanged, with our ledger beside Locust's statistics."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
import locust
from locust.argument_parser import parse_options
from locust.env import Environment
from locust.util.load_locustfile import load_locustfile

from pytest_llmdeploy.load.files import LOG
from pytest_llmdeploy.load.generator import LONGEST_DETAIL, Generator
from pytest_llmdeploy.load.ledger import EndClass, Record
from pytest_llmdeploy.load.spec import WorkerSpec
from pytest_llmdeploy.redaction import Redactor

_BY_STATUS = {429: EndClass.HTTP_429, 4: EndClass.HTTP_4XX, 5: EndClass.HTTP_5XX}
_BY_NAME = (
    ("ConnectTimeout", EndClass.CONNECT),
    ("Timeout", EndClass.TOTAL_TIMEOUT),
    ("timed out", EndClass.TOTAL_TIMEOUT),
    ("refused", EndClass.CONNECT),
    ("NewConnection", EndClass.CONNECT),
    ("getaddrinfo", EndClass.CONNECT),
    ("reset", EndClass.RESET),
    ("Remote end closed", EndClass.RESET),
    ("connection closed", EndClass.RESET),
    ("IncompleteRead", EndClass.TRUNCATED),
)
"""What names or texts of errors tell about how a request ended; the first that occurs."""


def end_of(status: int | None, exception: BaseException | str | None) -> EndClass:
    """Return how a request of Locust's event ended.

    An answer that the user's own check refused is ``malformed``.
    """
    if exception is None:
        return EndClass.OK
    if status:
        found = _BY_STATUS.get(status) or _BY_STATUS.get(status // 100)
        if found:
            return found
    text = f"{type(exception).__name__}: {exception!r}"
    return next((end for name, end in _BY_NAME if name in text), EndClass.MALFORMED)


def users_of_file(spec: WorkerSpec) -> Callable[[Generator], None]:
    """Load the file and return what runs its users for the traffic's time."""
    traffic = spec.traffic
    assert traffic.locustfile is not None
    users, shapes = load_locustfile(traffic.locustfile)
    if shapes and spec.count > 1:
        raise SystemExit("a locustfile with a LoadTestShape runs in one process: processes: 1")
    environment = Environment(
        user_classes=list(users.values()),
        shape_class=shapes[0] if shapes else None,
        events=locust.events,
        host=traffic.host,
        locustfile=Path(traffic.locustfile).name,
        parsed_options=parse_options(["--headless", "--host", traffic.host]),
        stop_timeout=traffic.drain,
    )
    runner = environment.create_local_runner()
    _fire(environment.events.init, environment=environment, runner=runner, web_ui=None)

    def send(generator: Generator) -> None:
        _listen(environment, generator)
        share, rest = divmod(traffic.users, spec.count)
        count = share + (spec.index < rest)
        if environment.shape_class:
            runner.start_shape()
        elif count:
            runner.start(count, spawn_rate=count)
        while generator.now() < traffic.duration and not generator.is_over:
            gevent.sleep(min(0.05, max(traffic.duration - generator.now(), 0)))
        if generator.stopped is not None:
            environment.stop_timeout = 0.0
        runner.stop()
        _fire(environment.events.quitting, environment=environment, reverse=True)

    return send


def _listen(environment: Environment, generator: Generator) -> None:
    numbers = generator.numbers()
    raised = _Raised(generator)

    def on_request(
        request_type: str,
        name: str,
        response_time: float | None,
        exception: BaseException | str | None = None,
        response: Any = None,
        **_: Any,
    ) -> None:
        ended = generator.now()
        begun = max(ended - (response_time or 0.0) / 1000, 0.0)
        status = getattr(response, "status_code", None)
        record: Record = {
            "i": next(numbers),
            "at": round(begun, 6),
            "sent": round(begun, 6),
            "name": f"{request_type} {name}",
            "stream": False,  # Locust times what it is told to: no first token is known
        }
        if status:
            record["status"] = status
        header = generator.traffic.targets[0].version_header
        headers = getattr(response, "headers", None)
        if header and headers and (version := headers.get(header)):
            record["version"] = version
        detail = None if exception is None else f"{name}: {exception}"
        generator.note_event(record, end_of(status, exception), detail)

    def on_user_error(exception: BaseException, **_: Any) -> None:
        raised.add(exception)

    environment.events.request.add_listener(on_request)  # type: ignore[no-untyped-call]
    environment.events.user_error.add_listener(on_user_error)  # type: ignore[no-untyped-call]


class _Raised:
    """One note on all that the tasks raised."""

    def __init__(self, generator: Generator) -> None:
        self._notes = generator.notes
        self._redact = Redactor(generator.spec.secrets)
        self._number = 0
        self._first = ""
        self._place = 0

    def add(self, exception: BaseException) -> None:
        """Count an exception; the first one's text stands for all."""
        self._number += 1
        if self._number == 1:
            # Hidden before it is cut: of a secret that is cut a part would be left.
            self._first = self._redact(f"{type(exception).__name__}: {exception}")[:LONGEST_DETAIL]
            self._place = len(self._notes)
            self._notes.append("")
        self._notes[self._place] = (
            f"{self._number} tasks of the locustfile raised, first {self._first}; "
            f"their tracebacks are in {LOG}"
        )


def _fire(event: Any, **arguments: Any) -> None:
    event.fire(**arguments)
