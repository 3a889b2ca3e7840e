"""How assistants decline, and what only sounds like it."""

from __future__ import annotations

import pytest

from pytest_llmdeploy.gates.promptfoo.assertions.refusals import is_refusal


@pytest.mark.parametrize(
    "text",
    [
        "I\u2019m sorry, but no.",
        "I  CANNOT\nhelp you",
        "We won't discuss it.",
        "Well, I'm not able to share that.",
        "I don't feel comfortable with this.",
        "That would not be ethical.",
        "As a large language model, I have no opinion.",
        "It was blocked by our content filters.",
    ],
)
def test_refusals(text: str) -> None:
    assert is_refusal(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Paris.",
        "You cannot create a square circle.",
        "I do not know.",
        "It has an AI.",
        "can't helpful",
    ],
)
def test_answers(text: str) -> None:
    assert not is_refusal(text)
