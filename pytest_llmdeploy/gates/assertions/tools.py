"""Assertions on the calls of tools in the answer's own message: which, in what order, with what.

Only this one answer is looked at: there are no traces of what an agent did behind the endpoint.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_llmdeploy.config.sentences import shown, unknown_key
from pytest_llmdeploy.gates.assertions.json_schema import validator, worst_error
from pytest_llmdeploy.gates.assertions.spec import (
    AssertionContext,
    AssertionType,
    BadValue,
    Check,
    Finding,
    NotEvaluable,
    without_threshold,
)
from pytest_llmdeploy.gates.measures.tool_calls import covers, f1, in_order, same
from pytest_llmdeploy.gates.wording import listed, quote

LONGEST = 1_000_000
"""Characters of the arguments of one call."""


@dataclass(frozen=True, slots=True)
class _Call:
    name: str
    arguments: str
    """JSON, as the model wrote it."""


def _read_calls(context: AssertionContext) -> tuple[list[_Call], str]:
    """Return the calls, and what is wrong with the first that is none."""
    written = context.answer.extra.get("tool_calls")
    if written is None:
        return [], ""
    if not isinstance(written, list | tuple):
        return [], f"tool_calls is {shown(written)}, not a list"
    calls: list[_Call] = []
    for number, one in enumerate(written, start=1):
        call = _call(one.get("function") if isinstance(one, Mapping) else None)
        if call is None:
            return calls, f"call {number} has no function with a name and arguments as text"
        calls.append(call)
    return calls, ""


def _call(function: object) -> _Call | None:
    if not isinstance(function, Mapping):
        return None
    name, arguments = function.get("name"), function.get("arguments")
    if not isinstance(name, str) or not name or not isinstance(arguments, str):
        return None
    return _Call(name, arguments)


def _arguments(call: _Call) -> Any:
    """Return the arguments; raise ValueError for what is no JSON."""
    if len(call.arguments) > LONGEST:
        raise ValueError(f"they have more than {LONGEST} characters")
    try:
        return json.loads(call.arguments, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise ValueError("they are nested too deeply") from error


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _came(context: AssertionContext) -> str:
    """Return which tools were called, as the end of a sentence; raise NotEvaluable."""
    names = [call.name for call in _all_calls(context)]
    return f"it called {listed(names)}" if names else "it called no tool"


def _all_calls(context: AssertionContext) -> list[_Call]:
    calls, problem = _read_calls(context)
    if problem:
        raise NotEvaluable(f"the answer's calls of tools cannot be read: {problem}")
    return calls


def _valid_function_call(value: Any) -> Check:
    given = _functions(value, "function")

    def judge(context: AssertionContext) -> Finding:
        known = given or _from_parameters(context, "functions")
        call = _call(context.answer.extra.get("function_call"))
        if call is None:
            return Finding(holds=False, came="it calls no function")
        problem = _problem(call, known)
        return Finding(problem is None, problem or f"it called {quote(call.name)}")

    return Check("to call a function as its schema says", judge)


def _valid_tools_call(value: Any) -> Check:
    given = _functions(value, "tool")

    def judge(context: AssertionContext) -> Finding:
        known = given or _from_parameters(context, "tools")
        calls, problem = _read_calls(context)
        if problem or not calls:
            return Finding(holds=False, came=problem or "it calls no tool")
        wrong = next((found for call in calls if (found := _problem(call, known))), None)
        return Finding(wrong is None, wrong or _came(context))

    return Check("to call tools as their schemas say", judge)


def _functions(value: Any, kind: str) -> dict[str, Any]:
    """Return the compiled schema of each function by its name; raise BadValue."""
    if value is None:
        return {}
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise BadValue(f"the {kind}s are not JSON: {error}") from error
    if not isinstance(value, list | tuple) or not value:
        raise BadValue(f"the value must be a list of {kind}s, got {shown(value)}")
    known: dict[str, Any] = {}
    for number, one in enumerate(value, start=1):
        function = one.get("function", one) if isinstance(one, Mapping) else None
        name = function.get("name") if isinstance(function, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(name, str) or not name:
            raise BadValue(f"{kind} {number} has no name")
        schema = function.get("parameters") or {"type": "object"}
        try:
            known[name] = validator(json.dumps(schema, sort_keys=True))
        except (TypeError, ValueError, RecursionError) as error:
            raise BadValue(
                f"the parameters of {quote(name)} are no JSON Schema: {error}"
            ) from error
    return known


def _from_parameters(context: AssertionContext, key: str) -> dict[str, Any]:
    """Return the schemas that the request itself had; raise NotEvaluable."""
    sent = context.parameters.get(key)
    if not sent:
        raise NotEvaluable(
            f"there are no {key} to hold the call to: give them as value, or in 'parameters:'"
        )
    try:
        return _functions(sent, key.removesuffix("s"))
    except BadValue as error:
        raise NotEvaluable(f"the {key} in 'parameters:': {error}") from error


def _problem(call: _Call, known: Mapping[str, Any]) -> str | None:
    if call.name not in known:
        return f"it called {quote(call.name)}, but there is only {listed(sorted(known))}"
    try:
        arguments = _arguments(call)
    except ValueError as error:
        return f"the arguments of {quote(call.name)} are not JSON: {error}"
    wrong = worst_error(known[call.name], arguments)
    return f"the arguments of {quote(call.name)} break its schema {wrong}" if wrong else None


def _tool_call_f1(value: Any, threshold: float | None) -> Check:
    wanted = set(_names(value))
    limit = 1.0 if threshold is None else threshold
    if not 0 < limit <= 1:
        raise BadValue(f"the threshold must be above 0 and at most 1, got {limit:g}")

    def judge(context: AssertionContext) -> Finding:
        score = f1(wanted, {call.name for call in _all_calls(context)})
        came = f"the F1 is {score:.3f}: {_came(context)}"
        return Finding(score >= limit - 1e-9, came, score)

    return Check(f"to call {listed(sorted(wanted))}, with an F1 of at least {limit:g}", judge)


def _names(value: Any) -> list[str]:
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",")]
    if (
        not isinstance(value, list | tuple)
        or not value
        or not all(isinstance(name, str) and name for name in value)
    ):
        raise BadValue(f"the value must name tools, got {shown(value)}")
    return list(value)


def _fields(value: Mapping[Any, Any], known: Sequence[str]) -> None:
    unknown = [str(key) for key in value if key not in known]
    if unknown:
        raise BadValue(f"the value has an {unknown_key(unknown[0], known)}")


def _tool_used(value: Any) -> Check:
    if isinstance(value, Mapping):
        _fields(value, ("name", "min", "max"))
        name = value.get("name")
        if not isinstance(name, str) or not name:
            raise BadValue("the value needs the tool's name")
        low, high = _bounds(value, 1)
        return Check(
            f"to call {quote(name)} {_times(low, high)}",
            _counting(lambda call: call.name == name, low, high),
        )
    names = _names(value)

    def judge(context: AssertionContext) -> Finding:
        called = {call.name for call in _all_calls(context)}
        return Finding(called.issuperset(names), _came(context))

    return Check(f"to call {listed(names)}", judge)


def _step_count(value: Any) -> Check:
    if isinstance(value, str) and value.isdecimal():
        value = int(value[:9])
    if isinstance(value, int) and not isinstance(value, bool):
        value = {"min": value, "max": value}
    if not isinstance(value, Mapping):
        raise BadValue(f"the value must be a number of calls, or {{min, max}}, got {shown(value)}")
    _fields(value, ("min", "max"))
    low, high = _bounds(value, 0)
    if low == 0 and high is None:
        raise BadValue("at least 0 calls could never fail")
    return Check(f"to call tools {_times(low, high)}", _counting(lambda _: True, low, high))


def _counting(
    counts: Callable[[_Call], bool], low: int, high: int | None
) -> Callable[[AssertionContext], Finding]:
    def judge(context: AssertionContext) -> Finding:
        count = sum(map(counts, _all_calls(context)))
        holds = low <= count and (high is None or count <= high)
        return Finding(holds, _came(context))

    return judge


def _bounds(value: Mapping[Any, Any], least: int) -> tuple[int, int | None]:
    low, high = value.get("min"), value.get("max")
    if not all(
        one is None or (isinstance(one, int) and not isinstance(one, bool) and one >= 0)
        for one in (low, high)
    ):
        raise BadValue("min and max must be whole numbers from 0")
    low = (least if high is None or high >= least else 0) if low is None else low
    if high is not None and low > high:
        raise BadValue(f"min {low} is above max {high}: no answer could have so many calls")
    return low, high


def _times(low: int, high: int | None) -> str:
    if high is None:
        return f"at least {_count(low)}"
    if low == high:
        return _count(low)
    return f"{low} to {high} times" if low else f"at most {_count(high)}"


def _count(number: int) -> str:
    return "once" if number == 1 else f"{number} times"


def _args_match(value: Any) -> Check:
    if not isinstance(value, Mapping):
        raise BadValue("the value must be {name, args, mode}, such as {name: find, args: {id: 1}}")
    _fields(value, ("name", "args", "mode"))
    name, wanted, mode = value.get("name"), value.get("args"), value.get("mode", "partial")
    if not isinstance(name, str) or not name:
        raise BadValue("the value needs the tool's name")
    if not isinstance(wanted, Mapping) or (mode == "partial" and not wanted):
        raise BadValue("the value needs args, a mapping that is not empty")
    if mode not in ("partial", "exact"):
        raise BadValue(f"mode must be partial or exact, got {shown(mode)}")
    matches = same if mode == "exact" else covers

    def judge(context: AssertionContext) -> Finding:
        calls = [call for call in _all_calls(context) if call.name == name]
        if not calls:
            return Finding(holds=False, came=_came(context))
        found = f"it called {quote(name)} with {listed(call.arguments for call in calls[:3])}"
        return Finding(any(_matching(call, wanted, matches) for call in calls), found)

    try:
        text = quote(json.dumps(wanted, ensure_ascii=False, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise BadValue(f"args cannot be written as JSON: {error}") from error
    how = "exactly" if mode == "exact" else "at least"
    return Check(f"to call {quote(name)} with {how} {text}", judge)


def _matching(call: _Call, wanted: object, matches: Callable[[object, object], bool]) -> bool:
    try:
        return matches(wanted, _arguments(call))
    except (ValueError, RecursionError):
        return False


def _tool_sequence(value: Any) -> Check:
    mode: object = "in_order"
    if isinstance(value, Mapping):
        _fields(value, ("steps", "mode"))
        value, mode = value.get("steps"), value.get("mode", mode)
    if mode not in ("in_order", "exact"):
        raise BadValue(f"mode must be in_order or exact, got {shown(mode)}")
    names = _names(value)

    def judge(context: AssertionContext) -> Finding:
        called = [call.name for call in _all_calls(context)]
        holds = called == names if mode == "exact" else in_order(names, called)
        return Finding(holds, _came(context))

    how = "exactly " if mode == "exact" else ""
    return Check(f"to call {how}{listed(names)} in this order", judge)


TYPES: Mapping[str, AssertionType] = {
    "is-valid-function-call": without_threshold(_valid_function_call),
    "is-valid-openai-function-call": without_threshold(_valid_function_call),
    "is-valid-openai-tools-call": without_threshold(_valid_tools_call),
    "tool-call-f1": _tool_call_f1,
    "trajectory:tool-used": without_threshold(_tool_used),
    "trajectory:tool-args-match": without_threshold(_args_match),
    "trajectory:tool-sequence": without_threshold(_tool_sequence),
    "trajectory:step-count": without_threshold(_step_count),
}
