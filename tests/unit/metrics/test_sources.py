"""Sources as the file names them, and the choice for each signal."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from contextlib import nullcontext

import pytest

from pytest_llmdeploy.config.canary import MetricsConfig, PrometheusConfig
from pytest_llmdeploy.errors import NotMeasuredError
from pytest_llmdeploy.metrics import Limits, Sources, make_sources
from pytest_llmdeploy.ports import RequestOutcome, Subject

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


def test_the_first_that_offers_a_signal_tells_it() -> None:
    config = MetricsConfig(sources=("client", "scrape"))
    limits = Limits(cpu_cores=1, memory_bytes=1)
    chosen = Sources(make_sources(config, drain=no_requests, reach=nullcontext, limits=limits))
    assert chosen.of("latency_p95").name == "client"
    assert chosen.of("tally").name == "client"
    assert chosen.of("cpu_usage").name == "scrape"
    assert chosen.offers("memory_usage")
    alone = Sources(chosen.all[:1])
    assert not alone.offers("memory_usage")
    with pytest.raises(NotMeasuredError) as raised:
        alone.read("memory_usage", Subject("canary", "green", None), 0, 1)
    assert str(raised.value) == (
        "no source of metrics tells memory_usage; sources: client. Give canary.metrics another "
        "preset, source or query, or set the signal's limit to null"
    )
    chosen.look([])
    chosen.close()


def test_all_sources_look_before_an_error_is_told() -> None:
    looked: list[str] = []

    def drain() -> Sequence[RequestOutcome]:
        looked.append("client")
        raise NotMeasuredError("the traffic has ended")

    def addresses() -> Sequence[str]:
        looked.append("scrape")
        return []

    config = MetricsConfig(sources=("client", "scrape"), preset="envoy")
    chosen = Sources(make_sources(config, drain=drain, addresses=addresses))
    with pytest.raises(NotMeasuredError, match="the traffic has ended"):
        chosen.look([])
    assert looked == ["client", "scrape"]


def test_importing_the_room_loads_no_client() -> None:
    code = (
        "import pytest_llmdeploy.metrics, sys; "
        "print([m for m in ('prometheus_api_client', 'requests', 'prometheus_client', 'httpx')"
        " if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
