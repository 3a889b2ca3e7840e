"""The proof of zero loss is worth something: what is planted is found, and nothing else."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from pytest_llmdeploy.assembly.release_parts import release_traffic
from pytest_llmdeploy.checks import identity
from pytest_llmdeploy.errors import PlatformError
from pytest_llmdeploy.platforms.local_fleet.launching import list_fleets, stop_fleet
from pytest_llmdeploy.platforms.local_fleet.status import FleetStatus
from pytest_llmdeploy.ports import Traffic
from pytest_llmdeploy.release import prepare
from pytest_llmdeploy.verdicts import Verdict
from tests.contract.conftest import wait_until
from tests.release_faults import BEFORE, Performed, Site

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the local fleet needs Linux")

RATE = 120
CONFIG = f"""
service: {{name: app, version_header: x-llm-version}}
environments:
  local:
    reference: {{engine: scripted, version: "1"}}
    stable_image: "app:1"
    stop_timeout: 3
health: {{checks: [{{name: health, path: /health}}]}}
blue_green:
  replicas: 2
  liveness: {{path: /health, delay: 5, period: 1}}
  readiness: {{path: /ready, delay: 0, period: 0.05, timeout: 5}}
  pre_stop: 0.2
  termination_grace_period: 4
  fresh_connections: 3
  watch_duration: 1
  drain_duration: 0.1
  rollout_timeout: 20
  converge_timeout: 15
  rollback_timeout: 20
  variables: {{LLM_TTFT: "0.002", LLM_TOKEN_INTERVAL: "0.001"}}
  traffic:
    rate: {RATE}
    max_loss: 0.05
    max_tokens: 2
    long_stream_tokens: 4
    timeout: 5
    clients: {{new_connection: 1, keep_alive: 0, long_stream: 0}}
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A fleet of reference services on which the tests release one after the other."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepare, "BASELINE_DURATION", 0.3)
        # Load runs of one machine wait for each other by a lock there: not for those of others.
        patch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("tmp")))
        made = Site.build(tmp_path_factory.mktemp("site"), CONFIG)
        made.fleet.entry()
        yield made
        made.fleet.close()
        assert stop_fleet(made.folder / "output" / "fleets" / "local", 20)


@pytest.fixture(autouse=True)
def _as_before(site: Site) -> Iterator[None]:
    yield
    site.clear()


class Proxy:
    """Passes bytes on, and resets every 500th connection once its request was read."""

    def __init__(self, url: str) -> None:
        self.target = urlsplit(url)
        self.first: int | None = None
        """Number of the first one that is reset."""
        self.accepted = 0
        self.reset = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        started = asyncio.run_coroutine_threadsafe(self._start(), self._loop)
        self.url = started.result(10)

    async def _start(self) -> str:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        if self.first is not None and (self.accepted - self.first) % 500 == 0:
            await reader.readuntil(b"\r\n\r\n")
            self.reset += 1
            own: socket.socket = writer.get_extra_info("socket")
            own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
            return
        back, forth = await asyncio.open_connection(self.target.hostname, self.target.port)
        await asyncio.gather(self._pass(reader, forth), self._pass(back, writer))

    @staticmethod
    async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while piece := await reader.read(65536):
                writer.write(piece)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0.01))
        self._loop.close()


def real_traffic(site: Site, folder: Path, url: str) -> Traffic | None:
    """Return the traffic that releases send."""
    return release_traffic(site.loaded, folder, url)


def status(site: Site) -> FleetStatus:
    """Return what the fleet's supervisor last told."""
    (found,) = list_fleets(site.folder)
    assert found.status is not None
    return found.status


def perform(site: Site, fault: Any = None, **settings: Any) -> Performed:
    """Perform a release with the real traffic."""
    traffic = settings.pop("traffic", partial(real_traffic, site))
    return site.perform(*([fault] if fault else []), traffic=traffic, **settings)


def test_a_proxy_that_drops_one_connection_of_500_is_found(site: Site) -> None:
    proxies: list[Proxy] = []

    def through(folder: Path, url: str) -> Traffic | None:
        proxies.append(Proxy(url))
        return real_traffic(site, folder, proxies[0].url)

    def arms(phase: str, method: str, when: str) -> None:
        if phase == "rollout" and proxies[0].first is None:
            proxies[0].first = proxies[0].accepted + 20

    done = perform(site, arms, traffic=through)
    (proxy,) = proxies
    proxy.close()
    traffic = done.result.traffic
    assert proxy.accepted == traffic["n"] + 1  # the first asked which model there is
    assert proxy.reset >= 1
    assert traffic["lost"] == proxy.reset == len(traffic["losses"])
    assert {loss["class"] for loss in traffic["losses"]} == {"reset"}
    assert done.failed.name in ("watch", "zero-loss")  # as the machine is fast or slow
    assert done.failed.verdict is Verdict.FAIL
    assert done.final.verdict is Verdict.PASS
    assert done.final.reason.startswith("rolled back: ")


