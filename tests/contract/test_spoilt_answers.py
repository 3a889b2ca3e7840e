"""Faults that make a version worse without breaking it, on the real process."""

from __future__ import annotations

import time

from tests.contract.conftest import Running, Start


def seconds(service: Running, fault: str = "", stream: bool = False) -> float:
    begun = time.monotonic()
    service.chat(fault=fault, stream=stream)
    return time.monotonic() - begun


def test_a_worse_answer_is_as_long_and_wrong(scripted: Running) -> None:
    fault = "worse-answers"
    plain = scripted.chat("Say exactly: Bonn has 4 letters", fault=fault).json()
    assert plain["choices"][0]["message"]["content"] == "Obaa unf 9 yrggref"
    assert plain["choices"][0]["finish_reason"] == "stop"
    assert "Obaa" in scripted.chat("Say exactly: Bonn", fault=fault, stream=True).text


def test_a_share_of_the_answers_is_worse(start: Start) -> None:
    service = start("--ttft", "0", "--token-interval", "0", "--fault", "worse-answers=0.5")
    said = [service.chat().json()["choices"][0]["message"]["content"] for _ in range(4)]
    assert [text == "one two three four" for text in said] == [True, False, True, False]


def test_a_whole_answer_is_slower_by_a_factor(start: Start) -> None:
    service = start("--ttft", "0.1", "--token-interval", "0.1")
    for stream in (False, True):
        answer = service.chat(fault="latency-factor=3", stream=stream)
        # Four tokens of 0.1 s each; three times that is the least, whatever the machine does.
        assert answer.elapsed.total_seconds() >= (0.29 if stream else 1.19)
        assert seconds(service, "latency-factor=3", stream=stream) >= 1.19
    assert "four" in service.chat(fault="latency-factor=0.5").text


def test_a_slow_tail_hits_its_share(start: Start) -> None:
    fault = "slow-tail=0.5,tail-factor=20"
    service = start("--ttft", "0.05", "--token-interval", "0", LLM_FAULTS=fault)
    slow = [seconds(service) >= 0.95 for _ in range(4)]
    assert (slow[1], slow[3]) == (True, True)
    assert seconds(start("--ttft", "0.2"), "slow-tail") >= 0.6  # three times, by default


def test_answers_name_a_version_that_does_not_run(start: Start) -> None:
    service = start("--fault", "wrong-version=0.5")
    named = [service.chat().headers["x-llm-version"] for _ in range(4)]
    assert named == ["1.0.0", "1.0.0-wrong"] * 2
    assert service.client.get("/health").headers["x-llm-version"] == "1.0.0"


def test_a_page_without_the_services_metrics(scripted: Running) -> None:
    assert "llm_requests_total" in scripted.client.get("/metrics").text
    page = scripted.client.get("/metrics", headers={"x-llm-fault": "no-metrics"}).text
    assert "llm_" not in page
    assert "process_resident_memory_bytes" in page


def _resident(service: Running) -> float:
    lines = service.client.get("/metrics").text.splitlines()
    return next(float(x.split()[1]) for x in lines if x.startswith("process_resident_memory"))


def test_a_leak_is_resident_memory(start: Start) -> None:
    service = start("--ttft", "0", "--token-interval", "0", "--fault", "leak=20")
    service.chat()
    before = _resident(service)
    for _ in range(3):
        service.chat()
    assert _resident(service) - before >= 55e6


def test_a_leak_has_an_end(start: Start) -> None:
    service = start("--ttft", "0", "--token-interval", "0", "--fault", "leak=300")
    for _ in range(4):
        assert service.chat().status_code == 200
    assert _resident(service) < 700e6
