"""Assertions on markup and on JSON amid prose: XML, HTML and objects in the answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pytest_llmdeploy.config.sentences import shown
from pytest_llmdeploy.gates.assertions.json_schema import schema_of, worst_error
from pytest_llmdeploy.gates.assertions.spec import (
    AssertionContext,
    AssertionType,
    BadValue,
    Check,
    Finding,
    NotEvaluable,
    without_threshold,
)
from pytest_llmdeploy.gates.measures import markup
from pytest_llmdeploy.gates.measures.html_signs import contains_html
from pytest_llmdeploy.gates.measures.json_parts import json_parts
from pytest_llmdeploy.gates.wording import listed, quote

LONGEST = 100_000
"""Characters of an answer in which markup is looked for."""
LONGEST_OF_JSON = 200_000
"""Characters of an answer in which JSON is looked for."""


def _contains_json(value: Any) -> Check:
    compiled = schema_of(value)
    expectation = (
        "to contain a JSON object" if compiled is None else "to contain JSON of the schema"
    )
    return Check(expectation, lambda context: _judge_json(context, compiled))


def _judge_json(context: AssertionContext, compiled: Any) -> Finding:
    output = _text(context, LONGEST_OF_JSON)
    wrong = None
    try:
        for part in json_parts(output):
            if compiled is None:
                # [1] is a reference in prose more often than JSON.
                if isinstance(part, dict):
                    return Finding(holds=True, came=f"got {quote(output)}")
                continue
            problem = worst_error(compiled, part)
            if problem is None:
                return Finding(holds=True, came=f"got {quote(output)}")
            wrong = wrong or problem
    except ValueError as error:
        raise NotEvaluable(f"contains-json: {error}") from error
    reason = f"{wrong}; got {quote(output)}" if wrong else f"none is in {quote(output)}"
    return Finding(holds=False, came=reason)


def _xml(problem_of: Callable[[str, Sequence[str]], str | None], expectation: str) -> AssertionType:
    def prepare(value: Any) -> Check:
        required = _elements(value)
        with_elements = f" with {listed(required)}" if required else ""
        return Check(expectation + with_elements, _judged(lambda text: problem_of(text, required)))

    return without_threshold(prepare)


def _elements(value: Any) -> list[str]:
    """Return the dotted paths of elements that must be there."""
    if value is None:
        return []
    if isinstance(value, Mapping):
        if set(value) != {"requiredElements"}:
            raise BadValue("the value must name elements, or be {requiredElements: [...]}")
        value = value["requiredElements"]
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",")]
    if (
        not isinstance(value, list | tuple)
        or not value
        or not all(isinstance(one, str) and one for one in value)
    ):
        raise BadValue("the value must name elements, such as 'answer.title, answer.body'")
    return list(value)


def _html(problem_of: Callable[[str], str | None], expectation: str) -> AssertionType:
    def prepare(value: Any) -> Check:
        if value is not None:
            raise BadValue(f"it has no value, got {shown(value)}")
        return Check(expectation, _judged(problem_of))

    return without_threshold(prepare)


def _contains_html(text: str) -> str | None:
    return None if contains_html(text) else "there are no signs of HTML in the answer"


def _judged(problem_of: Callable[[str], str | None]) -> Callable[[AssertionContext], Finding]:
    def judge(context: AssertionContext) -> Finding:
        output = _text(context, LONGEST)
        try:
            problem = problem_of(output)
        except ValueError as error:
            raise NotEvaluable(str(error)) from error
        reason = f"{problem}; " if problem else ""
        return Finding(problem is None, f"{reason}got {quote(output)}")

    return judge


def _text(context: AssertionContext, most: int) -> str:
    output = context.answer.text
    if len(output) > most:
        raise NotEvaluable(f"the answer has {len(output)} characters, at most {most} are read")
    return output


TYPES: Mapping[str, AssertionType] = {
    "contains-json": without_threshold(_contains_json),
    "is-xml": _xml(lambda text, required: markup.xml_problem(text.strip(), required), "to be XML"),
    "contains-xml": _xml(markup.xml_parts, "to contain XML"),
    "is-html": _html(markup.html_problem, "to be HTML"),
    "contains-html": _html(_contains_html, "to contain HTML"),
}
