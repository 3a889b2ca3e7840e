"""A row's answer, judged by promptfoo's rules: what each assertion says, and the row's score."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pytest_llmdeploy.config.sentences import shown
from pytest_llmdeploy.gates.assertions import AssertionResult, Grading, NotEvaluable
from pytest_llmdeploy.gates.promptfoo import transforms
from pytest_llmdeploy.gates.promptfoo.assertions import HANDLERS, given
from pytest_llmdeploy.gates.promptfoo.assertions.unsupported import reason_for
from pytest_llmdeploy.gates.promptfoo.code import RaisedError
from pytest_llmdeploy.gates.promptfoo.js_values import UNDEFINED, stringify, to_number
from pytest_llmdeploy.gates.promptfoo.nunjucks import TemplateError, render
from pytest_llmdeploy.gates.promptfoo.row import Row
from pytest_llmdeploy.gates.promptfoo.values import loaded
from pytest_llmdeploy.gates.scoring import SampleScore
from pytest_llmdeploy.ports import Answer, Message

SET = "assert-set"
_NONE_OF_NOTHING = frozenset(
    {"contains-all", "icontains-all", "not-contains-any", "not-icontains-any"}
)
_AT_LEAST = frozenset({"rouge-n", "bleu", "gleu", "perplexity-score", "tool-call-f1", "similar"})
_AT_MOST = frozenset({"levenshtein", "latency", "cost", "perplexity"})


def evaluate_row(
    row: Row, messages: Sequence[Message], answer: Answer, grading: Grading | None
) -> Sequence[AssertionResult]:
    """Return what each assertion of the row says, a set as one; raise NotEvaluable.

    The results of sets come last: the last of what fails gives the row its reason.
    """
    asked = _Asked(row, messages, answer, grading)
    single = [asked.judged(one) for one in row.asserts if one.get("type") != SET]
    return single + [asked.judged_set(one) for one in row.asserts if one.get("type") == SET]


def score_row(row: Row, results: Sequence[AssertionResult]) -> SampleScore:
    """Return the row's score: the weighted mean, which alone decides where there is a threshold.

    Without a result the row passes with a score of 1; where all weights are 0 its score is 0.
    """
    if not row.asserts:
        return SampleScore(True, 1.0, "the row has no assertion")
    return _total(results, row.threshold)


def vacuity(row: Row) -> str | None:
    """Return why the row passes whatever the answer; None where it depends on it."""
    if not row.asserts:
        return "no assertion"
    if row.threshold is not None:
        return f"threshold {row.threshold:g}" if row.threshold <= 0 else None
    every = list(_every(row.asserts))
    if all(_weight(one) == 0 for one in every if one.get("type") != SET):
        return "the weight of every assertion is 0"
    sets = [one for one in row.asserts if one.get("type") == SET]
    open_sets = [one for one in sets if _number(one.get("threshold"), 1.0) <= 0]
    rest = [one for one in row.asserts if one not in open_sets and _weight(one) != 0]
    if not rest:
        return "the threshold of every assert-set is 0"
    if all(_holds_anyway(one) for one in rest):
        return "no assertion depends on the answer"
    return None


def _holds_anyway(one: Mapping[str, Any]) -> bool:
    """Say whether an assertion passes whatever the answer: nothing to find, a limit of nothing."""
    kind, limit = str(one.get("type")), one.get("threshold")
    if kind in _NONE_OF_NOTHING:
        return one.get("value") == []
    if isinstance(limit, bool) or not isinstance(limit, int | float):
        return False
    if kind in _AT_LEAST:
        return limit <= 0
    return kind in _AT_MOST and limit == math.inf


def unsupported(row: Row) -> str | None:
    """Return why the row cannot be judged here; None where it can."""
    if row.test.get("assertScoringFunction") is not None:
        return "assertScoringFunction: a scoring function of its own is not run"
    if problem := _malformed(row):
        return problem
    for one in _every(row.asserts):
        if reason := reason_for(one):
            return reason
    return transforms.unsupported(row)


def _malformed(row: Row) -> str | None:
    """Return what of the row's assertions nobody can read: it must not be judged without them."""
    limit = row.threshold
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int | float)):
        return f"threshold: expected a number, got {shown(limit)}"
    try:
        for one in _every([*row.asserts, *(row.test.get("assert") or ())]):
            if not isinstance(one, Mapping):
                return f"assert: expected a mapping with a type, got {shown(one)}"
            _weight(one)
    except NotEvaluable as error:
        return str(error)
    return None


