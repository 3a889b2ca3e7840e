"""The source of metrics against a real Prometheus, which scrapes what the tests expose."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from pytest_llmdeploy.config.canary import PrometheusConfig
from pytest_llmdeploy.errors import NoDataError, NotMeasuredError
from pytest_llmdeploy.metrics.limits import Limits
from pytest_llmdeploy.metrics.prometheus import PrometheusSource
from pytest_llmdeploy.ports import Reading, Subject, Tally
from tests.contract.conftest import Start, wait_until

INTERVAL = 0.2
"""Seconds between two scrapes."""
PODS = 32
TWICE = f"green-{PODS - 1}"
"""A pod that two jobs scrape."""


def subject(*pods: str, version: str | None = "2.0.0", color: str = "green") -> Subject:
    return Subject("canary", color, version, pods)


class Exposition:
    """A server with one page of metrics for each pod, which tests write."""

    def __init__(self) -> None:
        pages: dict[str, str] = {}

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                text = pages.get(self.path.strip("/"))
                self.send_response(404 if text is None else 200)
                self.send_header("content-type", "text/plain; version=0.0.4")
                self.end_headers()
                self.wfile.write((text or "").encode())

            def log_message(self, *args: Any) -> None:
                pass

        self.pages = pages
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class Watched:
    """A Prometheus, and the pods that it scrapes."""

    def __init__(self, url: str, exposition: Exposition, targets: Path) -> None:
        self.url = url
        self.exposition = exposition
        self._targets = targets
        self._free = iter(range(PODS - 1))
        self._markers = itertools.count(1)

    def pod(self) -> str:
        """Return the name of a pod that no other test uses."""
        return f"green-{next(self._free)}"

    def ask(self, query: str) -> list[Any]:
        answer = httpx.get(f"{self.url}/api/v1/query", params={"query": query}, trust_env=False)
        result: list[Any] = answer.json()["data"]["result"]
        return result

    def also(self, *addresses: str) -> None:
        """Scrape these, too, without any label but their instance."""
        part = self._targets.with_suffix(".part")
        part.write_text(json.dumps([{"targets": list(addresses)}]))
        part.rename(self._targets)
        wait_until(
            lambda: all(self.ask(f'up{{instance="{one}"}} == 1') for one in addresses), timeout=30
        )

    def expose(self, pod: str, text: str) -> float:
        """Let a pod say this; return the time of its second scrape since, of each job."""
        number = str(next(self._markers))
        self.exposition.pages[pod] = f"marker {number}\n{text}"
        jobs = 2 if pod == TWICE else 1
        times: list[float] = []

        def seen() -> bool:
            found = [one["values"] for one in self.ask(f'marker{{pod="{pod}"}}[1m]')]
            scrapes = [[at for at, value in values if value == number] for values in found]
            times[:] = [one[1] for one in scrapes if len(one) > 1]
            return len(times) == jobs

        wait_until(seen, timeout=30)
        return max(times)

    def source(self, **options: Any) -> PrometheusSource:
        config = PrometheusConfig(
            url=options.pop("url", self.url), scrape_interval=options.pop("interval", 5.0)
        )
        options.setdefault("namespace", "shop")
        return PrometheusSource(config, options.pop("preset", "reference"), **options)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """Return a real Prometheus; skip where there is none, but not under CI."""
    program = shutil.which("prometheus")
    if program is None:
        text = "no program 'prometheus': apt-get install prometheus"
        if os.environ.get("CI"):
            pytest.fail(text)
        pytest.skip(text)
    folder = tmp_path_factory.mktemp("prometheus")
    exposition = Exposition()
    pods = [
        {
            "targets": [f"127.0.0.1:{exposition.port}"],
            "labels": {
                "__metrics_path__": f"/green-{number}",
                "instance": f"green-{number}",
                "pod": f"green-{number}",
                "namespace": "shop",
            },
        }
        for number in range(PODS)
    ]
    more = folder / "more.json"
    more.write_text("[]")
    config = {
        "global": {"scrape_interval": f"{int(INTERVAL * 1000)}ms", "scrape_timeout": "200ms"},
        "scrape_configs": [
            {"job_name": "pods", "static_configs": pods},
            {"job_name": "again", "static_configs": pods[-1:]},
            {"job_name": "more", "file_sd_configs": [{"files": [str(more)]}]},
        ],
    }
    (folder / "prometheus.yml").write_text(json.dumps(config))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                program,
                f"--config.file={folder}/prometheus.yml",
                f"--storage.tsdb.path={folder}/data",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
        )
    url = f"http://127.0.0.1:{port}"

    def ready() -> bool:
        assert process.poll() is None, (folder / "log").read_text()
        try:
            return httpx.get(f"{url}/-/ready", trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    try:
        wait_until(ready, timeout=60)
        yield Watched(url, exposition, more)
    finally:
        process.terminate()
        process.wait(30)
        exposition.close()


def requests(**codes: float) -> str:
    lines = [
        f'llm_requests_total{{route="/v1/chat/completions",code="{code.strip("c")}"}} {value}'
        for code, value in codes.items()
    ]
    return "\n".join(["# TYPE llm_requests_total counter", *lines]) + "\n"


def latencies(*counts: int) -> str:
    edges = ("0.1", "0.5", "1", "+Inf")
    name = 'llm_request_duration_seconds_bucket{route="/v1/chat/completions",le='
    return "".join(f'{name}"{e}"}} {c}\n' for e, c in zip(edges, counts, strict=True))


def test_counts_are_exact_and_a_series_that_begins_with_errors_is_seen(watched: Watched) -> None:
    pod, source = watched.pod(), watched.source()
    probes = 'llm_requests_total{route="/health",code="200"} 7\n'
    since = watched.expose(pod, requests(c200=1000) + probes)
    watched.expose(pod, requests(c200=1090, c500=3, c404=1) + probes.replace("7", "99"))
    until = time.time()
    tally = source.tally(subject(pod), since, until)
    assert (tally.requests, tally.errors) == (94, 3)
    reading = source.read("error_rate", subject(pod), since, until)
    assert reading.value == 3 / 94
    assert reading.n == 94
    assert reading.query.startswith(
        f'prometheus: llm_requests_total{{pod=~"{pod}", namespace=~"shop|", route=~"/v1/.*"}}'
        ", samples of "
    )
    # PromQL's increase() misses the first value of the series of code 500.
    own = watched.source(
        queries={"error_rate": 'sum(increase(llm_requests_total{pod=~"{{pods}}",code="500"}[1h]))'}
    )
    assert own.read("error_rate", subject(pod), since, until).value == 0


def test_what_was_before_the_span_is_not_in_it(watched: Watched) -> None:
    pod, source = watched.pod(), watched.source()
    watched.expose(pod, requests(c200=10))
    since = watched.expose(pod, requests(c200=20, c500=5))
    watched.expose(pod, requests(c200=50, c500=5))
    tally = source.tally(subject(pod), since, time.time())
    assert (tally.requests, tally.errors) == (30, 0)


def test_a_counter_that_was_reset_counts_from_zero(watched: Watched) -> None:
    pod, source = watched.pod(), watched.source()
    since = watched.expose(pod, requests(c200=100, c500=40))
    watched.expose(pod, requests(c200=130, c500=41))
    watched.expose(pod, requests(c200=5))
    watched.expose(pod, requests(c200=8, c500=2))
    tally = source.tally(subject(pod), since, time.time())
    assert (tally.requests, tally.errors) == (30 + 1 + 8 + 2, 3)


def test_replicas_are_added_up_and_others_are_not(watched: Watched) -> None:
    pods, source = [watched.pod() for _ in range(3)], watched.source()
    since = min([watched.expose(pod, requests(c200=0, c500=0)) for pod in pods])
    for number, pod in enumerate(pods):
        watched.expose(pod, requests(c200=10**number, c500=2 * 10**number))
    tally = source.tally(subject(*pods[:2]), since, time.time())
    assert (tally.requests, tally.errors) == (33, 22)


def test_a_replica_that_is_gone_still_counts(watched: Watched) -> None:
    pods, source = [watched.pod() for _ in range(2)], watched.source()
    since = min([watched.expose(pod, requests(c200=0)) for pod in pods])
    source.look([subject(*pods)])
    for pod in pods:
        watched.expose(pod, requests(c200=10))
    del watched.exposition.pages[pods[0]]
    wait_until(lambda: not watched.ask(f'llm_requests_total{{pod="{pods[0]}"}}'))
    assert source.tally(subject(pods[1]), since, time.time()).requests == 20


def test_a_replica_that_is_not_scraped_is_named(watched: Watched) -> None:
    pods, source = [watched.pod() for _ in range(2)], watched.source()
    since = min([watched.expose(pod, requests(c200=0)) for pod in pods])
    for pod in pods:
        watched.expose(pod, requests(c200=10))
    until = time.time()
    assert source.tally(subject(*pods), since, until).requests == 20
    with pytest.raises(NoDataError) as raised:
        source.tally(subject(*pods, "green-x", "green-y"), since, until)
    assert str(raised.value) == (
        f'prometheus: llm_requests_total{{pod=~"{pods[0]}|{pods[1]}|green-x|green-y", '
        'namespace=~"shop|", route=~"/v1/.*"}: stale: no sample of the last 10 s of green-x and '
        "green-y: are they scraped?"
    )


def test_a_replica_that_is_scraped_no_more_is_named(watched: Watched) -> None:
    pods = [watched.pod() for _ in range(2)]
    limits = Limits(memory_bytes=1000)
    sources = [watched.source(interval=interval, limits=limits) for interval in (0.5, 100.0)]
    text = requests(c200=1) + "process_resident_memory_bytes 100\n"
    since = min([watched.expose(pod, text) for pod in pods])
    del watched.exposition.pages[pods[0]]
    recent = f'count_over_time(llm_requests_total{{pod="{pods[0]}"}}[1200ms])'
    wait_until(lambda: not watched.ask(recent), timeout=30)
    for signal in ("throughput", "memory_usage"):
        with pytest.raises(NoDataError, match=f"of the last 1 s of {pods[0]}: is it scraped"):
            sources[0].read(signal, subject(*pods), since, time.time())
        assert sources[1].read(signal, subject(*pods), since, time.time()).value >= 0
    assert sources[0].read("throughput", subject(pods[1]), since, time.time()).value == 0


def test_a_replica_that_had_no_request_yet_is_none_that_is_not_scraped(watched: Watched) -> None:
    pods, source = [watched.pod() for _ in range(2)], watched.source(interval=0.5)
    watched.expose(pods[1], "")
    since = watched.expose(pods[0], requests(c200=0))
    watched.expose(pods[0], requests(c200=10))
    assert source.tally(subject(*pods), since, time.time()).requests == 10
    # It is scraped in vain: the same as one that is not scraped.
    del watched.exposition.pages[pods[1]]
    vain = f'max_over_time(up{{pod="{pods[1]}"}}[1200ms]) == 0'
    wait_until(lambda: bool(watched.ask(vain)), timeout=30)
    with pytest.raises(NoDataError, match=f"no sample of the last 1 s of {pods[1]}: is it"):
        source.tally(subject(*pods), since, time.time())


def test_a_replica_that_two_jobs_scrape_is_not_counted_twice(watched: Watched) -> None:
    pod, source = TWICE, watched.source()
    since = watched.expose(pod, requests(c200=0))
    watched.expose(pod, requests(c200=10))
    with pytest.raises(NotMeasuredError) as raised:
        source.tally(subject(pod), since, time.time())
    assert str(raised.value) == (
        f"prometheus: llm_requests_total: {pod} is scraped by two jobs, 'again {pod}' and 'pods "
        f"{pod}', so that its requests would count twice: let one of them do it"
    )


def test_quantiles_are_those_of_histogram_quantile(watched: Watched) -> None:
    pod, source = watched.pod(), watched.source()
    since = watched.expose(pod, requests(c200=0) + latencies(0, 0, 0, 0))
    watched.expose(pod, requests(c200=100) + latencies(10, 60, 99, 100))
    until = time.time()
    theirs = watched.ask(
        "histogram_quantile(0.95, sum by (le) "
        f'(llm_request_duration_seconds_bucket{{pod="{pod}"}}))'
    )
    value = source.read("latency_p95", subject(pod), since, until)
    assert value.value == pytest.approx(float(theirs[0]["value"][1]))
    assert value.n == 100
    tally = source.tally(subject(pod), since, until)
    assert tally.latency == ((0.1, 10), (0.5, 50), (1.0, 39), (float("inf"), 1))
    assert tally.ttft == ()
    assert "without ttft: prometheus: llm_time_to_first_token_seconds_bucket" in tally.query
    watched.expose(pod, requests(c200=200) + latencies(10, 60, 99, 200))
    with pytest.raises(NoDataError, match=r"0\.95 of 200 lies above the highest bucket, 1 s"):
        source.read("latency_p95", subject(pod), since, time.time())


def test_use_of_cpu_and_memory_are_shares_of_limits(watched: Watched) -> None:
    pods = [watched.pod() for _ in range(2)]
    source = watched.source(limits=Limits(cpu_cores=2.0, memory_bytes=1000))
    text = "process_cpu_seconds_total {}\nprocess_resident_memory_bytes {}\n"
    since = min([watched.expose(pod, text.format(0, 100 + 500 * n)) for n, pod in enumerate(pods)])
    for pod in pods:
        watched.expose(pod, text.format(1, 250))
    until = time.time()
    assert source.read("memory_usage", subject(*pods), since, until).value == 0.25
    cpu = source.read("cpu_usage", subject(*pods), since, until)
    # A second of CPU each; between two samples there are at most the span and its slack.
    assert 1 / (until - since + 1.5) / 2 <= cpu.value <= 1 / INTERVAL / 2
    assert ", per second, mean of 2, of 2 cores" in cpu.query
    assert not watched.source().offers("cpu_usage")


def read(
    watched: Watched, query: str, *pods: str, version: str | None = "2.0.0", **options: Any
) -> Reading:
    source = watched.source(queries={"throughput": query}, **options)
    now = time.time()
    return source.read("throughput", subject(*pods, version=version), now - 5, now)


def test_one_series_is_a_value(watched: Watched) -> None:
    pod = watched.pod()
    watched.expose(pod, 'busy{version="2.0.0"} 7\nbusy{version="3"} 8\n')
    query = 'sum(busy{version="{{version}}",pod=~"{{pods}}"})'
    reading = read(watched, query, pod)
    assert reading.value == 7
    assert reading.query == f'prometheus: sum(busy{{version="2.0.0",pod=~"{pod}"}})'
    assert read(watched, "scalar(" + query + ")", pod).value == 7
    assert read(watched, "count_over_time(busy{version='{{version}}'}[{{window}}])", pod).value > 1


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ('busy{of="nobody",pod=~"{{pods}}"}', "no series"),
        ('sum(busy{pod=~"{{pods}}"}) * 0 / 0', "the value is nan, which is no measurement"),
        ('sum(busy{pod=~"{{pods}}"}) / 0', "the value is inf, which is no measurement"),
        ('strange{pod=~"{{pods}}"}', "the value is nan, which is no measurement"),
    ],
)
def test_what_is_no_number_is_no_data(watched: Watched, query: str, why: str) -> None:
    watched.expose("green-0", 'busy{version="2.0.0"} 7\nbusy{version="3"} 8\nstrange NaN\n')
    with pytest.raises(NoDataError) as raised:
        read(watched, query, "green-0")
    assert str(raised.value) == f"prometheus: {query.replace('{{pods}}', 'green-0')}: {why}"


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ('busy{pod=~"{{pods}}"}', "2 series, which is ambiguous: name an aggregation, such as "),
        ('busy{pod=~"{{pods}}"}[10s]', "2 series, which is ambiguous"),
        ('busy{pod=~"{{pods}}",version="3"}[10s]', "a range of values: name a function"),
        ('busy{pod=~"{{pods}}"', "HTTP Status Code 400: invalid parameter"),
    ],
)
def test_what_cannot_be_answered_is_not_measured(watched: Watched, query: str, why: str) -> None:
    watched.expose("green-0", 'busy{version="2.0.0"} 7\nbusy{version="3"} 8\nstrange NaN\n')
    with pytest.raises(NotMeasuredError) as raised:
        read(watched, query, "green-0")
    assert not isinstance(raised.value, NoDataError)
    shown = query.replace("{{pods}}", "green-0")
    assert str(raised.value).startswith(f"prometheus: {shown}: {why}")


def test_a_name_stays_within_its_quotes(watched: Watched) -> None:
    pod, name = watched.pod(), 'a"} or vector(1) # \\ {{color}}'
    label = name.replace("\\", "\\\\").replace('"', '\\"')
    watched.expose(pod, f'busy{{version="{label}"}} 5\nbusy{{version="a"}} 9\n')
    for operator in ("=", "=~"):
        query = f'busy{{version{operator}"{{{{version}}}}",pod=~"{{{{pods}}}}"}}'
        assert read(watched, query, pod, version=name).value == 5
        assert read(watched, query.replace('"', "'"), pod, version=name).value == 5


def test_nan_in_a_counter_is_no_data(watched: Watched) -> None:
    pod, source = watched.pod(), watched.source()
    since = watched.expose(pod, requests(c200=1))
    watched.expose(pod, requests(c200=float("nan")))
    watched.expose(pod, requests(c200=9))
    with pytest.raises(NoDataError, match="the value is nan, which is no measurement"):
        source.tally(subject(pod), since, time.time())


def test_0_of_0_and_nothing_at_all_are_no_data(watched: Watched) -> None:
    pod, source = watched.pod(), watched.source()
    since = watched.expose(pod, requests(c200=5))
    watched.expose(pod, requests(c200=5))
    until = time.time()
    ask: list[Callable[[], Reading | Tally]] = [
        lambda: source.read("error_rate", subject(pod), since, until),
        lambda: source.tally(subject(pod), since, until),
    ]
    for one in ask:
        with pytest.raises(NoDataError, match="0 of 0 requests: there was none"):
            one()
    assert source.read("throughput", subject(pod), since, until).value == 0
    with pytest.raises(NoDataError, match="no such series"):
        source.read("ttft_p95", subject(pod), since, until)
    with pytest.raises(NoDataError, match="nothing tells the canary version's series"):
        source.tally(subject(), since, until)


def test_stale_samples_are_no_data(watched: Watched) -> None:
    pod, source = watched.pod(), watched.source(interval=0.5)
    old = int((time.time() - 3) * 1000)
    lines = requests(c200=5).replace("} 5", f"}} 5 {old}") + f"gauge 3 {old}\n"
    # Samples with times of their own do not end when their target does.
    watched.exposition.pages[pod] = lines
    wait_until(lambda: bool(watched.ask(f'llm_requests_total{{pod="{pod}"}}')), timeout=30)
    now = time.time()
    with pytest.raises(NoDataError, match=r"stale: the latest sample is \d+ s old, more than 1 s"):
        source.tally(subject(pod), now - 5, now)
    query = 'sum(sum_over_time(gauge{pod=~"{{pods}}"}[1m]))'
    with pytest.raises(NoDataError, match=r"stale: the latest sample is \d+ s old, more than two"):
        read(watched, query, pod, interval=0.5)
    assert read(watched, query, pod, interval=100.0).value == 3


def test_a_target_that_is_gone_is_stale(watched: Watched) -> None:
    pod = watched.pod()
    query = 'sum(sum_over_time(gauge{pod=~"{{pods}}"}[1m]))'
    watched.expose(pod, "gauge 0\n")
    assert read(watched, query, pod).value == 0
    del watched.exposition.pages[pod]
    wait_until(lambda: not watched.ask(f'gauge{{pod="{pod}"}}'))
    with pytest.raises(NoDataError, match="stale: none of its series is scraped now"):
        read(watched, query, pod)


def test_a_prometheus_that_is_not_there_is_not_measured(watched: Watched) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        source = watched.source(url=f"http://127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(NotMeasuredError, match="Connection refused") as raised:
            source.tally(subject("green-0"), 1, 2)
    assert str(raised.value).startswith('prometheus: llm_requests_total{pod=~"green-0"')
    source.close()


def test_the_reference_service_tells_which_version_it_is(watched: Watched, start: Start) -> None:
    stable = start("--version", "1.0.0", "--token-interval", "0.001", "--ttft", "0.001")
    canary = start(
        "--version", "2.0.0", "--color", "green", "--token-interval", "0.001", "--ttft", "0.001"
    )
    for service in (stable, canary):
        service.chat(max_tokens=4)
    addresses = [service.url.removeprefix("http://") for service in (stable, canary)]
    watched.also(*addresses)
    source = watched.source(limits=Limits(cpu_cores=1.0, memory_bytes=2**30))
    since = time.time()
    for _ in range(3):
        stable.chat(max_tokens=4)
    for number in range(5):
        canary.chat(max_tokens=4, fault="" if number else "error-500")
    for address, number in zip(addresses, (4, 6), strict=True):
        where = f'instance="{address}",route="/v1/chat/completions"'
        seen = f"sum(llm_requests_total{{{where}}}) == {number}"
        wait_until(lambda seen=seen: bool(watched.ask(seen)), timeout=30)  # type: ignore[misc]
    until = time.time()
    whom = subject(version="2.0.0")
    tally = source.tally(whom, since, until)
    assert (tally.requests, tally.errors) == (5, 1)
    assert sum(count for _, count in tally.latency) == 5
    assert sum(count for _, count in tally.ttft) == 4
    named_by_color = source.tally(subject(version=None), since, until)
    assert (named_by_color.requests, named_by_color.errors) == (5, 1)
    assert source.tally(subject(version="1.0.0", color="blue"), since, until).errors == 0
    assert 0 < source.read("memory_usage", whom, since, until).value < 1
    for signal in ("latency_p95", "ttft_p50", "itl_p95", "tokens_per_second", "cpu_usage"):
        assert source.read(signal, whom, since, until).value >= 0
    with pytest.raises(NoDataError, match="no llm_service_info of its version"):
        source.tally(subject(version="3.0.0"), since, until)


def test_a_service_of_a_cluster_is_reached_through_what_leads_there(watched: Watched) -> None:
    asked: list[str] = []

    def forward(name: str) -> nullcontext[str]:
        asked.append(name)
        return nullcontext(watched.url)

    config = PrometheusConfig(service="monitoring/prometheus:9090")
    source = PrometheusSource(config, "http", queries={"throughput": "vector(3)"}, forward=forward)
    assert [source.read("throughput", subject(), 1, 2).value for _ in range(2)] == [3, 3]
    assert asked == ["monitoring/prometheus:9090"]
    source.close()
    with pytest.raises(NotMeasuredError, match=r"give canary\.metrics\.prometheus\.url"):
        PrometheusSource(config, "http")
