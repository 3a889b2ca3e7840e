"""Assertions on structure: JSON, XML and HTML in the answer, or the answer as such."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from pytest_llmdeploy.errors import ConfigError
from pytest_llmdeploy.gates.measures.html_signs import contains_html
from pytest_llmdeploy.gates.measures.markup import (
    html_problem,
    xml_parts,
    xml_problem,
)
from pytest_llmdeploy.gates.promptfoo.assertions.given import (
    Given,
    Handler,
    Outcome,
    said,
)
from pytest_llmdeploy.gates.promptfoo.assertions.schemas import compiled, error_of
from pytest_llmdeploy.gates.promptfoo.js_values import (
    UNDEFINED,
    parse_json,
    stringify,
    to_text,
    trim,
    truthy,
)
from pytest_llmdeploy.gates.promptfoo.yaml_dialect import parse_yaml
from pytest_llmdeploy.gates.wording import quote

LONGEST = 100_000
"""Characters of the longest JSON that is looked for in an answer."""
MOST_WORK = 20_000_000
"""Characters that are read in search of it, all attempts together."""
_BRACES = re.compile("[{}]")
_COMMENT = re.compile(r'"(?:[^"\\\n]|\\.)*"|\'(?:[^\'\\\n]|\\.)*\'|((?<=[{\[,]))?(?<!:)(//)')


def is_json(given: Given) -> Outcome:
    """Judge ``is-json``, with a schema where there is a value."""
    try:
        value = parse_json(given.text)
    except ValueError:
        return said(given, False, f"expected JSON, got {quote(given.text)}")
    if not truthy(given.value):
        return said(given, True, "expected no JSON")
    problem = error_of(_schema(given), value)
    return said(given, problem is None, f"the JSON breaks the schema {problem or 'not'}")


def contains_json(given: Given) -> Outcome:
    """Judge ``contains-json``: one object in the answer must keep to the schema."""
    found = json_objects(given.text)
    if not truthy(given.value):
        there = next(found, UNDEFINED) is not UNDEFINED
        return said(given, there, f"expected JSON in {quote(given.text)}")
    validator = None
    problem: str | None = "no JSON in the answer"
    for one in found:
        validator = validator or _schema(given)
        problem = error_of(validator, one)
        if problem is None:
            break
    return said(given, problem is None, f"no JSON of the schema: {problem or 'there is'}")


def _schema(given: Given) -> Any:
    value = given.value
    try:
        if isinstance(value, str):
            return _of_yaml(value)
        if isinstance(value, Mapping | list):
            return compiled(stringify(value))
    except (ValueError, ConfigError) as error:
        raise given.refuse(f"its schema is wrong: {error}") from error
    raise given.refuse("the value must be a schema, as an object or as text")


@lru_cache(maxsize=1024)
def _of_yaml(text: str) -> Any:
    return compiled(stringify(parse_yaml(text, "schema").data))


def json_objects(text: str) -> Iterator[Any]:
    """Yield each object in a text, as far as braces tell; YAML's flow style and comments pass."""
    at = work = 0
    # A brace that is the last character opens nothing.
    while (start := text.find("{", at, len(text) - 1)) >= 0:
        end, depth = _balanced(text, start)
        work += end - start
        if work > MOST_WORK:
            raise ValueError("the answer has too many braces to look for JSON in it")
        value = _parsed(text[start:end] + "}" * depth)
        if isinstance(value, Mapping | list):
            yield value
            at = end
        else:
            at = start + 1


def _balanced(text: str, start: int) -> tuple[int, int]:
    """Return where the braces that open at `start` are closed, and how many stay open."""
    depth = 0
    limit = min(start + LONGEST, len(text))
    for brace in _BRACES.finditer(text, start, limit):
        depth += 1 if brace[0] == "{" else -1
        if depth == 0:
            return brace.end(), 0
    return limit, depth


def _parsed(text: str) -> Any:
    try:
        return parse_json(text)
    except ValueError:
        try:
            return parse_yaml(_without_comments(text), "answer").data
        except (ConfigError, ValueError, RecursionError):
            return UNDEFINED


def _without_comments(text: str) -> str:
    """Return the text with ``// ...`` outside quotes as YAML's own comments.

    Directly after a bracket or a comma it is none there, and nothing else either.
    """
    return _COMMENT.sub(_comment, text)


def _comment(found: re.Match[str]) -> str:
    if found[2] is None:
        return found[0]
    return "#" if found[1] is None else "@"


def xml(given: Given) -> Outcome:
    """Judge ``is-xml`` and ``contains-xml``, with the elements that must be there."""
    value = given.value
    if isinstance(value, str):
        required = [trim(one) for one in value.split(",")]
    elif isinstance(value, list):
        required = [to_text(one) for one in value]
    elif isinstance(value, Mapping) and value:
        if not isinstance(value.get("requiredElements"), list):
            raise given.refuse("the value must be names of elements, or {requiredElements: [...]}")
        required = [to_text(one) for one in value["requiredElements"]]
    else:
        required = []
    if given.kind == "is-xml":
        problem = xml_problem(given.text, required)
    else:
        try:
            problem = xml_parts(given.text, required)
        except ValueError as error:
            raise given.refuse(str(error)) from error
    return said(given, problem is None, problem or "expected no XML")


def html(given: Given) -> Outcome:
    """Judge ``is-html`` and ``contains-html``."""
    if given.kind == "contains-html":
        return said(given, contains_html(given.text), f"expected HTML in {quote(given.text)}")
    try:
        problem = html_problem(given.text)
    except ValueError as error:
        raise given.refuse(str(error)) from error
    return said(given, problem is None, problem or "expected no HTML")


HANDLERS: Mapping[str, Handler] = {
    "is-json": is_json,
    "contains-json": contains_json,
    "is-xml": xml,
    "contains-xml": xml,
    "is-html": html,
    "contains-html": html,
}
