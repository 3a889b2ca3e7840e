"""The graders of the hosted service: what each looks at, and when it passes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_llmdeploy.config.sentences import shown, suggestion
from pytest_llmdeploy.gates.assertions import AssertionResult, Grading, NotEvaluable
from pytest_llmdeploy.gates.openai_evals import formula, judging, similarity
from pytest_llmdeploy.gates.openai_evals.messages import BadMessageError, fill_messages, texts
from pytest_llmdeploy.gates.openai_evals.row import result
from pytest_llmdeploy.gates.openai_evals.templates import (
    BadTemplateError,
    NotInSampleError,
    fill,
    uses_sample,
)
from pytest_llmdeploy.gates.openai_evals.templates import check as check_template
from pytest_llmdeploy.gates.scoring import TOLERANCE
from pytest_llmdeploy.gates.wording import quote
from pytest_llmdeploy.ports import Message

Values = Mapping[str, Any]
"""The namespaces item and sample."""
_SAMPLING = {
    "temperature": "temperature",
    "top_p": "top_p",
    "seed": "seed",
    "reasoning_effort": "reasoning_effort",
    "max_completions_tokens": "max_tokens",
    "max_completion_tokens": "max_tokens",
}
"""Sampling parameters of a score_model grader, and what a chat request calls them."""


class BadGraderError(ValueError):
    """The grader is no grader of the service; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grader:
    """One testing criterion."""

    name: str
    kind: str
    grade: Callable[[Values, Grading | None], AssertionResult]
    """Judge; raise NotEvaluable, BadTemplateError or NotInSampleError."""
    raw: Mapping[str, Any]
    """As the export has it."""
    templates: Sequence[str] = ()
    asks: bool = False
    """A judge or an embeddings endpoint is asked."""
    model: str | None = None
    """The judging model that the export names."""
    problem: str | None = None
    """Why it cannot be run here."""
    vacuous: str | None = None
    """Why every answer passes, whatever the item."""
    empty_passes: str | None = None
    """The template that, where it comes out empty, lets every answer pass."""

    def check(self, item: Mapping[str, Any]) -> str | None:
        """Return why the grader cannot judge this item; None where it can."""
        if self.problem:
            return self.problem
        try:
            for template in self.templates:
                check_template(template, item)
        except BadTemplateError as error:
            return f"{self.kind} {self.name}: {error}"
        return None

    def passes_anything(self, item: Mapping[str, Any]) -> str | None:
        """Return why every answer to this item passes; None where that is not known."""
        if self.vacuous:
            return self.vacuous
        reference = self.empty_passes
        known = reference is not None and not uses_sample(reference)
        if reference is not None and known and not fill(reference, {"item": item}):
            return "an empty reference is part of every text"
        if self.asks or any(uses_sample(template) for template in self.templates):
            same = self.raw.get("input") == self.raw.get("reference")
            never = self.kind != "string_check" or self.raw.get("operation") == "ne"
            return "it compares a text with itself" if same and not never else None
        if self.grade({"item": item, "sample": {}}, None).passed:
            return "it looks at the item alone"
        return None

    def judge(self, values: Values, grading: Grading | None) -> AssertionResult:
        """Judge an answer; raise NotEvaluable.

        What the answer lacks, such as JSON, is its fault: it fails.
        """
        try:
            return self.grade(values, grading)
        except NotInSampleError as error:
            return result(self.kind, False, 0.0, str(error), metric=self.name)
        except BadTemplateError as error:
            raise NotEvaluable(f"{self.kind} {self.name}: {error}") from error
        except NotEvaluable as error:
            raise NotEvaluable(f"{self.kind} {self.name}: {error}") from error


def read_grader(raw: object, number: int) -> Grader:
    """Return the grader of a testing criterion; raise BadGraderError."""
    if not isinstance(raw, dict):
        raise BadGraderError(f"a grader is a mapping, not {shown(raw)}")
    kind = raw.get("type")
    if kind == "python":
        name = str(raw.get("name") or f"grader {number}")
        return _refused(name, raw, "a python grader is code of the export: it is never run")
    if not isinstance(kind, str) or kind not in _KINDS:
        hint = suggestion(str(kind), _KINDS) or f", expected one of: {', '.join(_KINDS)}, python"
        raise BadGraderError(f"there is no grader type {shown(kind)}{hint}")
    name = str(raw.get("name") or f"{kind} {number}")
    return _KINDS[kind](name, raw)


def _refused(name: str, raw: Mapping[str, Any], why: str) -> Grader:
    def never(_values: Values, _grading: Grading | None) -> AssertionResult:
        raise NotEvaluable(why)

    return Grader(name=name, kind=raw["type"], raw=raw, grade=never, problem=why)


def _text(raw: Mapping[str, Any], key: str) -> str:
    value = raw.get(key)
    if not isinstance(value, str):
        raise BadGraderError(f"{raw['type']}: {key} must be a text, got {shown(value)}")
    return value


