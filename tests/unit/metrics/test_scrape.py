"""Scraping replicas and proxies, with real servers."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from pytest_llmdeploy.errors import MissingExtraError, NoDataError, NotMeasuredError, PlatformError
from pytest_llmdeploy.metrics import scrape
from pytest_llmdeploy.metrics.limits import Limits
from pytest_llmdeploy.metrics.scrape import ScrapeSource
from pytest_llmdeploy.ports import Subject, Tally
from tests.unit.metrics.servers import Said, serving

T0 = 1_000_000.0


class Pods:
    """Replicas that are servers of the test, and a source that scrapes them."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self.servers: dict[str, Said] = {}
        self.reached: list[str] = []
        self.left: list[str] = []
        self.now = T0

    def add(self, name: str) -> Said:
        self.servers[name] = self._stack.enter_context(serving())
        return self.servers[name]

    @contextmanager
    def reach(self, pod: str) -> Iterator[str]:
        if pod not in self.servers:
            raise PlatformError(f"no process of replica '{pod}' runs")
        self.reached.append(pod)
        yield self.servers[pod].url
        self.left.append(pod)

    def subject(self, *pods: str) -> Subject:
        return Subject("canary", "green", "2.0.0", pods or tuple(self.servers))

    def source(self, preset: str = "reference", **options: object) -> ScrapeSource:
        one = ScrapeSource(
            preset,
            reach=self.reach,
            clock=lambda: self.now,
            limits=Limits(cpu_cores=0.5, memory_bytes=1000),
        )
        self._stack.callback(one.close)
        return one

    def look(self, source: ScrapeSource, at: float, *pods: str) -> None:
        self.now = T0 + at
        source.look([self.subject(*pods)])

    def tally(self, source: ScrapeSource, since: float, until: float, *pods: str) -> Tally:
        return source.tally(self.subject(*pods), T0 + since, T0 + until)


@pytest.fixture
def pods() -> Iterator[Pods]:
    with ExitStack() as stack:
        yield Pods(stack)


def page(good: float, bad: float | None = None, extra: str = "") -> str:
    route = 'route="/v1/chat/completions"'
    text = f'llm_requests_total{{{route},code="200"}} {good}\n'
    if bad is not None:
        text += f'llm_requests_total{{{route},code="500"}} {bad}\n'
    return f"# HELP llm_requests_total …\n# TYPE llm_requests_total counter\n{text}{extra}"


def test_replicas_are_added_up_between_two_looks(pods: Pods) -> None:
    source = pods.source()
    for name in ("g-1", "g-2"):
        pods.add(name).text = page(100, 7, 'llm_requests_total{route="/health",code="200"} 5\n')
    pods.look(source, 0)
    pods.servers["g-1"].text = page(110, 8)
    pods.servers["g-2"].text = page(103, 7)
    pods.look(source, 5)
    pods.servers["g-1"].text = page(500, 8)
    pods.look(source, 10)
    tally = pods.tally(source, 0, 9)
    assert (tally.requests, tally.errors) == (14, 1)
    assert tally.query.startswith(
        "scrape: llm_requests_total of g-1, g-2, samples of 13:46:40.0 to 13:46:45.0 UTC"
    )
    assert pods.tally(source, 4.5, 10).requests == 390
    reading = source.read("throughput", pods.subject(), T0, T0 + 10)
    assert reading.value == pytest.approx(404 / 10)
    assert reading.n == 404
    assert source.read("error_rate", pods.subject(), T0, T0 + 10).value == 1 / 404


def test_a_connection_is_kept(pods: Pods) -> None:
    source, server = pods.source(), pods.add("g-1")
    server.text = page(1)
    for at in range(5):
        pods.look(source, at)
    assert pods.reached == ["g-1"]
    assert len(server.connections) == 1
    assert {path for path, _ in server.asked} == {"/metrics"}
    assert pods.left == []
    source.close()
    assert pods.left == ["g-1"]


def test_a_process_that_was_restarted_counts_on(pods: Pods) -> None:
    source, server = pods.source(), pods.add("g-1")
    for at, text in enumerate([page(100), page(105, 2), page(3), page(4, 1)]):
        server.text = text
        pods.look(source, at * 5)
    tally = pods.tally(source, 0, 15)
    assert (tally.requests, tally.errors) == (5 + 2 + 4 + 1, 3)


