"""What a load run must not do."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_llmdeploy.config.load import LoadLimits
from pytest_llmdeploy.config.models import EnvironmentConfig
from pytest_llmdeploy.errors import NotMeasuredError
from pytest_llmdeploy.load.guards import check_host, check_limits
from pytest_llmdeploy.load.spec import Step, TrafficSpec

PROXIES = (
    "http_proxy",
    "https_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "no_proxy",
    "NO_PROXY",
    "ALL_PROXY",
)


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)


def environment(**keys: Any) -> EnvironmentConfig:
    return EnvironmentConfig(url="http://llm.example", **keys)


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:8000/v1",
        "http://LOCALHOST",
        "http://llm.localhost:80",
        "http://127.0.0.1:1",
        "http://127.9.9.9",
        "https://[::1]:8443/v1",
    ],
)
def test_this_machine_may_always_take_load(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy:3128")
    check_host(url, "local", environment())


@pytest.mark.parametrize(
    "host",
    [
        "llm.example",
        "localhost.example",
        "127.0.0.1.example",
        "10.0.0.1",
        "0.0.0.0",
        "192.168.1.1",
        "[fe80::1]",
        "notlocalhost",
    ],
)
def test_another_host_may_not(host: str) -> None:
    with pytest.raises(NotMeasuredError) as caught:
        check_host(f"http://{host}:8000/v1", "staging", environment(load_hosts=["other.example"]))
    assert str(caught.value) == (
        f"load may not be put on {host.strip('[]')}: to allow it, add it to "
        "environments.staging.load_hosts"
    )


def test_a_host_that_the_environment_names_may() -> None:
    allowed = environment(load_hosts=["LLM.example", "fe80::1"])
    check_host("https://llm.Example:8443/v1", "staging", allowed)
    check_host("http://[fe80::1]/v1", "staging", allowed)
    with pytest.raises(NotMeasuredError):
        check_host("http://a.llm.example", "staging", allowed)


def test_a_proxy_between_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    allowed = environment(load_hosts=["llm.example"])
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    check_host("http://llm.example", "staging", allowed)
    with pytest.raises(NotMeasuredError) as caught:
        check_host("https://llm.example/v1", "staging", allowed)
    assert str(caught.value) == (
        "llm.example would be reached through the proxy of the environment's https_proxy, "
        "which load does not take: add the host to no_proxy where it is reached directly"
    )
    monkeypatch.setenv("no_proxy", "llm.example")
    check_host("https://llm.example/v1", "staging", allowed)


STEADY = TrafficSpec(targets=(), steps=(Step(10, 10, 60),))
USERS = TrafficSpec(targets=(), users=10, duration=60)
LIMITS = {"requests": 600, "tokens": 1000, "seconds": 60}


def test_without_caps_anything_goes_but_where_the_environment_is_protected() -> None:
    assert check_limits(STEADY, "staging", environment()) is None
    with pytest.raises(NotMeasuredError) as caught:
        check_limits(STEADY, "prod", environment(protected=True))
    assert str(caught.value) == (
        "the environment 'prod' is protected: it takes no load without "
        "environments.prod.load_limits: {requests: …, tokens: …, seconds: …}"
    )


@pytest.mark.parametrize("traffic", [STEADY, USERS])
def test_a_run_within_its_caps(traffic: TrafficSpec) -> None:
    allowed = environment(protected=True, load_limits=LIMITS)
    assert check_limits(traffic, "prod", allowed) == LoadLimits(**LIMITS)


@pytest.mark.parametrize(
    ("traffic", "changes", "probes", "message"),
    [
        (STEADY, {"requests": 599}, 1, "the run would send 600 requests; KEY.requests allows 599"),
        (
            STEADY,
            {"seconds": 59.5},
            1,
            "the run would take 60 s of traffic; KEY.seconds allows 59.5",
        ),
        (USERS, {"seconds": 59}, 1, "the run would take 60 s of traffic; KEY.seconds allows 59"),
        (
            TrafficSpec(targets=(), steps=(Step(10, 10, 60),), turns=3),
            {"requests": 1799},
            1,
            "the run would send 1800 requests; KEY.requests allows 1799",
        ),
        (
            TrafficSpec(targets=(), trace=tuple(n / 100 for n in range(601))),
            {},
            1,
            "the run would send 601 requests; KEY.requests allows 600",
        ),
        (STEADY, {"seconds": 999}, 3, "the run would send 1800 requests; KEY.requests allows 600"),
        (
            TrafficSpec(targets=(), users=10, duration=60, locustfile="/a/locustfile.py"),
            {},
            1,
            "a locustfile does not tell its tokens, so KEY.tokens cannot be kept: "
            "give rate, steps, trace or users without it",
        ),
        (STEADY, {}, 3, "the run would take 180 s of traffic; KEY.seconds allows 60"),
    ],
)
def test_a_run_beyond_its_caps_is_not_begun(
    traffic: TrafficSpec, changes: dict[str, float], probes: int, message: str
) -> None:
    allowed = environment(load_limits=LIMITS | changes)
    with pytest.raises(NotMeasuredError) as caught:
        check_limits(traffic, "prod", allowed, probes=probes)
    assert str(caught.value) == message.replace("KEY", "environments.prod.load_limits")
