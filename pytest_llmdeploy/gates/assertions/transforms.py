"""What is done to an answer before it is judged: a template, Python or JavaScript.

The forms are ``{{ output | upper }}``, ``python: package.module:function`` and
``javascript: <expression>``. A transform that fails leaves nothing to judge: NotEvaluable.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from pytest_llmdeploy.config.sentences import shown
from pytest_llmdeploy.errors import MissingExtraError, NotMeasuredError
from pytest_llmdeploy.gates.assertions import functions, javascript
from pytest_llmdeploy.gates.assertions.spec import (
    AssertionContext,
    BadValue,
    NotEvaluable,
    Origin,
    Transform,
)
from pytest_llmdeploy.gates.templates import is_template, sandbox
from pytest_llmdeploy.gates.wording import quote
from pytest_llmdeploy.untrusted import one_line

MAX_LENGTH = 10_000_000
"""Most characters of what a transform makes of an answer."""
_FORMS = (
    "write a template such as '{{ output | trim }}', 'python: package.module:function'"
    " or 'javascript: output.length'"
)


def prepare(written: object, root: Path | None, origin: Origin) -> Transform:
    """Return the transform that a user wrote, compiled or imported; raise BadValue.

    A module that stands below `root` is taken from there or not at all. Templates in it are
    filled in for each answer, and not with the variables of `origin`.
    """
    if not isinstance(written, str):
        raise BadValue(f"expected text, got {shown(written)}: {_FORMS}")
    text = written.strip()
    kind, _, rest = text.partition(":")
    try:
        if kind in {"python", "javascript"}:
            origin.refuse_code(filled=False)
            rest = rest.strip()
            change = (
                _python(rest, root)
                if kind == "python"
                else javascript.runner(rest, "output.trim()")
            )
        elif is_template(text):
            change = _template(text)
        else:
            raise BadValue(f"{quote(text, 80)} would give every answer the same text: {_FORMS}")
    except MissingExtraError as error:
        raise BadValue(str(error)) from error
    return Transform(written, change)


def apply(transforms: Sequence[Transform], context: AssertionContext) -> AssertionContext:
    """Return the context with what the transforms, one after the other, make of the answer.

    Text becomes the answer's; another value is `output`, and the answer's text its compact JSON.
    Raises NotEvaluable.
    """
    for transform in transforms:
        before = context.answer.text if context.output is None else context.output
        label = f"the transform {quote(transform.written, 80)}"
        try:
            value = transform.change(before, context)
        except NotMeasuredError as error:
            raise NotEvaluable(f"{label}: {one_line(str(error))}") from error
        except BaseException as error:  # a template's own, or deep recursion; see functions.py
            raise NotEvaluable(
                f"{label} failed: {type(error).__name__}: {one_line(str(error))}"
            ) from error
        text, output = _as_answer(label, value)
        context = replace(context, answer=replace(context.answer, text=text), output=output)
    return context


def _as_answer(label: str, value: Any) -> tuple[str, Any]:
    """Return the text and the value that stand for what a transform returned."""
    if value is None:
        raise NotEvaluable(f"{label} returned nothing")
    if isinstance(value, str):
        text, output = str(value), None
    else:
        try:
            text = _to_json(value)
            output = json.loads(text)
        except (TypeError, ValueError, RecursionError) as error:
            raise NotEvaluable(
                f"{label} returned a {type(value).__name__} that is no JSON: {one_line(str(error))}"
            ) from error
    if len(text) > MAX_LENGTH:
        raise NotEvaluable(f"{label} returned more than {MAX_LENGTH} characters")
    return text, output


def _to_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _from_json(text: Any) -> Any:
    """Return the value of a JSON text; what is a value already stays."""
    return json.loads(text, parse_constant=_no_number) if isinstance(text, str) else text


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _python(value: str, root: Path | None) -> Callable[[Any, AssertionContext], Any]:
    function = functions.imported(value, root)
    functions.refuse_async(value, function, "a transform")

    def change(output: Any, context: AssertionContext) -> Any:
        try:
            return function(output, context)
        except BaseException as error:  # pytest.skip() and sys.exit() are no values
            place = functions.place_of(function, error)
            raise NotEvaluable(
                f"it raised {type(error).__name__}: {one_line(str(error))} ({place})"
            ) from error

    return change


def _template(text: str) -> Callable[[Any, AssertionContext], Any]:
    """Return what renders a template, or computes the one expression that it consists of."""
    import jinja2
    from jinja2 import nodes

    environment = _environment()
    try:
        body = environment.parse(text).body
        parts = body[0].nodes if len(body) == 1 and isinstance(body[0], nodes.Output) else []
        if len(parts) == 1 and not isinstance(parts[0], nodes.TemplateData):
            inner = text[2:-2].removeprefix("-").removeprefix("+").removesuffix("-")
            run = environment.compile_expression(inner, undefined_to_none=False)
        else:
            run = environment.from_string(text).render
    except jinja2.TemplateSyntaxError as error:
        raise BadValue(
            f"the template {quote(text, 80)} is broken on its line {error.lineno}: {error.message}"
        ) from error

    def change(output: Any, context: AssertionContext) -> Any:
        value = run(output=output, vars=context.vars)
        # An undefined name raises here, with a sentence of Jinja's own.
        return str(value) if isinstance(value, jinja2.Undefined) else value

    return change


@cache
def _environment() -> Any:
    environment = sandbox()
    environment.filters["fromjson"] = _from_json
    environment.filters["tojson"] = _to_json
    return environment
