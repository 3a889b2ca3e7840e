"""The reference service as a real process."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

MODULE = "pytest_llmdeploy.reference"


class Running:
    """A started service and a client for it."""

    def __init__(self, argv: list[str], log: Path, environ: dict[str, str]) -> None:
        with log.open("wb") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", MODULE, "--port", "0", *argv],
                stdout=subprocess.PIPE,
                stderr=stderr,
                env={"PATH": os.environ["PATH"], **environ},
                cwd=Path(__file__).parents[2],
                text=True,
            )
        self.log = log
        try:
            self.line = self._startup_line()
            self.url = self.line.rpartition(" ")[2]
            assert self.url.startswith("http"), log.read_text()
        except BaseException:
            self.process.kill()
            self.process.communicate()
            raise
        self.client = httpx.Client(base_url=self.url, timeout=20, trust_env=False)

    def _startup_line(self) -> str:
        assert self.process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            assert selector.select(60), "no startup line within 60 s"
        return self.process.stdout.readline().rstrip("\n")

    @property
    def engine(self) -> str:
        return self.line.split()[2]

    def chat(
        self, text: str = "Say exactly: one two three four", fault: str = "", **fields: Any
    ) -> httpx.Response:
        body = {"messages": [{"role": "user", "content": text}], "temperature": 0, **fields}
        headers = {"x-llm-fault": fault} if fault else {}
        return self.client.post("/v1/chat/completions", json=body, headers=headers)

    def signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    def wait(self, timeout: float = 10) -> int:
        return self.process.wait(timeout)

    def close(self) -> None:
        self.client.close()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


Start = Callable[..., Running]


def wait_until(predicate: Callable[[], bool], timeout: float = 10) -> None:
    """Return once `predicate` holds; fail after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not predicate():
        assert time.monotonic() < deadline, f"not within {timeout} s"
        time.sleep(0.01)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Return a function that starts a service of the test's own."""
    started: list[Running] = []

    def start(*argv: str, engine: str = "scripted", **environ: str) -> Running:
        log = tmp_path / f"service-{len(started)}.log"
        started.append(Running(["--engine", engine, *argv], log, environ))
        return started[-1]

    yield start
    for service in started:
        service.close()


def _shared(factory: pytest.TempPathFactory, engine: str) -> Iterator[Running]:
    flags = ["--ttft", "0.01", "--token-interval", "0.002"] if engine == "scripted" else []
    log = factory.mktemp(engine) / "service.log"
    service = Running(["--engine", engine, *flags], log, {"COLOR": "blue"})
    yield service
    service.close()


@pytest.fixture(scope="session")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Return a scripted service that tests share."""
    yield from _shared(tmp_path_factory, "scripted")


@pytest.fixture(scope="session")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Return a service with the real model that tests share."""
    pytest.importorskip("xllamacpp")
    yield from _shared(tmp_path_factory, "smollm2")


@pytest.fixture(params=["scripted", "smollm2"])
def either(request: pytest.FixtureRequest) -> Running:
    """Return the shared service of each engine in turn."""
    service: Running = request.getfixturevalue(request.param)
    return service
