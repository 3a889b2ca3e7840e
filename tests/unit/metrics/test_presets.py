"""Which series are a version's, by the names that servers and proxies use."""

from __future__ import annotations

import pytest

from pytest_llmdeploy.config.canary import SIGNALS
from pytest_llmdeploy.metrics.limits import Limits
from pytest_llmdeploy.metrics.presets import PRESETS, Match, quoted, subject_matches
from pytest_llmdeploy.metrics.sampled import SampledSource
from pytest_llmdeploy.ports import Subject

GREEN = Subject("canary", "green", "2.0.0", ("g-1", "g-2"))


@pytest.mark.parametrize(
    ("cluster", "own"),
    [
        ("green", True),
        ("blue", False),
        ("outbound|80|green|llm-service-versions.default.svc.cluster.local", True),
        ("outbound|8080|green|llm-service.default.svc.cluster.local;", True),
        ("outbound|80||llm-service-green.default.svc.cluster.local", True),
        ("outbound|80|blue|llm-service-versions.default.svc.cluster.local", False),
        ("outbound|80||llm-service-versions.default.svc.cluster.local", False),
        ("outbound|80|green|other.default.svc.cluster.local", False),
        ("outbound|80|green|llm-service.shop.svc.cluster.local", False),
        ("outbound|80|green|llm-services.default.svc.cluster.local", False),
        ("evergreen", False),
    ],
)
def test_clusters_of_a_colour(cluster: str, own: bool) -> None:
    found = subject_matches("cluster", GREEN, (), "default", "llm-service")
    for (match,), label in zip(found, ("envoy_cluster_name", "cluster_name"), strict=True):
        assert match.holds({label: cluster}) is own


def test_pods_are_named_and_their_namespace_where_there_is_one() -> None:
    ((pod, namespace),) = subject_matches("pod", GREEN, ("g-1", "g.2"), "shop", "")
    assert pod.promql() == 'pod=~"g-1|g\\\\.2"'
    assert not pod.holds({"pod": "gx2"})
    assert namespace.promql() == 'namespace=~"shop|"'
    assert namespace.holds({})
    assert not namespace.holds({"namespace": "other"})
    assert subject_matches("pod", GREEN, (), "shop", "") == []


def test_workloads_are_counted_at_one_end() -> None:
    found = subject_matches("workload", GREEN, (), "shop", "llm")
    assert [[match.promql() for match in one] for one in found] == [
        [
            f'reporter=~"{end}"',
            'destination_workload=~"llm-green"',
            'destination_workload_namespace=~"shop"',
        ]
        for end in ("destination", "source")
    ]


@pytest.mark.parametrize(
    ("preset", "label", "errors", "fine"),
    [
        ("reference", "code", ["500", "503", "429"], ["200", "404", "499"]),
        ("http", "status", ["5xx", "502"], ["2xx", "404"]),
        ("vllm", "status", ["5xx"], ["2xx", "4xx"]),
        ("envoy", "envoy_response_code_class", ["5"], ["2", "4"]),
        ("envoy", "response_code_class", ["5xx"], ["2xx"]),
        ("istio", "response_code", ["503", "0"], ["200"]),
    ],
)
def test_what_is_an_error(preset: str, label: str, errors: list[str], fine: list[str]) -> None:
    one = PRESETS[preset]
    assert label in one.error_labels
    match = Match(label, one.errors)
    assert all(match.holds({label: value}) for value in errors)
    assert not any(match.holds({label: value}) for value in fine)


def test_probes_are_no_requests_of_users() -> None:
    where = PRESETS["http"].requests.where
    assert all(match.holds({"handler": "/v1/models"}) for match in where)
    assert all(match.holds({}) for match in where)
    assert not all(match.holds({"path": "/metrics"}) for match in where)


def test_a_quoted_text_matches_itself_only() -> None:
    text = r"a.b\c[d]{e}(f)*+?|^$"
    assert Match("x", quoted(text)).holds({"x": text})
    assert not Match("x", quoted("a.b")).holds({"x": "axb"})
    assert not Match("x", "a").holds({"x": "a\n"})


def test_what_presets_offer() -> None:
    limits = Limits(cpu_cores=1, memory_bytes=1)
    lacking = {
        name: {one for one in SIGNALS if not SampledSource(preset, limits).offers(one)}
        for name, preset in PRESETS.items()
    }
    proxies = {"truncated", "ttft_p50", "ttft_p95", "itl_p95", "tokens_per_second"}
    assert lacking == {
        "reference": {"truncated"},
        "http": proxies,
        "vllm": {"truncated"},
        "envoy": proxies,
        "istio": proxies,
    }
    assert not SampledSource(PRESETS["reference"], Limits()).offers("cpu_usage")
    assert not SampledSource(PRESETS["reference"], Limits()).offers("memory_usage")
