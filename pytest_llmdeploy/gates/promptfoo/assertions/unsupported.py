"""Types of assertions that are not judged here, and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_llmdeploy.gates.promptfoo.js_values import trim

_REASONS = {
    "ruby": "Ruby is not run",
    "webhook": "no other service is asked than the model's, the judge's and the embeddings'",
    "guardrails": "the endpoint tells nothing of guardrails",
    "moderation": "no moderation endpoint is asked",
    "classifier": "no classifier is asked",
    "pi": "the service that scores it is not asked",
    "search-rubric": "a judge that searches the web is not asked",
    "agent-rubric": "a judge that is an agent is not asked",
    "conversation-relevance": "rows are judged one by one, without the conversation before",
    "skill-used": "the endpoint tells nothing of skills",
    "meteor": "it needs the WordNet database that promptfoo's library has",
    "select-best": "it compares the answers of several rows; rows are judged one by one",
    "max-score": "it compares the answers of several rows; rows are judged one by one",
    "human": "nobody is asked",
    "is-sql": "no SQL parser here reads the same dialects as promptfoo's",
    "contains-sql": "no SQL parser here reads the same dialects as promptfoo's",
}
_BY_MODEL = (
    "similar similar:cosine similar:dot similar:euclidean llm-rubric g-eval factuality model- "
    "graded-factuality model-graded-closedqa answer-relevance context-faithfulness context- "
    "recall context-relevance"
)
GRADED = frozenset(_BY_MODEL.split())
"""Types that a judge or an embeddings endpoint decides."""
_FAMILIES = {
    "trace-": "no traces are taken",
    "trajectory:": "it needs a trace of the agent, and no traces are taken",
    "promptfoo:redteam:": "red team graders ask promptfoo's own service",
}


def reason_for(written: Mapping[str, Any]) -> str | None:
    """Return why an assertion cannot be judged here; None where it can."""
    from pytest_llmdeploy.gates.promptfoo.assertions import HANDLERS

    kind = written.get("type")
    if not isinstance(kind, str) or kind == "assert-set":
        return None
    base = trim(kind).removeprefix("not-")
    reason = _REASONS.get(base) or next(
        (why for family, why in _FAMILIES.items() if base.startswith(family)), None
    )
    if reason:
        return f"{kind}: {reason}"
    if base in GRADED and base not in HANDLERS:
        return f"{kind}: it is not judged in this version"
    if base not in HANDLERS:
        return f"{kind}: promptfoo has no such type of assertion"
    return None
