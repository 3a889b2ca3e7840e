"""Sources as the file names them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from contextlib import nullcontext

import pytest

from pytest_llmdeploy.config.canary import MetricsConfig, PrometheusConfig
from pytest_llmdeploy.errors import NotMeasuredError
from pytest_llmdeploy.metrics import Limits, make_sources
from pytest_llmdeploy.ports import RequestOutcome

PROMETHEUS = PrometheusConfig(url="http://127.0.0.1:9")


def no_requests() -> Sequence[RequestOutcome]:
    return []


def test_the_default_order() -> None:
    made = make_sources(MetricsConfig(), drain=no_requests, reach=nullcontext)
    assert [one.name for one in made] == ["client", "scrape"]
    made = make_sources(MetricsConfig(prometheus=PROMETHEUS), drain=no_requests, reach=nullcontext)
    assert [one.name for one in made] == ["prometheus", "scrape"]
    assert [one.name for one in make_sources(MetricsConfig(), drain=no_requests)] == ["client"]


def test_a_named_source_without_its_part_is_not_measured() -> None:
    with pytest.raises(NotMeasuredError) as raised:
        make_sources(MetricsConfig(sources=("scrape", "client")), drain=no_requests)
    assert str(raised.value) == (
        "metrics.sources names scrape, which this run has no part for: "
        "its platform does not lead to single replicas"
    )


def test_each_says_what_it_tells() -> None:
    config = MetricsConfig(sources=("client", "scrape"))
    limits = Limits(cpu_cores=1, memory_bytes=1)
    client, scrape = make_sources(config, drain=no_requests, reach=nullcontext, limits=limits)
    assert client.offers("latency_p95")
    assert client.offers("tally")
    assert not client.offers("cpu_usage")
    assert scrape.offers("cpu_usage")
    assert scrape.offers("memory_usage")


def test_importing_the_room_loads_no_client() -> None:
    code = (
        "import pytest_llmdeploy.metrics, sys; "
        "print([m for m in ('prometheus_api_client', 'requests', 'prometheus_client', 'httpx')"
        " if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