@pytest.mark.parametrize(
    ("first", "second", "why"),
    [
        (page(5), page(5), "0 of 0 requests: there was none"),
        (page(float("nan")), page(5), "the value is nan, which is no measurement"),
        (page(5), page(float("inf")), "the value is nan, which is no measurement"),
        ("", "", "no such series"),
        ("other 1\n", "other 2\n", "no such series"),
    ],
)
def test_no_data(pods: Pods, first: str, second: str, why: str) -> None:
    source, server = pods.source(), pods.add("g-1")
    server.text = first
    pods.look(source, 0)
    server.text = second
    pods.look(source, 5)
    with pytest.raises(NoDataError) as raised:
        pods.tally(source, 0, 5)
    assert str(raised.value).startswith("scrape: llm_requests_total of g-1")
    assert str(raised.value).endswith(why)


def test_one_sample_is_no_span_and_an_old_one_is_stale(pods: Pods) -> None:
    source = pods.source()
    pods.add("g-1").text = page(5)
    pods.look(source, 0)
    with pytest.raises(NoDataError, match=r"the 5 s of .* have fewer than two samples"):
        pods.tally(source, 0, 5)
    pods.look(source, 5)
    with pytest.raises(NoDataError, match="stale: the latest sample is 25 s old, more than 13 s"):
        pods.tally(source, 0, 30)


@pytest.mark.parametrize(
    ("status", "text", "why"),
    [
        (500, "", "could not be scraped: GET /metrics was answered with 500"),
        (200, "llm_requests_total{ 5\n", "could not be scraped: "),
        (200, "llm_requests_total five\n", "could not be scraped: could not convert string"),
        (302, "", "could not be scraped: GET /metrics was answered with 302"),
    ],
)
def test_a_replica_that_cannot_be_scraped_is_named(
    pods: Pods, status: int, text: str, why: str
) -> None:
    source = pods.source()
    pods.add("g-1").text = page(5)
    server = pods.add("g-2")
    server.text = page(5)
    pods.look(source, 0)
    server.status, server.text = status, text
    pods.look(source, 5)
    with pytest.raises(NoDataError) as raised:
        pods.tally(source, 0, 5)
    assert str(raised.value).startswith(f"scrape: llm_requests_total of g-1, g-2: g-2 {why}")
    assert pods.left == ["g-2"]
    server.status, server.text = 200, page(9)
    pods.look(source, 10)
    assert pods.tally(source, 0, 10).requests == 4
    assert pods.reached == ["g-1", "g-2", "g-2"]


def test_an_endless_answer_is_given_up(pods: Pods, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrape, "LARGEST", 20)
    monkeypatch.setattr(scrape, "TIMEOUT", 0.3)
    source, server = pods.source(), pods.add("g-1")
    server.trickle = True
    pods.look(source, 0)
    with pytest.raises(NoDataError, match=r"GET /metrics(: more than 0 MiB| took more than)"):
        pods.tally(source, 0, 5)
    server.trickle, server.text = False, page(5) * 10
    pods.look(source, 5)
    with pytest.raises(NoDataError, match="GET /metrics: more than 0 MiB"):
        pods.tally(source, 0, 5)


def test_replicas_that_are_gone_counted_what_they_counted(pods: Pods) -> None:
    source = pods.source()
    for name in ("g-1", "g-2"):
        pods.add(name).text = page(0)
    pods.look(source, 0)
    for server in pods.servers.values():
        server.text = page(10)
    pods.look(source, 5)
    pods.look(source, 10, "g-2")
    assert pods.tally(source, 0, 10, "g-2").requests == 20
    assert pods.left == ["g-1"]
    with pytest.raises(NoDataError, match="g-1 is gone"):
        pods.tally(source, 0, 10)
    pods.look(source, 15, "g-3")
    with pytest.raises(NoDataError, match="g-3 could not be scraped: no process of replica 'g-3'"):
        pods.tally(source, 0, 10, "g-3")
    with pytest.raises(NoDataError, match="g-4 was not scraped yet"):
        pods.tally(source, 0, 10, "g-4")
    with pytest.raises(NoDataError, match="the canary version has nothing to scrape"):
        source.tally(Subject("canary", "green", "2.0.0"), T0, T0 + 10)


def test_cpu_is_a_mean_and_memory_the_largest(pods: Pods) -> None:
    source = pods.source()
    for name, memory in (("g-1", 100), ("g-2", 400)):
        text = "process_cpu_seconds_total {}\nprocess_resident_memory_bytes " + str(memory)
        pods.add(name).text = text.format(10) + "\n"
    pods.look(source, 0)
    for name, seconds in (("g-1", 11), ("g-2", 14)):
        server = pods.servers[name]
        server.text = server.text.replace("seconds_total 10", f"seconds_total {seconds}")
    pods.look(source, 10)
    cpu = source.read("cpu_usage", pods.subject(), T0, T0 + 10)
    assert cpu.value == pytest.approx((0.1 + 0.4) / 2 / 0.5)
    memory_usage = source.read("memory_usage", pods.subject(), T0, T0 + 10)
    assert memory_usage.value == 0.4
    assert memory_usage.query.endswith("UTC, largest of 2, of 1000 bytes")