def caught(done: Performed) -> None:
    """Check that a switch made wrongly was noticed, and is in the result."""
    assert done.failed.verdict is Verdict.FAIL, done.failed
    assert done.failed.name in ("converged", "watch", "zero-loss"), done.failed
    traffic = done.result.traffic
    assert traffic["lost"] > 0
    assert traffic["n"] == sum(sum(ends.values()) for ends in traffic["phases"].values())
    assert done.result.rollback is not None
    assert done.result.rollback.requests_exposed is not None
    assert done.result.rollback.requests_exposed > 0


def test_a_stable_version_that_is_scaled_away_before_the_switch(site: Site) -> None:
    before = site.state()

    def scales(phase: str, method: str, when: str) -> None:
        if (phase, method, when) == ("switch", "switch", BEFORE):
            old = site.fleet.color()
            assert old is not None
            site.fleet.scale(old, 0)
            wait_until(lambda: not site.fleet.pods(old))
            time.sleep(0.2)  # requests that come now meet nobody

    done = perform(site, scales)
    caught(done)
    assert done.final.verdict is Verdict.PASS, done.final.reason
    assert site.fleet.differences(before) == []


def test_a_stable_version_that_is_killed_under_its_traffic(site: Site) -> None:
    before = site.state()

    def kills(phase: str, method: str, when: str) -> None:
        if (phase, method, when) == ("switch", "switch", BEFORE):
            color = site.fleet.color()
            for replica in status(site).replicas:
                if replica.color == color and replica.pid is not None:
                    os.kill(replica.pid, signal.SIGKILL)
            time.sleep(0.2)

    done = perform(site, kills)
    caught(done)
    assert done.final.verdict is Verdict.PASS, done.final.reason
    assert site.fleet.differences(before) == []


PAUSE = 2.0


def test_an_envoy_that_is_paused_for_a_while(site: Site) -> None:
    paused: list[int] = []

    def pauses(phase: str, method: str, when: str) -> None:
        if (phase, method, when) == ("watch", "pods", BEFORE) and not paused:
            pid = status(site).envoy_pid
            assert pid is not None
            paused.append(pid)
            os.kill(pid, signal.SIGSTOP)
            threading.Timer(PAUSE, os.kill, (pid, signal.SIGCONT)).start()

    done = perform(site, pauses, watch_duration=PAUSE + 1)
    assert paused
    traffic = done.result.traffic
    assert (traffic["lost"], done.result.success) == (0, True), done.failed
    assert traffic["longest_gap"] == pytest.approx(PAUSE, abs=0.5)
    zero_loss = done.result.steps[-3]
    assert f"longest gap between answers {traffic['longest_gap'] * 1000:.0f} ms" in zero_loss.reason


def test_an_envoy_that_is_paused_for_ever(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Last: the fleet is not what it was."""
    monkeypatch.setattr(identity, "TIMEOUT", 1.0)
    paused: list[int] = []

    def pauses(phase: str, method: str, when: str) -> None:
        if (phase, method, when) == ("watch", "pods", BEFORE) and not paused:
            pid = status(site).envoy_pid
            assert pid is not None
            paused.append(pid)
            os.kill(pid, signal.SIGSTOP)
        if method == "evidence":
            raise PlatformError("it would take a while")

    done = perform(site, pauses, rollback_timeout=2.0, converge_timeout=1.0)
    try:
        rollback = done.result.rollback
        assert rollback is not None
        assert not rollback.succeeded
        assert rollback.time_to_safe is None
        assert done.final.verdict is Verdict.FAIL
        assert done.final.reason.startswith("ROLLBACK FAILED: ")
        assert "(blue_green.rollback_timeout), but it did not come" in done.final.reason
        old = done.result.previous_color
        assert f"the service leads to {old} now; before the release it led to {old}" in (
            done.final.reason
        )
        pid = list_fleets(site.folder)[0].pid
        assert rollback.commands == (
            "llmdeploy rollback --env local",
            f"kill {pid}  # ends the fleet: Envoy and all replicas",
        )
        assert done.final.reason.endswith("run:\n  " + "\n  ".join(rollback.commands))
        assert not site.is_free()
        # Nothing hangs: an attempt in each of the two waits goes beyond its time, and the
        # traffic's open requests have theirs.
        assert done.seconds < 30
    finally:
        os.kill(paused[0], signal.SIGCONT)
    site.fleet.lock.steal("tester@here:1")
    site.recover(done)
