"""Ask a judge as often as the gate says, and decide by the majority."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pytest_llmdeploy.errors import BudgetSpentError, NotMeasuredError
from pytest_llmdeploy.gates.assertions.graded.prompts import Prompt
from pytest_llmdeploy.gates.assertions.graded.replies import Reply, UnusableReply
from pytest_llmdeploy.gates.assertions.spec import AssertionContext, Finding, Grading, NotEvaluable
from pytest_llmdeploy.gates.wording import middle_cut, quote
from pytest_llmdeploy.ports import Message

RAW_LENGTH = 2000
"""Characters of a judge's reply that are kept; the middle of a longer one is left out."""


@dataclass(frozen=True, slots=True)
class Vote:
    """What one vote said."""

    passed: bool
    score: float
    reason: str = ""
    more: Mapping[str, Any] = field(default_factory=dict)
    """What else belongs to the evidence, such as the order that was used."""


class Ballot:
    """One vote: asks the judge, and keeps what it replied."""

    def __init__(self, grading: Grading, number: int) -> None:
        self._grading = grading
        self.number = number
        self.replies: list[str] = []
        self.model: str | None = None

    def ask(self, prompt: Prompt, texts: Mapping[str, str]) -> Reply:
        """Return the reply; raise NotMeasuredError where there is none that can be used."""
        return Reply(self.say(prompt.messages(texts)), prompt.key(texts))

    def say(self, messages: Sequence[Message]) -> str:
        """Return what the judge replied to these messages, unread; raise NotMeasuredError."""
        answer = self._grading.chat(messages, vote=self.number)
        self.model = answer.model
        self.replies.append(middle_cut(answer.text, RAW_LENGTH))
        return answer.text


def judge_of(context: AssertionContext) -> Grading:
    """Return whom to ask; raise NotEvaluable where there is nobody."""
    if context.grading is None:
        raise NotEvaluable("there is no judge to ask: set the gate's judge")
    return context.grading


def poll(context: AssertionContext, prompt: Prompt, cast: Callable[[Ballot], Vote]) -> Finding:
    """Return what the majority says, with every vote as evidence; the score is the votes' mean.

    Votes that fail are missing: where the others could still lose against them, raises
    NotEvaluable with the first failure, or BudgetSpentError where that was the reason.
    """
    grading = judge_of(context)
    votes: list[Vote] = []
    told: list[dict[str, Any]] = []
    failure: NotMeasuredError | None = None
    for number in range(grading.votes):
        ballot = Ballot(grading, number)
        record: dict[str, Any] = {}
        try:
            vote = cast(ballot)
            if not 0 <= vote.score <= 1:  # false for NaN as well
                raise NotEvaluable(f"the vote's score is {vote.score}")
        except NotMeasuredError as error:
            failure = failure or error
            record["error"] = str(error)
        else:
            votes.append(vote)
            record |= {"passed": vote.passed, "score": vote.score, **vote.more}
        told.append({**record, "model": ballot.model, "replies": ballot.replies})
    passes = sum(vote.passed for vote in votes)
    fails = len(votes) - passes
    if 2 * max(passes, fails) <= grading.votes:
        if isinstance(failure, BudgetSpentError):
            raise failure  # nobody failed: the case was not asked to its end
        which = f"{grading.votes - len(votes)} of {grading.votes} votes failed: "
        kind = UnusableReply if isinstance(failure, UnusableReply) else NotEvaluable
        raise kind((which if grading.votes > 1 else "") + str(failure))
    holds = 2 * passes > grading.votes
    evidence = {
        "judge": grading.judge,
        "prompt": prompt.name,
        "prompt_sha256": prompt.sha256,
        "votes": told,
    }
    score = math.fsum(vote.score for vote in votes) / len(votes)
    return Finding(holds, _came(grading, votes, passes, score, holds), score, evidence)


def _came(grading: Grading, votes: list[Vote], passes: int, score: float, holds: bool) -> str:
    reasons = [vote.reason for vote in votes if vote.passed is holds and vote.reason]
    why = f": {quote(reasons[0], 400)}" if reasons else ""
    counted = f"{passes} of {grading.votes} votes for it, " if grading.votes > 1 else ""
    return f"the judge {grading.judge} says otherwise ({counted}score {score:.2f}){why}"
