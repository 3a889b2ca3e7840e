"""A case's result on its way to the record: without secrets, and whatever went wrong."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from typing import Any

from pytest_llmdeploy.gates.case import Case
from pytest_llmdeploy.gates.suite import judge_samples, unanswered

Redact = Callable[[Any], Any]
LONGEST_TRACEBACK = 4000
"""Characters; its end tells most."""
_FOREIGN = ("text", "extra", "error", "model", "version", "finish_reason")
"""Parts of a sample that came from elsewhere; all else is ours and holds no secret."""


def redacted(result: Mapping[str, Any], redact: Redact) -> dict[str, Any]:
    """Return the result with secrets hidden in what came from elsewhere.

    Only there: a secret that happens to be a word of ours must not change keys or verdicts.
    """
    samples = [
        {
            **sample,
            **{key: redact(sample[key]) for key in _FOREIGN if key in sample},
            "assertions": [_assertion(check, redact) for check in sample.get("assertions", ())],
        }
        for sample in result["samples"]
    ]
    return {
        **result,
        "reason": redact(result["reason"]),
        "messages": [
            {"role": message["role"], **_content(message, redact)} for message in result["messages"]
        ],
        "samples": samples,
    }


def _assertion(check: Mapping[str, Any], redact: Redact) -> dict[str, Any]:
    """Return the result of an assertion, and of those of a set: they quote answers and judges."""
    hidden = {**check, "reason": redact(check["reason"])}
    if "evidence" in check:
        hidden["evidence"] = {key: redact(value) for key, value in check["evidence"].items()}
    if "parts" in check:
        hidden["parts"] = [_assertion(part, redact) for part in check["parts"]]
    return hidden


def _content(message: Mapping[str, Any], redact: Redact) -> dict[str, Any]:
    return {key: redact(value) for key, value in message.items() if key != "role"}


def surprise(case: Case, error: Exception, redact: Redact) -> dict[str, Any]:
    """Return the ERROR of a case that something unforeseen kept from being judged."""
    trace = "".join(traceback.format_exception(error))[-LONGEST_TRACEBACK:]
    result = judge_samples(case, [unanswered(redact(trace))])
    return {
        **result,
        "reason": redact(f"unexpected {type(error).__name__}: {error}"),
        "messages": [],
    }