def _number(raw: Mapping[str, Any], key: str) -> float | None:
    value = raw.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise BadGraderError(f"{raw['type']}: {key} must be a number, got {shown(value)}")
    return float(value)


def _string_check(name: str, raw: Mapping[str, Any]) -> Grader:
    given, reference = _text(raw, "input"), _text(raw, "reference")
    operation = raw.get("operation")
    if not isinstance(operation, str) or operation not in _OPERATIONS:
        raise BadGraderError(
            f"string_check: operation must be one of {', '.join(_OPERATIONS)}, "
            f"got {shown(operation)}"
        )
    expectation, compare = _OPERATIONS[operation]

    def grade(values: Values, _grading: Grading | None) -> AssertionResult:
        text, wanted = fill(given, values), fill(reference, values)
        passed = compare(text, wanted)
        sentence = f"expected the text {expectation} {quote(wanted)}"
        reason = f"{sentence}: met" if passed else f"{sentence}, got {quote(text)}"
        return result("string_check", passed, float(passed), reason, metric=name)

    return Grader(
        name=name,
        kind="string_check",
        raw=raw,
        grade=grade,
        templates=(given, reference),
        empty_passes=reference if operation in ("like", "ilike") else None,
    )


_OPERATIONS: dict[str, tuple[str, Callable[[str, str], bool]]] = {
    "eq": ("to equal", lambda text, wanted: text == wanted),
    "ne": ("to differ from", lambda text, wanted: text != wanted),
    "like": ("to contain", lambda text, wanted: wanted in text),
    "ilike": ("to contain, whatever the case,", lambda text, want: want.lower() in text.lower()),
}


def _text_similarity(name: str, raw: Mapping[str, Any]) -> Grader:
    given, reference = _text(raw, "input"), _text(raw, "reference")
    metric, threshold = raw.get("evaluation_metric"), _number(raw, "pass_threshold")
    if metric not in similarity.METRICS:
        hint = suggestion(str(metric), similarity.METRICS)
        hint = hint or f", expected one of: {', '.join(similarity.METRICS)}"
        raise BadGraderError(f"text_similarity: there is no metric {shown(metric)}{hint}")

    def grade(values: Values, grading: Grading | None) -> AssertionResult:
        text, wanted = fill(given, values), fill(reference, values)
        score = similarity.measure(str(metric), text, wanted, grading)
        return _by_threshold(f"text_similarity ({metric})", name, score, score, threshold=threshold)

    return Grader(
        name=name,
        kind="text_similarity",
        raw=raw,
        problem=similarity.unsupported(metric),
        grade=grade,
        templates=(given, reference),
        asks=metric == "cosine",
        vacuous=_no_threshold(threshold, 0.0),
    )


def _by_threshold(
    kind: str,
    name: str,
    value: float,
    score: float,
    *,
    threshold: float | None,
    evidence: Mapping[str, Any] | None = None,
) -> AssertionResult:
    """Return the result of a value that must reach a threshold; `score` is it as 0 to 1."""
    passed = threshold is None or value >= threshold - TOLERANCE
    sign = ">=" if passed else "<"
    limit = "no pass_threshold" if threshold is None else f"{sign} pass_threshold {threshold:g}"
    reason = (
        f"{name}: {value:.3f}, {limit}" if threshold is None else f"{name}: {value:.3f} {limit}"
    )
    return result(kind, passed, score, reason, metric=name, evidence=evidence)


def _no_threshold(threshold: float | None, lowest: float) -> str | None:
    if threshold is None:
        return "it has no pass_threshold"
    return f"its pass_threshold is {threshold:g}" if threshold <= lowest else None


def _prompt(raw: Mapping[str, Any]) -> list[dict[str, Any]]:
    messages = raw.get("input")
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    if not isinstance(messages, list) or not messages:
        raise BadGraderError(f"{raw['type']}: input must be a list of messages")
    try:
        list(texts(messages))
    except BadMessageError as error:
        raise BadGraderError(f"{raw['type']}: {error}") from error
    return messages


def _label_model(name: str, raw: Mapping[str, Any]) -> Grader:
    messages = _prompt(raw)
    labels, passing = raw.get("labels"), raw.get("passing_labels")
    for key, value in (("labels", labels), ("passing_labels", passing)):
        if not isinstance(value, list) or not all(isinstance(one, str) and one for one in value):
            raise BadGraderError(f"label_model: {key} must be a list of texts, got {shown(value)}")
    assert isinstance(labels, list)
    assert isinstance(passing, list)
    strange = [label for label in passing if label not in labels]
    if strange or not labels:
        raise BadGraderError(f"label_model: passing_labels has {strange}, which labels has not")
    closing = (
        "Answer with one JSON object and nothing else: "
        f'{{"label": …}}, where the label is one of {", ".join(map(quote, labels))}.'
    )

    def grade(values: Values, grading: Grading | None) -> AssertionResult:
        asked = _with_closing(fill_messages(messages, values), closing)
        votes = judging.ask(
            grading,
            asked,
            {},
            judging.read_label(labels),
            lambda label: (label in passing, float(label in passing)),
        )
        said = ", ".join(map(str, votes.evidence["votes"]))
        sentence = f"expected a label of {', '.join(passing) or 'none'}"
        reason = f"{sentence}, the judge said {said}"
        return result(
            "label_model", votes.passed, votes.score, reason, metric=name, evidence=votes.evidence
        )

    return Grader(
        name=name,
        kind="label_model",
        raw=raw,
        grade=grade,
        templates=tuple(texts(messages)),
        asks=True,
        model=_model(raw),
        vacuous="every label passes" if set(labels) <= set(passing) else None,
    )


