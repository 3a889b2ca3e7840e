"""Nodes and variables to text."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pytest_llmdeploy.gates.promptfoo.js_values import (
    UNDEFINED,
    added,
    compares,
    joined,
    loosely_equal,
    plain,
    strictly_equal,
    stringify,
    to_number,
    to_text,
    truthy,
)
from pytest_llmdeploy.gates.promptfoo.nunjucks import nodes
from pytest_llmdeploy.gates.promptfoo.nunjucks.filters import FILTERS
from pytest_llmdeploy.gates.promptfoo.nunjucks.functions import GLOBALS, member
from pytest_llmdeploy.gates.promptfoo.nunjucks.lexer import TemplateError
from pytest_llmdeploy.gates.promptfoo.nunjucks.limits import MOST_CHARACTERS, MOST_STEPS, size_of
from pytest_llmdeploy.gates.promptfoo.nunjucks.predicates import TESTS
from pytest_llmdeploy.gates.wording import quote


class Keywords(dict[str, Any]):
    """The keyword arguments of a call, which stand behind the others."""


class Frame:
    """Variables of a block; what it lacks, the one around it may have."""

    def __init__(self, parent: Frame | None = None, *, top: bool = False) -> None:
        self.variables: dict[str, Any] = {}
        self.parent = parent
        self.top = top

    def lookup(self, name: str) -> Any:
        frame: Frame | None = self
        while frame is not None:
            value = frame.variables.get(name, UNDEFINED)
            if value is not UNDEFINED:
                return value
            frame = frame.parent
        return UNDEFINED

    def assign(self, name: str, value: Any) -> None:
        """Set the variable where it exists already, else here."""
        frame: Frame | None = self
        while frame is not None:
            if frame.variables.get(name, UNDEFINED) is not UNDEFINED:
                frame.variables[name] = value
                return
            frame = frame.parent
        self.variables[name] = value


class Renderer:
    """Renders one template once."""

    def __init__(self, variables: Mapping[str, Any], environment: Mapping[str, str]) -> None:
        self._context: dict[str, Any] = dict(variables)
        self._globals: dict[str, Any] = {**GLOBALS, "env": dict(environment)}
        self._steps = 0
        self._characters = 0
        self._expressions: dict[type[nodes.Node], Callable[[Any, Frame], Any]] = {
            nodes.Constant: lambda node, _: node.value,
            nodes.Name: lambda node, frame: self._name(node.name, frame),
            nodes.Group: lambda node, frame: [UNDEFINED, *self._all(node.items, frame)][-1],
            nodes.ListOf: lambda node, frame: self._all(node.items, frame),
            nodes.DictOf: self._dictionary,
            nodes.Lookup: self._lookup,
            nodes.Call: self._call,
            nodes.Filter: self._filter,
            nodes.Prefix: self._prefix,
            nodes.Binary: self._binary,
            nodes.Inside: self._inside,
            nodes.Test: self._test,
            nodes.Choice: self._choice,
            nodes.Caller: self._function,
            nodes.Capture: lambda node, frame: self._text(node.body, frame),
        }
        self._statements: dict[type[nodes.Node], Callable[[Any, Frame, list[str]], None]] = {
            nodes.Data: lambda node, _, out: self._write(node.text, out),
            nodes.Output: self._output,
            nodes.Condition: self._condition,
            nodes.Loop: self._loop,
            nodes.Assignment: lambda node, frame, _: self._assignment(node, frame),
            nodes.Macro: lambda node, frame, _: self._macro(node, frame),
            nodes.Switch: self._switch,
            nodes.Block: self._block,
        }

    def render(self, template: nodes.Block) -> str:
        """Return the text; raise TemplateError."""
        return self._text(template, Frame(top=True))

    # Statements

    def _block(self, block: nodes.Block, frame: Frame, out: list[str]) -> None:
        for node in block.nodes:
            self._step()
            self._statements[type(node)](node, frame, out)

    def _text(self, block: nodes.Block, frame: Frame) -> str:
        out: list[str] = []
        self._block(block, frame, out)
        return "".join(out)

    def _write(self, text: str, out: list[str]) -> None:
        self._characters += len(text)
        if self._characters > MOST_CHARACTERS:
            raise TemplateError(f"the template writes more than {MOST_CHARACTERS} characters")
        out.append(text)

    def _output(self, node: nodes.Output, frame: Frame, out: list[str]) -> None:
        value = self._value(node.value, frame)
        if callable(value):
            raise TemplateError("the template prints a function")
        if value is not None and value is not UNDEFINED:
            size_of(value)
            self._write(to_text(value), out)

    def _condition(self, node: nodes.Condition, frame: Frame, out: list[str]) -> None:
        if truthy(self._value(node.condition, frame)):
            self._block(node.then, frame, out)
        elif node.otherwise is not None:
            self._block(node.otherwise, frame, out)

    def _loop(self, node: nodes.Loop, frame: Frame, out: list[str]) -> None:
        items = self._value(node.items, frame)
        inner = Frame(frame)
        rounds: Sequence[Sequence[Any]] = ()
        if len(node.names) == 1:
            rounds = [(item,) for item in items] if isinstance(items, list | str) else ()
        elif isinstance(items, list):
            rounds = [
                [member(item, float(place), safe=False) for place in range(len(node.names))]
                for item in items
            ]
        elif isinstance(items, Mapping):
            rounds = list(items.items())
        elif isinstance(items, str):
            rounds = [(str(place), letter) for place, letter in enumerate(items)]
        count = len(rounds)
        for index, values in enumerate(rounds):
            self._step()
            inner.variables.update(zip(node.names, values, strict=False))
            inner.variables["loop"] = {
                "index": index + 1,
                "index0": index,
                "revindex": count - index,
                "revindex0": count - index - 1,
                "first": index == 0,
                "last": index == count - 1,
                "length": count,
            }
            self._block(node.body, inner, out)
        if not count and node.otherwise is not None:
            self._block(node.otherwise, inner, out)

    def _assignment(self, node: nodes.Assignment, frame: Frame) -> None:
        value = self._value(node.value, frame)
        for name in node.names:
            frame.assign(name, value)
            if frame.top:
                self._context[name] = value

    def _macro(self, node: nodes.Macro, frame: Frame) -> None:
        function = self._function(node, None)
        frame.assign(node.name, function)
        if frame.top:
            self._context[node.name] = function

    def _switch(self, node: nodes.Switch, frame: Frame, out: list[str]) -> None:
        value = self._value(node.value, frame)
        matched = False
        for wanted, body in node.cases:
            matched = matched or strictly_equal(value, self._value(wanted, frame))
            if matched and body.nodes:  # an empty case falls through
                self._block(body, frame, out)
                return
        if node.otherwise is not None:
            self._block(node.otherwise, frame, out)

    # Expressions

    def _value(self, node: nodes.Node, frame: Frame) -> Any:
        self._step()
        return self._expressions[type(node)](node, frame)

    def _step(self) -> None:
        self._steps += 1
        if self._steps > MOST_STEPS:
            raise TemplateError(f"the template takes more than {MOST_STEPS} steps")

    def _all(self, items: Sequence[nodes.Node], frame: Frame) -> list[Any]:
        return [self._value(item, frame) for item in items]

    def _name(self, name: str, frame: Frame) -> Any:
        value = frame.lookup(name)
        if value is not UNDEFINED:
            return value
        if name in self._context:
            return self._context[name]
        return self._globals.get(name, UNDEFINED)

    def _dictionary(self, node: nodes.DictOf, frame: Frame) -> dict[str, Any]:
        return {key: self._value(value, frame) for key, value in node.pairs}

    def _lookup(self, node: nodes.Lookup, frame: Frame) -> Any:
        return member(self._value(node.target, frame), self._value(node.key, frame))

    def _arguments(self, node: nodes.Call | nodes.Filter, frame: Frame) -> list[Any]:
        values = self._all(node.arguments, frame)
        if node.keywords:
            values.append(Keywords({key: self._value(one, frame) for key, one in node.keywords}))
        return values

    def _call(self, node: nodes.Call, frame: Frame) -> Any:
        function = self._value(node.target, frame)
        if not callable(function):
            what = "undefined" if not truthy(function) else "no function"
            raise TemplateError(f"cannot call {_called(node.target)}, which is {what}")
        return self._applied(_called(node.target), function, self._arguments(node, frame))

    def _filter(self, node: nodes.Filter, frame: Frame) -> Any:
        function = FILTERS.get(node.name)
        if function is None:
            raise TemplateError(f"there is no filter '{node.name}'")
        return self._applied(f"the filter '{node.name}'", function, self._arguments(node, frame))

    def _applied(self, what: str, function: Callable[..., Any], arguments: list[Any]) -> Any:
        try:
            value = function(*arguments)
        except TemplateError:
            raise
        except (TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
            shown = _shown(arguments[0]) if arguments else "nothing"
            raise TemplateError(f"{what} cannot be applied to {quote(shown, 60)}") from error
        self._steps += size_of(value)
        return value

    def _function(self, node: nodes.Macro | nodes.Caller, around: Frame | None) -> Any:
        """Return what a macro or the body of a call block is when it is called."""

        def function(*given: Any) -> str:
            self._step()
            keywords = given[-1] if given and isinstance(given[-1], Keywords) else Keywords()
            values = [one for one in given if not isinstance(one, Keywords)]
            inner = Frame(around)
            for place, name in enumerate(node.parameters):
                value = values[place] if place < len(values) else keywords.get(name, UNDEFINED)
                inner.variables[name] = value
            extra = values[len(node.parameters) :]
            for place, (name, default) in enumerate(node.defaults):
                if place < len(extra):
                    inner.variables[name] = extra[place]
                else:
                    known = name in keywords
                    inner.variables[name] = keywords[name] if known else self._value(default, inner)
            if "caller" in keywords:
                inner.variables["caller"] = keywords["caller"]
            return self._text(node.body, inner)

        return function

    def _prefix(self, node: nodes.Prefix, frame: Frame) -> Any:
        value = self._value(node.operand, frame)
        if node.operator == "not":
            return not truthy(value)
        number = to_number(value)
        return plain(-number if node.operator == "-" else number)

    def _binary(self, node: nodes.Binary, frame: Frame) -> Any:
        left = self._value(node.left, frame)
        operator = node.operator
        if operator in {"or", "and"}:
            return left if truthy(left) is (operator == "or") else self._value(node.right, frame)
        right = self._value(node.right, frame)
        if operator == "+":
            total = added(left, right)
            self._steps += size_of(total)
            return total
        if operator in {"==", "!="}:
            return loosely_equal(left, right) is (operator == "==")
        if operator in {"===", "!=="}:
            return strictly_equal(left, right) is (operator == "===")
        if operator in {"<", ">", "<=", ">="}:
            return compares(left, operator, right)
        return arithmetic(operator, to_number(left), to_number(right))

    def _inside(self, node: nodes.Inside, frame: Frame) -> bool:
        left, right = self._value(node.left, frame), self._value(node.right, frame)
        if isinstance(right, str):
            return to_text(left) in right
        if isinstance(right, list):
            return any(strictly_equal(left, one) for one in right)
        if isinstance(right, Mapping):
            return to_text(left) in right
        raise TemplateError("'in' needs a list, a text or an object on its right side")

    def _test(self, node: nodes.Test, frame: Frame) -> bool:
        test = TESTS.get(node.name)
        if test is None:
            raise TemplateError(f"there is no test '{node.name}'")
        arguments = [self._value(node.value, frame), *self._all(node.arguments, frame)]
        return self._applied(f"the test '{node.name}'", test, arguments) is True

    def _choice(self, node: nodes.Choice, frame: Frame) -> Any:
        if truthy(self._value(node.condition, frame)):
            return self._value(node.then, frame)
        return "" if node.otherwise is None else self._value(node.otherwise, frame)


def arithmetic(operator: str, left: float, right: float) -> float:
    """Return left - right and so on, as doubles: what has no result is NaN or infinite."""
    if operator == "-":
        return plain(left - right)
    if operator == "*":
        return plain(float(left) * float(right))
    if operator == "%":
        whole = not math.isfinite(left) or math.isnan(right) or right == 0
        return math.nan if whole else plain(math.fmod(left, right))
    if right == 0:
        nothing = left == 0 or math.isnan(left)
        return math.nan if nothing else math.copysign(math.inf, left) * math.copysign(1, right)
    return plain(left / right)


def _shown(value: Any) -> str:
    try:
        return stringify(value)[:60]
    except ValueError:
        return "a long value"


def _called(node: nodes.Node) -> str:
    if isinstance(node, nodes.Name):
        return f"'{node.name}'"
    if isinstance(node, nodes.Lookup) and isinstance(node.key, nodes.Constant):
        return f"'{joined([node.key.value], '')}'"
    return "this expression"
