"""Scraping the real reference service and the real Envoy of this machine."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from pytest_llmdeploy.metrics.limits import Limits
from pytest_llmdeploy.metrics.scrape import ScrapeSource
from pytest_llmdeploy.platforms.local_fleet.fleet import LocalFleet
from pytest_llmdeploy.platforms.local_fleet.launching import stop_fleet
from pytest_llmdeploy.ports import BLUE, Subject
from tests.contract.conftest import wait_until
from tests.contract.test_local_fleet import CHAT, make_fleet

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

BODY = {"messages": [{"role": "user", "content": "Hello"}], "stream": True}


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[LocalFleet]:
    fleet = make_fleet(tmp_path / "fleet")
    yield fleet
    fleet.close()
    assert stop_fleet(tmp_path / "fleet", 20)


def test_replicas_and_envoy_count_the_same(fleet: LocalFleet) -> None:
    url = fleet.entry().url
    wait_until(lambda: fleet.rollout(BLUE).complete, timeout=30)
    pods = tuple(pod.name for pod in fleet.pods(BLUE))
    assert len(pods) == 2
    blue = Subject("stable", BLUE, "1.0.0", pods)
    (admin,) = fleet.stats_addresses()
    replicas = ScrapeSource(
        "reference", reach=fleet.direct, limits=Limits(cpu_cores=1, memory_bytes=2**30)
    )
    envoy = ScrapeSource("envoy", addresses=lambda: [admin])

    def chat(fault: str = "") -> int:
        headers = {"x-llm-fault": fault} if fault else {}
        return httpx.post(
            f"{url}{CHAT}", json=BODY, headers=headers, trust_env=False, timeout=30
        ).status_code

    assert [chat() for _ in range(4)] == [200] * 4
    since = time.time()
    for source in (replicas, envoy):
        source.look([blue])
    assert [chat() for _ in range(20)] == [200] * 20
    assert [chat("error-500") for _ in range(3)] == [500] * 3

    def looked(source: ScrapeSource) -> bool:
        """Envoy gathers its histograms every 5 s."""
        source.look([blue])
        tally = source.tally(blue, since - 0.5, time.time())
        return sum(count for _, count in tally.latency) >= 23

    for source in (replicas, envoy):
        wait_until(lambda source=source: looked(source), timeout=30)  # type: ignore[misc]
        tally = source.tally(blue, since - 0.5, time.time())
        assert (tally.requests, tally.errors) == (23, 3)
        p95 = source.read("latency_p95", blue, since - 0.5, time.time())
        assert 0 < p95.value < 10
    now = time.time()
    assert replicas.read("ttft_p95", blue, since - 0.5, now).n == 20
    assert replicas.read("tokens_per_second", blue, since - 0.5, now).value > 0
    assert replicas.read("itl_p95", blue, since - 0.5, now).value < 1
    assert 0 < replicas.read("memory_usage", blue, since - 0.5, now).value < 1
    assert replicas.read("cpu_usage", blue, since - 0.5, now).value > 0
    for source in (replicas, envoy):
        source.close()