def _score_model(name: str, raw: Mapping[str, Any]) -> Grader:
    messages = _prompt(raw)
    threshold = _number(raw, "pass_threshold")
    limits = raw.get("range") or [0, 1]
    if not isinstance(limits, list) or len(limits) != 2:
        raise BadGraderError(f"score_model: range must be two numbers, got {shown(limits)}")
    low, high = (_number({"type": "score_model", "range": one}, "range") for one in limits)
    if low is None or high is None or low >= high:
        raise BadGraderError("score_model: range must be two numbers, the lower one first")
    parameters = _sampling(raw.get("sampling_params"))
    closing = (
        "Answer with one JSON object and nothing else: "
        f'{{"result": …}}, where the result is a number from {low:g} to {high:g}.'
    )

    def grade(values: Values, grading: Grading | None) -> AssertionResult:
        asked = _with_closing(fill_messages(messages, values), closing)
        votes = judging.ask(
            grading,
            asked,
            parameters,
            judging.read_score(low, high),
            lambda number: (True, (number - low) / (high - low)),
        )
        value = low + votes.score * (high - low)
        return _by_threshold(
            "score_model", name, value, votes.score, threshold=threshold, evidence=votes.evidence
        )

    return Grader(
        name=name,
        kind="score_model",
        raw=raw,
        grade=grade,
        templates=tuple(texts(messages)),
        asks=True,
        model=_model(raw),
        vacuous=_no_threshold(threshold, low),
    )


def _multi(name: str, raw: Mapping[str, Any]) -> Grader:
    given = raw.get("graders")
    if isinstance(given, dict) and "type" in given:
        given = {str(given.get("name") or "grader"): given}
    if not isinstance(given, dict) or not given:
        raise BadGraderError("multi: graders must be a mapping of names to graders")
    output, threshold = _text(raw, "calculate_output"), _number(raw, "pass_threshold")
    parts = {str(key): read_grader(one, at) for at, (key, one) in enumerate(given.items(), 1)}
    if any(part.kind == "multi" for part in parts.values()):
        raise BadGraderError("multi: a multi grader cannot hold another")
    try:
        formula.compute(output, dict.fromkeys(parts, 0.5))
    except formula.BadFormulaError as error:
        raise BadGraderError(f"multi: calculate_output: {error}") from error

    def grade(values: Values, grading: Grading | None) -> AssertionResult:
        graded = {key: part.judge(values, grading) for key, part in parts.items()}
        try:
            value = formula.compute(output, {key: one.score for key, one in graded.items()})
        except formula.BadFormulaError as error:
            raise NotEvaluable(f"calculate_output: {error}") from error
        scores = {"parts": {key: one.score for key, one in graded.items()}}
        return _by_threshold("multi", name, value, value, threshold=threshold, evidence=scores)

    return Grader(
        name=name,
        kind="multi",
        raw=raw,
        grade=grade,
        templates=tuple(one for part in parts.values() for one in part.templates),
        asks=any(part.asks for part in parts.values()),
        problem=next((part.problem for part in parts.values() if part.problem), None),
        vacuous="it has no pass_threshold" if threshold is None else None,
    )


_KINDS: dict[str, Callable[[str, Mapping[str, Any]], Grader]] = {
    "string_check": _string_check,
    "text_similarity": _text_similarity,
    "label_model": _label_model,
    "score_model": _score_model,
    "multi": _multi,
}


def _model(raw: Mapping[str, Any]) -> str | None:
    model = raw.get("model")
    return model if isinstance(model, str) else None


def _sampling(raw: object) -> dict[str, Any]:
    if raw is None:
        return {}
    if not isinstance(raw, dict):
        raise BadGraderError(f"score_model: sampling_params must be a mapping, got {shown(raw)}")
    return {_SAMPLING[key]: raw[key] for key in raw if key in _SAMPLING and raw[key] is not None}


def _with_closing(messages: Sequence[Message], closing: str) -> list[Message]:
    """Return the messages with the answer's form at the end of the last one.

    The service asks for it by a schema, which not every endpoint knows.
    """
    *before, last = messages
    content = last["content"]
    if isinstance(content, str):
        return [*before, {**last, "content": f"{content}\n\n{closing}"}]
    return [*before, {**last, "content": [*content, {"type": "text", "text": closing}]}]