def test_histograms(pods: Pods) -> None:
    source, server = pods.source(), pods.add("g-1")

    def text(*counts: int) -> str:
        name = "llm_time_to_first_token_seconds_bucket"
        edges = zip(("0.1", "0.2", "+Inf"), counts, strict=True)
        return page(counts[-1]) + "".join(f'{name}{{le="{e}"}} {c}\n' for e, c in edges)

    server.text = text(1, 1, 1)
    pods.look(source, 0)
    server.text = text(1, 11, 11)
    pods.look(source, 5)
    tally = pods.tally(source, 0, 5)
    assert tally.ttft == ((0.1, 0), (0.2, 10), (float("inf"), 0))
    assert tally.latency == ()
    assert source.read("ttft_p50", pods.subject(), T0, T0 + 5).value == pytest.approx(0.15)


ENVOY = """# TYPE envoy_cluster_upstream_rq_xx counter
envoy_cluster_upstream_rq_xx{envoy_response_code_class="2",envoy_cluster_name="blue"} %(blue)d
envoy_cluster_upstream_rq_xx{envoy_response_code_class="2",envoy_cluster_name="green"} %(green)d
envoy_cluster_upstream_rq_xx{envoy_response_code_class="5",envoy_cluster_name="green"} %(bad)d
envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name="green",le="500"} %(green)d
envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name="green",le="1000"} %(green)d
envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name="green",le="+Inf"} %(green)d
"""
GATEWAY = (
    ENVOY.replace("envoy_cluster_name=", "cluster_name=")
    .replace("envoy_response_code_class=", "response_code_class=")
    .replace('="2"', '="2xx"')
    .replace('="5"', '="5xx"')
    .replace('"green"', '"outbound|80|green|llm-service-versions.shop.svc.cluster.local"')
    .replace('"blue"', '"outbound|80|blue|llm-service-versions.shop.svc.cluster.local"')
)


@pytest.mark.parametrize("text", [ENVOY, GATEWAY])
def test_a_proxy_tells_both_versions(text: str) -> None:
    with serving() as envoy:
        now = [T0]
        source = ScrapeSource(
            "envoy",
            addresses=lambda: [envoy.url],
            namespace="shop",
            service="llm-service",
            clock=lambda: now[0],
        )
        subjects = [Subject("stable", "blue", "1"), Subject("canary", "green", "2")]
        envoy.text = text % {"blue": 5, "green": 10, "bad": 1}
        source.look(subjects)
        now[0] += 5
        envoy.text = text % {"blue": 905, "green": 30, "bad": 4}
        source.look(subjects)
        assert {path for path, _ in envoy.asked} == {"/stats/prometheus"}
        stable, canary = (source.tally(one, T0, T0 + 5) for one in subjects)
        assert (stable.requests, stable.errors) == (900, 0)
        assert (canary.requests, canary.errors) == (23, 3)
        assert canary.latency == ((0.5, 20), (1.0, 0), (float("inf"), 0))
        assert source.read("latency_p95", subjects[1], T0, T0 + 5).value == pytest.approx(0.475)
        assert not source.offers("cpu_usage")
        envoy.status = 503
        source.look(subjects)
        with pytest.raises(NoDataError, match="could not be scraped: GET /stats/prometheus was"):
            source.tally(subjects[0], T0, T0 + 5)
        source.close()


def test_what_it_offers(pods: Pods) -> None:
    assert pods.source().offers("tally")
    assert pods.source().offers("cpu_usage")
    assert not pods.source().offers("truncated")
    assert not ScrapeSource("reference", reach=pods.reach).offers("cpu_usage")
    assert not ScrapeSource("reference", addresses=list).offers("tally")
    assert not ScrapeSource("envoy", reach=pods.reach).offers("tally")
    with pytest.raises(NotMeasuredError, match="truncated is not among what its preset names"):
        pods.source().read("truncated", pods.subject("g-1"), 1, 2)


def test_a_series_without_the_label_of_errors_is_ambiguous(pods: Pods) -> None:
    source, server = pods.source(), pods.add("g-1")
    server.text = 'llm_requests_total{route="/v1/x"} 5\n'
    pods.look(source, 0)
    pods.look(source, 5)
    with pytest.raises(NotMeasuredError, match="none of the labels code, so nothing tells errors"):
        pods.tally(source, 0, 5)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client.parser", None)
    with pytest.raises(MissingExtraError, match=r"'scrape' of canary.metrics needs .*prometheus\]"):
        ScrapeSource("reference", reach=None)
