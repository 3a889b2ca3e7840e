"""What is taken for a verdict where a config has a rubricPrompt of its own."""

from __future__ import annotations

import pytest

from pytest_llmdeploy.gates.assertions.spec import NotEvaluable
from pytest_llmdeploy.gates.promptfoo.assertions.own_rubric import read_verdict


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ('{"reason": "r", "pass": true, "score": 0.4}', (True, 0.4, "r")),
        ('{"pass": false, "score": 1}', (False, 1.0, "")),
        ('{"pass": false}', (False, 0.0, "")),
        ('{"score": 0.2}', (True, 0.2, "")),
        ('```json\n{"pass": true}\n```', (True, 1.0, "")),
    ],
)
def test_a_verdict_has_pass_or_score(reply: str, expected: tuple[bool, float, str]) -> None:
    assert read_verdict(reply) == expected


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        ("", "is no JSON object"),
        ("yes", "is no JSON object"),
        ("[1]", "is no JSON object"),
        ('He said {"pass": true}', "is no JSON object"),
        ('{"reason": "r"}', "has no score from 0 to 1"),
        ('{"pass": "true"}', "has a pass that is not true or false"),
        ('{"pass": true, "score": NaN}', "is no JSON object"),
        ('{"pass": true, "score": 7}', "has no score from 0 to 1"),
        ('{"pass": true, "score": true}', "has no score from 0 to 1"),
    ],
)
def test_anything_else_is_no_verdict(reply: str, why: str) -> None:
    with pytest.raises(NotEvaluable, match=why):
        read_verdict(reply)
