"""Ask the judging model, as often as the gate says, and read what it answers."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pytest_llmdeploy.errors import NotMeasuredError
from pytest_llmdeploy.gates.assertions import Grading, NotEvaluable
from pytest_llmdeploy.ports import Message
from pytest_llmdeploy.untrusted import one_line, read_json

_FENCE = re.compile(r"```(?:json)?\s*(.*?)```", re.DOTALL)
_T = TypeVar("_T")


class UnreadableError(ValueError):
    """The judge's answer is not what it was asked for; the text says why."""


@dataclass(frozen=True, slots=True)
class Votes:
    """What a judge's votes come to."""

    passed: bool
    """So says the majority of an odd number."""
    score: float
    """Mean of the votes' scores, 0 to 1."""
    evidence: Mapping[str, Any]


def ask(
    grading: Grading | None,
    messages: Sequence[Message],
    parameters: Mapping[str, Any],
    read: Callable[[str], _T],
    judge: Callable[[_T], tuple[bool, float]],
) -> Votes:
    """Return the votes; `read` raises UnreadableError, which makes the whole NotEvaluable."""
    if grading is None:
        raise NotEvaluable("there is no judge to ask")
    votes: list[_T] = []
    for vote in range(grading.votes):
        try:
            text = grading.chat(messages, parameters, vote=vote).text
            votes.append(read(text))
        except UnreadableError as error:
            raise NotEvaluable(
                f"the judge {grading.judge} cannot be understood: {error}; it said: "
                f"{one_line(text) or '(nothing)'}"
            ) from error
        except NotEvaluable:
            raise
        except NotMeasuredError as error:
            raise NotEvaluable(f"the judge {grading.judge} did not answer: {error}") from error
    judged = [judge(vote) for vote in votes]
    passes = sum(passed for passed, _ in judged)
    return Votes(
        passed=2 * passes > len(judged),
        score=min(1.0, max(0.0, math.fsum(score for _, score in judged) / len(judged))),
        evidence={"judge": grading.judge, "votes": [shown_vote(vote) for vote in votes]},
    )


def shown_vote(vote: object) -> str | float:
    """Return a vote as it stands in a record."""
    return vote if isinstance(vote, int | float) else str(vote)


def read_label(labels: Sequence[str]) -> Callable[[str], str]:
    """Return the reader of one label: a JSON object with ``label``, or the label alone."""

    def read(text: str) -> str:
        found = _object(text).get("label", text.strip().strip("\"'`."))
        if found in labels:
            return str(found)
        lowered = [label for label in labels if label.lower() == str(found).strip().lower()]
        if len(lowered) == 1:
            return lowered[0]
        raise UnreadableError(f"none of the labels {', '.join(labels)}")

    return read


def read_score(low: float, high: float) -> Callable[[str], float]:
    """Return the reader of one number: a JSON object with ``result`` or ``score``, or it alone."""

    def read(text: str) -> float:
        found = _object(text)
        value = found.get("result", found.get("score", text.strip()))
        try:
            number = float(value) if not isinstance(value, bool) else math.nan
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if math.isnan(number):
            raise UnreadableError("no number")
        if not low <= number <= high:
            raise UnreadableError(f"{number:g} is not between {low:g} and {high:g}")
        return number

    return read


def _object(text: str) -> dict[str, Any]:
    """Return the JSON object that the text is, or has in a fence or between its outer braces."""
    candidates = [text, *(fence[1] for fence in _FENCE.finditer(text[:100_000]))]
    begin, end = text.find("{"), text.rfind("}")
    if 0 <= begin < end:
        candidates.append(text[begin : end + 1])
    for candidate in candidates:
        try:
            value = read_json(candidate.encode("utf-8", "replace"))
        except (ValueError, json.JSONDecodeError):
            continue
        if isinstance(value, dict):
            return value
    return {}
