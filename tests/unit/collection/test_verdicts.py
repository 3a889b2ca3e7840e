"""Secrets in what a gate found out: hidden, where they are not words of ours."""

from __future__ import annotations

from typing import Any

from pytest_llmdeploy.collection.verdicts import _told
from pytest_llmdeploy.redaction import Redactor


def _all(detail: dict[str, Any], *secrets: str) -> dict[str, Any]:
    redact = Redactor(secrets)
    return {key: _told(key, value, redact) for key, value in detail.items()}


def test_keys_and_verdicts_of_ours_stay() -> None:
    detail = {
        "findings": [{"name": "pass rate", "verdict": "PASS", "reason": "all PASS", "total": 3}],
        "baseline": {"regressed": [{"case": "c", "then": ["usage"], "now": ["Rome"]}]},
        "usage": {"answers": 3, "dollars": None},
    }
    told = _all(detail, "PASS", "regressed", "usage", "answers", "then", "dollars")
    assert told == {
        "findings": [{"name": "pass rate", "verdict": "PASS", "reason": "all ***", "total": 3}],
        "baseline": {"regressed": [{"case": "c", "then": ["***"], "now": ["Rome"]}]},
        "usage": {"answers": 3, "dollars": None},
    }


def test_names_that_are_not_ours_are_redacted_as_keys_too() -> None:
    detail = {
        "metrics": {"of hunter2": {"mean": 1.0, "n": 2}},
        "findings": [{"verdict": "hunter2"}],
    }
    assert _all(detail, "hunter2") == {
        "metrics": {"of ***": {"mean": 1.0, "n": 2}},
        "findings": [{"verdict": "***"}],
    }


def test_the_value_of_a_header_with_a_key_is_hidden_whole() -> None:
    assert _all({"body": {"headers": {"Authorization": "Bearer abc"}}}) == {
        "body": {"headers": {"Authorization": "***"}}
    }
