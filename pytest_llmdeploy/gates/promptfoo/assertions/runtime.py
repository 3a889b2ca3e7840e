"""Assertions on how the answer came about: latency, cost, perplexity, finish-reason."""

from __future__ import annotations

import math
from collections.abc import Mapping

from pytest_llmdeploy.gates.promptfoo.assertions.given import (
    Given,
    Handler,
    Outcome,
    present,
    said,
    scored,
)
from pytest_llmdeploy.gates.promptfoo.providers import ECHO

_REASONS: Mapping[str, str] = {
    "function_call": "tool_calls",
    "tool_use": "tool_calls",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "content_filter",
}
"""Other words of services for the reasons that OpenAI has."""


def latency(given: Given) -> Outcome:
    """Judge ``latency``, in milliseconds; an answer of a record or of the row itself has none."""
    limit = given.limit()
    if limit is None:
        raise given.refuse("it needs a threshold in milliseconds")
    if given.answer.replayed or canned(given):
        raise given.refuse("the answer was not asked for in this run, so it has no latency")
    spent = given.answer.latency * 1000
    return said(given, spent <= limit, f"{spent:.0f} ms, threshold {limit:g} ms")


def cost(given: Given) -> Outcome:
    """Judge ``cost``, in dollars; what no model said cost nothing."""
    limit = given.limit()
    if limit is None:
        raise given.refuse("it needs a threshold in dollars")
    spent = 0.0 if canned(given) else given.answer.cost
    if spent is None:
        raise given.refuse("the answer's cost is not known; give the model a price")
    return said(given, spent <= limit, f"{spent:.2g} dollars, threshold {limit:g}")


def perplexity(given: Given) -> Outcome:
    """Judge ``perplexity``; without a threshold it passes."""
    value, limit = _perplexity(given), given.limit()
    if limit is None:
        return Outcome(True, 1.0, f"perplexity {value:.2f}, no threshold")
    return said(given, value <= limit, f"perplexity {value:.2f}, threshold {limit:g}")


def perplexity_score(given: Given) -> Outcome:
    """Judge ``perplexity-score``: 1 / (1 + perplexity); without a threshold it passes."""
    score = 1 / (1 + _perplexity(given))
    if given.limit() is None:
        kept = 1 - score if given.inverse else score
        return Outcome(True, kept, f"perplexity score {score:.2f}, no threshold")
    return scored(given, score, "perplexity score", 0.0)


def _perplexity(given: Given) -> float:
    logprobs = given.answer.logprobs
    if not logprobs:
        raise given.refuse("the service told no logprobs; ask for them with logprobs: true")
    try:
        return math.exp(-sum(logprobs) / len(logprobs))
    except OverflowError:
        return math.inf


def finish_reason(given: Given) -> Outcome:
    """Judge ``finish-reason`` in any case; a missing one is none."""
    value = given.value if present(given.value) else given.assertion.get("value")
    if not isinstance(value, str):
        raise given.refuse("the value must be a text")
    told = None if canned(given) else given.answer.finish_reason
    reason = _REASONS.get(told.strip().lower(), told.strip()) if told else None
    holds = bool(reason) and value.lower() == str(reason).lower()
    return said(given, holds, f"expected finish reason {value!r}, got {reason!r}")


def canned(given: Given) -> bool:
    """Say whether no model is asked for the row's answer."""
    return bool(given.row.test.get("providerOutput")) or given.row.provider.id == ECHO


HANDLERS: Mapping[str, Handler] = {
    "latency": latency,
    "cost": cost,
    "perplexity": perplexity,
    "perplexity-score": perplexity_score,
    "finish-reason": finish_reason,
}