class _Asked:
    """An answer, with what the row's transforms make of it."""

    def __init__(
        self,
        row: Row,
        messages: Sequence[Message],
        answer: Answer,
        grading: Grading | None,
    ) -> None:
        self.row, self.messages, self.answer, self.grading = row, messages, answer, grading
        self.output = transforms.of_row(row, answer) if row.asserts else answer.text

    def judged_set(self, written: Mapping[str, Any]) -> AssertionResult:
        parts = written.get("assert")
        if not isinstance(parts, list) or any(one.get("type") == SET for one in parts):
            raise NotEvaluable("assert-set: it needs a list of assertions, none of them a set")
        results = [self.judged(one) for one in parts]
        limit = written.get("threshold")
        numeric = isinstance(limit, int | float) and not isinstance(limit, bool)
        total = _total(results, limit if numeric else None)
        return AssertionResult(
            SET,
            total.passed,
            total.score,
            total.reason,
            weight=_weight(written),
            metric=self.metric(written),
            parts=results,
        )

    def judged(self, written: Mapping[str, Any]) -> AssertionResult:
        kind = written.get("type")
        if not isinstance(kind, str) or not kind:
            raise NotEvaluable("an assertion of the row has no type")
        inverse = kind.startswith("not-")
        base = kind.removeprefix("not-")
        if reason := reason_for(written):
            raise NotEvaluable(reason)
        output = self.output
        if written.get("transform"):
            output = transforms.of_assertion(written["transform"], output, self.row, self.answer)
        value, scripted = loaded(written, output, self.row, self.answer)
        asked = given.Given(
            kind=base,
            inverse=inverse,
            assertion=written,
            value=value,
            scripted=scripted,
            output=output,
            text=output if isinstance(output, str) else stringify(output),
            row=self.row,
            answer=self.answer,
            messages=self.messages,
            grading=self.grading,
        )
        if isinstance(scripted, RaisedError):
            # Whatever the type, and with not- as well.
            outcome = given.Outcome(False, 0.0, f"the code raised {scripted}")
        else:
            outcome = HANDLERS[base](asked)
        if math.isnan(outcome.score):
            raise NotEvaluable(f"{kind}: its score is not a number")
        weight = _weight(written)
        return AssertionResult(
            kind,
            outcome.passed or weight == 0,
            outcome.score,
            outcome.reason,
            weight=weight,
            metric=self.metric(written),
            evidence=outcome.evidence,
        )

    def metric(self, written: Mapping[str, Any]) -> str | None:
        name = written.get("metric")
        if not isinstance(name, str) or not name:
            return None
        try:
            return render(name, self.row.vars) or None
        except TemplateError:
            return name


def _total(results: Sequence[AssertionResult], threshold: float | None) -> SampleScore:
    weighed = total = 0.0
    failed: AssertionResult | None = None
    for result in results:
        weighed += result.score * result.weight
        total += result.weight
        failed = failed if result.passed else result
    score = weighed / total if total > 0 else 0.0
    # What fails without a reason does not count as failed there.
    passed = failed is None or not failed.reason
    reason = f"{failed.type}: {failed.reason}" if failed else f"{len(results)} assertions passed"
    if threshold is not None and not math.isnan(threshold):
        passed = score >= threshold
        sign = ">=" if passed else "<"
        reason = f"score {score:.3f} {sign} threshold {threshold:g}; {reason}"
    return SampleScore(passed, score, reason)


def _weight(written: Mapping[str, Any]) -> float:
    weight = written.get("weight", UNDEFINED)
    if weight is UNDEFINED:
        return 1.0
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not math.isfinite(weight):
        raise NotEvaluable(f"{written.get('type')}: the weight must be a number")
    return float(weight)


def _number(value: Any, default: float) -> float:
    return default if value is None else to_number(value)


def _every(asserts: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    for one in asserts:
        yield one
        if not isinstance(one, Mapping):
            continue
        if one.get("type") == SET and isinstance(one.get("assert"), list):
            yield from _every(one["assert"])
