"""The template evals of openai/evals: Match, Includes, FuzzyMatch and JsonMatch.

Their rules, odd corners included: an empty ideal answer is the beginning and a part of every
text; JSON null never equals anything.
"""

from __future__ import annotations

import json
import re
import string
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_llmdeploy.gates.assertions import AssertionResult
from pytest_llmdeploy.gates.openai_evals.row import result
from pytest_llmdeploy.gates.wording import quote

_ARTICLE = re.compile(r"\b(?:a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


class BadIdealError(ValueError):
    """The sample's ideal answers cannot be used; the text says why."""


def match(text: str, ideals: Sequence[str]) -> bool:
    """Say whether the answer begins with an ideal one."""
    return any(text.startswith(ideal) for ideal in ideals)


def includes(text: str, ideals: Sequence[str], *, ignore_case: bool) -> bool:
    """Say whether an ideal answer stands in the answer."""
    if ignore_case:
        return any(ideal.lower() in text.lower() for ideal in ideals)
    return any(ideal in text for ideal in ideals)


def fuzzy(text: str, ideals: Sequence[str]) -> bool:
    """Say whether, normalised, an ideal answer and the answer contain one another."""
    said = normalised(text)
    for ideal in map(normalised, ideals):
        if said == ideal or (said and ideal and (said in ideal or ideal in said)):
            return True
    return False


def normalised(text: str) -> str:
    """Return the text in lower case, without ASCII punctuation, articles and spare space."""
    return " ".join(_ARTICLE.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def f1(text: str, ideals: Sequence[str]) -> float:
    """Return the best F1 of normalised words: what FuzzyMatch reports beside its accuracy."""
    return max(
        (_f1(normalised(text).split(), normalised(one).split()) for one in ideals), default=0
    )


def _f1(said: Sequence[str], ideal: Sequence[str]) -> float:
    same = (Counter(said) & Counter(ideal)).total()
    return 2 * same / (len(said) + len(ideal)) if same else 0.0


def json_equal(said: Any, ideal: Any) -> bool:
    """Say whether two JSON values are equal, part by part; null equals nothing."""
    if said is None or ideal is None:
        return False
    if isinstance(said, dict) and isinstance(ideal, dict):
        return all(json_equal(said.get(key), ideal.get(key)) for key in {*said, *ideal})
    if isinstance(said, list) and isinstance(ideal, list):
        return len(said) == len(ideal) and all(map(json_equal, said, ideal))
    if isinstance(said, dict | list) or isinstance(ideal, dict | list):
        return False
    return bool(said == ideal)


@dataclass(frozen=True, slots=True)
class Template:
    """One of these classes, as the eval's arguments make it."""

    name: str
    ignore_case: bool = False

    @property
    def judge(self) -> Callable[[str, Sequence[Any]], AssertionResult]:
        """What judges an answer by the sample's ideal answers."""
        return self._judged

    def ideals(self, sample: Mapping[str, Any]) -> list[Any]:
        """Return the ideal answers; for JsonMatch their values. Raises BadIdealError."""
        if "ideal" not in sample:
            raise BadIdealError("the sample has no ideal answer")
        given = sample["ideal"] if isinstance(sample["ideal"], list) else [sample["ideal"]]
        if not all(isinstance(one, str) for one in given):
            raise BadIdealError("ideal must be a text or a list of texts")
        if not given:
            raise BadIdealError("ideal is an empty list: no answer could ever pass")
        if self.name != "JsonMatch":
            return given
        try:
            return [json.loads(one) for one in given]
        except (ValueError, RecursionError) as error:
            raise BadIdealError("the ideal answer is not JSON, as JsonMatch needs it") from error

    def vacuous(self, ideals: Sequence[Any]) -> str | None:
        """Return why every answer passes; None where not every one does."""
        if self.name in ("Match", "Includes") and "" in ideals:
            return f"{self.name}: an empty ideal answer is part of every answer"
        return None

    def _judged(self, text: str, ideals: Sequence[Any]) -> AssertionResult:
        evidence: dict[str, Any] = {}
        if self.name == "Match":
            passed, expected = match(text, ideals), "begin with"
        elif self.name == "Includes":
            passed, expected = includes(text, ideals, ignore_case=self.ignore_case), "contain"
        elif self.name == "FuzzyMatch":
            passed, expected = fuzzy(text, ideals), "contain, or be part of,"
            evidence = {"f1_score": f1(text, ideals)}
        else:
            passed, expected = _json_passes(text, ideals), "be JSON equal to"
        shown = " or ".join(
            quote(one if isinstance(one, str) and self.name != "JsonMatch" else json.dumps(one))
            for one in ideals
        )
        came = "met" if passed else f"got {quote(text)}"
        sentence = f"expected the answer to {expected} {shown}"
        reason = f"{sentence}: {came}" if passed else f"{sentence}, {came}"
        return result(self.name, passed, float(passed), reason, evidence=evidence)


def _json_passes(text: str, ideals: Sequence[Any]) -> bool:
    try:
        said = json.loads(text)
        return any(json_equal(said, ideal) for ideal in ideals)
    except (ValueError, RecursionError):
        return False
