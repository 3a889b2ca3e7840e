"""Sums and means over the answers of a gate."""

from __future__ import annotations

from typing import Any

from pytest_llmdeploy.gates.summary import summarize


def answered(latency: float = 1.0, **keys: Any) -> dict[str, Any]:
    tokens = {"prompt_tokens": 3, "completion_tokens": 2, "cost": 0.5}
    return {"text": "x", "latency": latency, "assertions": [], **tokens, **keys}


def results(*samples: dict[str, Any]) -> dict[str, Any]:
    return {f"c{n}": {"samples": [sample]} for n, sample in enumerate(samples)}


def test_sums_and_latency_leave_out_what_was_not_answered_or_replayed() -> None:
    told = summarize(
        results(*(answered(n) for n in range(1, 21)), {"error": "no"}, answered(99, replayed=True))
    )
    assert told == {
        "usage": {
            "answers": 21,
            "prompt_tokens": 63,
            "completion_tokens": 42,
            "dollars": 10.5,
        },
        "replayed": 1,
        "latency": {"p50": 10, "p95": 19},
    }


def test_what_is_not_known_of_one_answer_is_not_known_of_all() -> None:
    told = summarize(results(answered(), answered(cost=None)))
    assert told["usage"]["dollars"] is None
    assert summarize({})["usage"]["prompt_tokens"] is None


def test_metrics_and_judges_of_nested_assertions() -> None:
    evidence = {"judge": "j", "prompt_sha256": "abc"}
    inner = {"type": "llm-rubric", "score": 0.5, "metric": "tone", "evidence": evidence}
    outer = {"type": "assert-set", "score": 1.0, "metric": "tone", "parts": [inner, inner]}
    told = summarize(results(answered(assertions=[outer])))
    assert told["metrics"] == {"tone": {"mean": 2 / 3, "n": 3}}
    assert told["judges"] == [
        {"type": "llm-rubric", "judge": "j", "prompt_sha256": "abc", "verdicts": 2}
    ]
