"""The model-graded assertion types: what each wants, and how a vote on it is cast."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from typing import Any

from pytest_llmdeploy.config.sentences import shown
from pytest_llmdeploy.gates.assertions.graded import prompts
from pytest_llmdeploy.gates.assertions.graded.prompts import Prompt
from pytest_llmdeploy.gates.assertions.graded.voting import Ballot, Vote, judge_of, poll
from pytest_llmdeploy.gates.assertions.spec import (
    AssertionContext,
    AssertionType,
    BadValue,
    Check,
    Finding,
    NotEvaluable,
    without_threshold,
)
from pytest_llmdeploy.gates.assertions.vectors import compare
from pytest_llmdeploy.gates.wording import listed, quote

DEFAULT_THRESHOLD = 0.7
TOLERANCE = 1e-9
"""A mean this little below its threshold reaches it."""
CATEGORIES = ("A", "B", "C", "D", "E")
CONTRADICTION = "D"


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise BadValue(f"the value must be the {what}, as a text, got {shown(value)}")
    return value


def _limit(threshold: float | None, default: float | None = DEFAULT_THRESHOLD) -> float:
    limit = default if threshold is None else threshold
    if limit is None:
        return 0.0
    if not 0 < limit <= 1:
        raise BadValue(f"the threshold must be above 0 and at most 1, got {limit:g}")
    return limit


def question_of(context: AssertionContext) -> str:
    """Return what was asked: the variable query or question, else what the user said last."""
    for name in ("query", "question"):
        value = context.vars.get(name)
        if isinstance(value, str) and value.strip():
            return value
    for message in reversed(context.messages):
        if message.get("role") == "user" and isinstance(message.get("content"), str):
            return str(message["content"])
    raise NotEvaluable("there is no question: give the case a variable 'query'")


def _context_of(context: AssertionContext) -> str:
    value = context.vars.get("context")
    if isinstance(value, list | tuple):
        value = "\n".join(str(part) for part in value)
    if not isinstance(value, str) or not value.strip():
        raise NotEvaluable("the case has no variable 'context', which this assertion judges by")
    return value


def _answer_of(context: AssertionContext) -> str:
    if not context.answer.text.strip():
        raise NotEvaluable("the answer is empty: there is nothing to judge")
    return context.answer.text


def _rubric(value: Any, threshold: float | None) -> Check:
    rubric = _text(value, "rubric")
    limit = _limit(threshold, None)

    def judge(context: AssertionContext) -> Finding:
        texts = {"rubric": rubric, "answer": context.answer.text}

        def cast(ballot: Ballot) -> Vote:
            reply = ballot.ask(prompts.RUBRIC, texts)
            score, says_pass = reply.score(), reply.flag("pass")
            if score == (0 if says_pass else 1):
                # A small model writes it often: it fills in a form and does not judge.
                how = "passes with a score of 0" if says_pass else "fails with a score of 1"
                raise reply.broken(f"contradicts itself: it {how}")
            return Vote(says_pass and score >= limit - TOLERANCE, score, reply.reason())

        return poll(context, prompts.RUBRIC, cast)

    with_score = f" with a score of at least {limit:g}" if limit else ""
    return Check(f"to satisfy {quote(rubric)}{with_score}", judge)


def _g_eval(value: Any, threshold: float | None) -> Check:
    criteria = value if isinstance(value, list | tuple) else [value]
    if not criteria:
        raise BadValue("the list of criteria is empty")
    criteria = [_text(criterion, "criterion, or a list of them") for criterion in criteria]
    limit = _limit(threshold)

    def judge(context: AssertionContext) -> Finding:
        question = question_of(context)

        def cast(ballot: Ballot) -> Vote:
            scores, reasons = [], []
            for criterion in criteria:
                texts = {
                    "criterion": criterion,
                    "question": question,
                    "answer": context.answer.text,
                }
                reply = ballot.ask(prompts.CRITERION, texts)
                scores.append(reply.score())
                reasons.append(reply.reason())
            mean = math.fsum(scores) / len(scores)
            worst = reasons[scores.index(min(scores))]
            return Vote(mean >= limit - TOLERANCE, mean, worst, {"scores": scores})

        return poll(context, prompts.CRITERION, cast)

    return Check(f"to meet {listed(criteria)} with a mean score of at least {limit:g}", judge)


def _factuality(value: Any) -> Check:
    reference = _text(value, "right answer")

    def judge(context: AssertionContext) -> Finding:
        texts = {
            "question": question_of(context),
            "reference": reference,
            "answer": _answer_of(context),
        }

        def cast(ballot: Ballot) -> Vote:
            reply = ballot.ask(prompts.FACTUALITY, texts)
            category = reply.choice("category", CATEGORIES)
            passed = category != CONTRADICTION
            return Vote(passed, float(passed), reply.reason(), {"category": category})

        return poll(context, prompts.FACTUALITY, cast)

    return Check(f"not to contradict {quote(reference)}", judge)


def _closed_qa(value: Any) -> Check:
    criterion = _text(value, "criterion")

    def judge(context: AssertionContext) -> Finding:
        texts = {
            "question": question_of(context),
            "criterion": criterion,
            "answer": context.answer.text,
        }

        def cast(ballot: Ballot) -> Vote:
            reply = ballot.ask(prompts.CLOSED_QA, texts)
            passed = reply.flag("pass")
            return Vote(passed, float(passed), reply.reason())

        return poll(context, prompts.CLOSED_QA, cast)

    return Check(f"to meet {quote(criterion)}", judge)


def _no_value(value: Any) -> None:
    if value is not None:
        raise BadValue(f"it has no value, got {shown(value)}")


def _answer_relevance(value: Any, threshold: float | None) -> Check:
    _no_value(value)
    limit = _limit(threshold)

    def judge(context: AssertionContext) -> Finding:
        question, texts = question_of(context), {"answer": _answer_of(context)}
        grading = judge_of(context)

        def cast(ballot: Ballot) -> Vote:
            questions = ballot.ask(prompts.QUESTIONS, texts).texts("questions")
            first, *others = grading.embed([question, *questions]).vectors
            near = [compare("cosine", first, other) for other in others]
            score = min(1.0, max(0.0, math.fsum(near) / len(near)))
            return Vote(score >= limit - TOLERANCE, score, "", {"questions": questions[:10]})

        return poll(context, prompts.QUESTIONS, cast)

    return Check(f"to be relevant to its question by at least {limit:g}", judge)


def _share(prompt: Prompt, what: str, wants_truth: bool, *names: str) -> AssertionType:
    """Return a type whose score is a share of items that hold; `names` are its texts."""
    take: Mapping[str, Callable[[AssertionContext], str]] = {
        "question": question_of,
        "context": _context_of,
        "answer": _answer_of,
    }

    def prepare(value: Any, threshold: float | None) -> Check:
        limit = _limit(threshold)
        fixed = {}
        if wants_truth:
            fixed = {"truth": _text(value, "truth that the context should hold")}
        else:
            _no_value(value)

        def judge(context: AssertionContext) -> Finding:
            texts = {**fixed, **{name: take[name](context) for name in names}}

            def cast(ballot: Ballot) -> Vote:
                share = ballot.ask(prompt, texts).share()
                return Vote(share >= limit - TOLERANCE, share)

            return poll(context, prompt, cast)

        return Check(f"{what} by at least {limit:g}", judge)

    return prepare


def _better_than(value: Any) -> Check:
    reference = _text(value, "answer to compare with")

    def judge(context: AssertionContext) -> Finding:
        question, answer = question_of(context), _answer_of(context)
        # Random to whoever wrote the answers, and the same in a replay.
        seed = hashlib.sha256("\0".join([question, answer, reference]).encode("utf-8", "replace"))
        flip = seed.digest()[0] % 2

        def cast(ballot: Ballot) -> Vote:
            answer_first = (ballot.number + flip) % 2 == 0
            first, second = (answer, reference) if answer_first else (reference, answer)
            texts = {"question": question, "first": first, "second": second}
            reply = ballot.ask(prompts.BETTER, texts)
            better = reply.choice("better", ("first", "second", "tie"))
            passed = better == ("first" if answer_first else "second")
            score = 0.5 if better == "tie" else float(passed)
            order = "answer, reference" if answer_first else "reference, answer"
            return Vote(passed, score, reply.reason(), {"order": order, "better": better})

        return poll(context, prompts.BETTER, cast)

    return Check(f"to be better than {quote(reference)}", judge)


_FACTUALITY = without_threshold(_factuality)
TYPES: Mapping[str, AssertionType] = {
    "llm-rubric": _rubric,
    "g-eval": _g_eval,
    "factuality": _FACTUALITY,
    "model-graded-factuality": _FACTUALITY,
    "model-graded-closedqa": without_threshold(_closed_qa),
    "answer-relevance": _answer_relevance,
    "context-faithfulness": _share(
        prompts.FAITHFULNESS, "to follow from its context", False, "context", "answer"
    ),
    "context-recall": _share(
        prompts.RECALL, "to be given a context that holds the truth", True, "context"
    ),
    "context-relevance": _share(
        prompts.RELEVANCE,
        "to be given a context that its question needs",
        False,
        "question",
        "context",
    ),
    "better-than": without_threshold(_better_than),
}
