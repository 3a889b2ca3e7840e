"""The prompt that a config writes for llm-rubric itself, and promptfoo's form of a reply to it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from pytest_llmdeploy.gates.assertions import AssertionContext
from pytest_llmdeploy.gates.assertions.graded.prompts import Prompt
from pytest_llmdeploy.gates.assertions.graded.voting import Ballot, Vote, poll
from pytest_llmdeploy.gates.assertions.spec import Finding, NotEvaluable
from pytest_llmdeploy.gates.promptfoo.assertions.given import Given
from pytest_llmdeploy.gates.promptfoo.js_values import parse_json, stringify
from pytest_llmdeploy.gates.promptfoo.messages import messages_of
from pytest_llmdeploy.gates.promptfoo.nunjucks import TemplateError, render
from pytest_llmdeploy.gates.promptfoo.paths import BadPathError, Files, is_javascript
from pytest_llmdeploy.gates.promptfoo.variables import NotSupportedError
from pytest_llmdeploy.gates.wording import quote
from pytest_llmdeploy.untrusted import read_json

_FENCE = re.compile(r"```(?:json)?[ \t]*\n(.*)\n```", re.DOTALL)


def by_own_prompt(
    given: Given, written: Any, rubric: str, limit: float | None, context: AssertionContext
) -> Finding:
    """Ask the judge with the config's own prompt; raise NotEvaluable."""
    text = _text(given, written)
    seen = {**given.row.vars, "output": _parsed(given.output), "rubric": rubric}
    try:
        messages = messages_of(_rendered(text, seen))
    except (TemplateError, NotSupportedError) as error:
        raise given.refuse(f"the rubricPrompt cannot be filled in: {error}") from error
    digest = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:8]

    def cast(ballot: Ballot) -> Vote:
        passed, score, reason = read_verdict(ballot.say(messages))
        return Vote(passed and (limit is None or score >= limit), score, reason)

    return poll(context, Prompt(f"rubricPrompt {digest}", text, ()), cast)


def read_verdict(reply: str) -> tuple[bool, float, str]:
    """Return pass, score and reason of a reply; raise NotEvaluable.

    One of pass and score may be missing: a score alone passes, as in promptfoo.
    """
    body = reply.strip()
    fence = _FENCE.fullmatch(body)
    try:
        value = read_json((fence[1] if fence else body).encode("utf-8", "replace"))
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise NotEvaluable(f"the judge's reply is no JSON object: {quote(reply)}")
    passed, score = value.get("pass", True), value.get("score")
    if not isinstance(passed, bool):
        raise NotEvaluable(
            f"the judge's reply has a pass that is not true or false: {quote(reply)}"
        )
    if score is None and "pass" in value:
        score = float(passed)
    if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 1:
        raise NotEvaluable(f"the judge's reply has no score from 0 to 1: {quote(reply)}")
    return passed, float(score), str(value.get("reason") or "")


def _text(given: Given, written: Any) -> str:
    if isinstance(written, list | Mapping):
        return stringify(written)
    if not isinstance(written, str):
        raise given.refuse("the rubricPrompt must be a text or a list of messages")
    if not written.startswith("file://"):
        return written
    path = written.removeprefix("file://")
    if is_javascript(path):
        raise given.refuse("the rubricPrompt is JavaScript, which is not run")
    try:
        return Files(given.row.base, given.row.root).resolve(path).read_text("utf-8")
    except (BadPathError, OSError, UnicodeDecodeError) as error:
        raise given.refuse(f"the rubricPrompt cannot be read: {error}") from error


def _rendered(text: str, seen: Mapping[str, Any]) -> str:
    """Return the prompt with its templates filled in; in JSON those of each of its texts."""
    try:
        value = parse_json(text)
    except ValueError:
        return render(text, seen)
    return stringify(_filled(value, seen))


def _filled(value: Any, seen: Mapping[str, Any]) -> Any:
    if isinstance(value, str):
        return render(value, seen)
    if isinstance(value, list):
        return [_filled(one, seen) for one in value]
    if isinstance(value, Mapping):
        return {key: _filled(one, seen) for key, one in value.items()}
    return value


def _parsed(output: Any) -> Any:
    """Return an answer in JSON as a template sees it."""
    if not isinstance(output, str):
        return stringify(output)
    try:
        value = parse_json(output)
    except ValueError:
        return output
    return stringify(value) if isinstance(value, Mapping) else value
