"""Assertions on calls of functions and tools: their shape, their arguments, their names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pytest_llmdeploy.errors import ConfigError
from pytest_llmdeploy.gates.measures.tool_calls import f1
from pytest_llmdeploy.gates.promptfoo.assertions.given import Given, Handler, Outcome
from pytest_llmdeploy.gates.promptfoo.assertions.schemas import compiled, error_of
from pytest_llmdeploy.gates.promptfoo.js_values import parse_json, stringify, to_text, trim
from pytest_llmdeploy.gates.promptfoo.paths import BadPathError, Files
from pytest_llmdeploy.gates.promptfoo.references import expand
from pytest_llmdeploy.gates.wording import listed, quote

MOST_BLOCKS = 10_000
"""Places of an answer at which JSON is looked for."""


def function_call(given: Given) -> Outcome:
    """Judge ``is-valid-function-call``: neither this nor the next heeds ``not-``."""
    output = given.output
    if isinstance(output, Mapping) and "function_call" in output:
        output = output["function_call"]
    if problem := _call_problem(output, _configured(given, "functions")):
        return Outcome(False, 0.0, problem)
    return Outcome(True, 1.0, "passed")


def tools_call(given: Given) -> Outcome:
    """Judge ``is-valid-openai-tools-call``."""
    output = given.output
    if "MCP Tool Error" in given.text:
        return Outcome(False, 0.0, "a call of an MCP tool failed")
    if "MCP Tool Result" in given.text:
        return Outcome(True, 1.0, "passed")
    if isinstance(output, Mapping) and "tool_calls" in output:
        output = output["tool_calls"]
    calls = output if isinstance(output, list) else []
    functions = [one.get("function") if isinstance(one, Mapping) else None for one in calls]
    if not functions or not all(_shaped(one) for one in functions):
        return Outcome(False, 0.0, f"expected calls of tools, got {quote(given.text)}")
    tools = _configured(given, "tools")
    if not tools:
        return Outcome(False, 0.0, "the provider has no tools, but the answer calls some")
    known = [
        one["function"]
        for one in tools
        if isinstance(one, Mapping)
        and one.get("type") == "function"
        and isinstance(one.get("function"), Mapping)
    ]
    for one in functions:
        if problem := _call_problem(one, known):
            return Outcome(False, 0.0, problem)
    return Outcome(True, 1.0, "passed")


def _configured(given: Given, key: str) -> list[Any]:
    config = {**given.row.provider.config, **given.row.prompt.config}
    try:
        value = expand(config.get(key), Files(given.row.base, given.row.root))
    except (BadPathError, ConfigError) as error:
        raise given.refuse(f"its {key} cannot be read: {error}") from error
    return value if isinstance(value, list) else []


def _shaped(call: Any) -> bool:
    return (
        isinstance(call, Mapping)
        and isinstance(call.get("name"), str)
        and isinstance(call.get("arguments"), str)
    )


def _call_problem(call: Any, functions: list[Any]) -> str | None:
    if not _shaped(call):
        return f"expected a call of a function, got {quote(to_text(call))}"
    name = call["name"]
    try:
        arguments = parse_json(call["arguments"])
    except ValueError as error:
        return f"the arguments of {quote(name)} are no JSON: {error}"
    known = [one for one in functions if isinstance(one, Mapping) and one.get("name") == name]
    schema = known[0].get("parameters") if known else None
    if not schema:
        return f"called {quote(name)}, but there is no function with that name"
    try:
        validator = compiled(stringify(schema))
    except ValueError as error:
        return f"the schema of {quote(name)} is wrong: {error}"
    problem = error_of(validator, arguments)
    return f"the call of {quote(name)} breaks its schema {problem}" if problem else None


def tool_call_f1(given: Given) -> Outcome:
    """Judge ``tool-call-f1``: names as sets; ``not-`` turns the verdict, not the score."""
    value = given.value
    if isinstance(value, str):
        value = value.split(",")
    if not isinstance(value, list):
        raise given.refuse("the value must be a list of names, or names with commas between them")
    wanted = {name for one in value if (name := trim(to_text(one)))}
    if not wanted:
        raise given.refuse("it needs the name of a tool")
    called = set(tool_names(given.output))
    score = f1(wanted, called)
    limit = given.limit_or(1.0)
    passed = (score >= limit) != given.inverse
    names = f"expected {listed(sorted(wanted))}, called {listed(sorted(called)) or 'none'}"
    return Outcome(passed, score, f"F1 {score:.3f}, threshold {limit:g}: {names}")


def tool_names(output: Any) -> Iterator[str]:
    """Yield the names of the tools that an output calls, in any of the shapes of providers."""
    if isinstance(output, str):
        try:
            yield from tool_names(parse_json(output))
        except ValueError:
            for block in _blocks(output):
                yield from tool_names(block)
    elif isinstance(output, list):
        for one in output:
            if isinstance(one, Mapping):
                yield from _name_of_item(one)
    elif isinstance(output, Mapping):
        yield from _names_of_object(output)


def _names_of_object(output: Mapping[str, Any]) -> Iterator[str]:
    nested = output.get("toolCall")
    if isinstance(output.get("tool_calls"), list):
        for call in output["tool_calls"]:
            if isinstance(call, Mapping):
                yield from _named(call.get("function"))
                yield from _named(call)
    elif output.get("type") in ("tool_use", "function_call") and isinstance(
        output.get("name"), str
    ):
        yield from _named(output)
    elif isinstance(output.get("functionCall"), Mapping):
        yield from _named(output["functionCall"])
    elif isinstance(nested, Mapping) and isinstance(nested.get("functionCalls"), list):
        for call in nested["functionCalls"]:
            yield from _named(call)


def _name_of_item(item: Mapping[str, Any]) -> Iterator[str]:
    if item.get("type") == "tool_use" and isinstance(item.get("name"), str):
        yield item["name"]
        return
    for key in ("functionCall", "function"):
        if isinstance(item.get(key), Mapping):
            yield from _named(item[key])
            return
    yield from _named(item)


def _named(call: Any) -> Iterator[str]:
    if isinstance(call, Mapping) and isinstance(call.get("name"), str):
        yield call["name"]


def _blocks(text: str) -> Iterator[Any]:
    """Yield each JSON that stands on lines of its own in a text."""
    import json

    decoder = json.JSONDecoder()
    at = tried = 0
    while tried < MOST_BLOCKS:
        starts = [place for sign in "{[" if (place := text.find(sign, at)) >= 0]
        if not starts:
            return
        start = min(starts)
        tried += 1
        try:
            value, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            at = start + 1
            continue
        line = text[text.rfind("\n", 0, start) + 1 : start]
        rest = text[end : (text.find("\n", end) + 1 or len(text) + 1) - 1]
        if not line.strip() and not rest.strip():
            yield value
        at = end


HANDLERS: Mapping[str, Handler] = {
    "is-valid-function-call": function_call,
    "is-valid-openai-function-call": function_call,
    "is-valid-openai-tools-call": tools_call,
    "tool-call-f1": tool_call_f1,
}
