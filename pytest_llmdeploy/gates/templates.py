"""Jinja2 templates of prompts and assertions, and lists of chat messages made of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from functools import cache, lru_cache, wraps
from typing import Any

from pytest_llmdeploy.config.sentences import shown, suggestion
from pytest_llmdeploy.errors import MissingExtraError
from pytest_llmdeploy.gates.wording import quote

MAX_PRODUCT = 1_000_000
"""Most characters or digits that a multiplication in a template may make."""
_MARKS = re.compile(r"\{[{%#]")
_WIDE = re.compile(
    r"%[^%{}\sA-Za-z]{0,9}(?:\d{7}|\*)"
    r"""|\{[^{}\s"':]{0,99}:[^{}"']{0,9}(?:\d{7}|\{)"""
)
"""A width of seven digits in a format, or one that is told elsewhere."""
_FILLING = frozenset({"ljust", "rjust", "center", "zfill", "expandtabs"})
"""Functions that make a text as long as a number says."""
_COUNTED: ContextVar[int] = ContextVar("counted", default=0)
"""Numbers that the ranges of the template that is rendered have given so far."""
_UNDEFINED = re.compile(r"'(.+)' is undefined")


class TemplateError(ValueError):
    """A template cannot be rendered for a case; the text is for the user."""


def is_template(value: object) -> bool:
    """Say whether a text, or a text anywhere inside lists and mappings, has template marks."""
    if isinstance(value, str):
        return _MARKS.search(value) is not None
    if isinstance(value, Mapping):
        return any(is_template(part) for part in value.values())
    return isinstance(value, list | tuple) and any(is_template(part) for part in value)


def render_text(text: str, variables: Mapping[str, Any]) -> str:
    """Return the text with `variables` filled in; raise TemplateError.

    A text without template marks is returned as it is, less one line break at its end.
    """
    if not is_template(text):
        return text.removesuffix("\n")
    _COUNTED.set(0)
    try:
        return _compiled(text)(variables)
    except (MissingExtraError, TemplateError):
        raise
    except Exception as error:
        raise TemplateError(_reason(text, error, variables)) from error


def render_tree(value: Any, variables: Mapping[str, Any]) -> Any:
    """Return `value` with every text inside lists and mappings rendered."""
    if isinstance(value, str):
        return render_text(value, variables)
    if isinstance(value, Mapping):
        return {key: render_tree(part, variables) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [render_tree(part, variables) for part in value]
    return value


def message_problem(messages: object) -> str | None:
    """Say what is wrong with a list of chat messages; None when nothing is."""
    if not isinstance(messages, Sequence) or isinstance(messages, str):
        return f"expected a list of messages, got {shown(messages)}"
    if not messages:
        return "the list of messages is empty"
    for number, message in enumerate(messages, start=1):
        if not isinstance(message, Mapping):
            return f"message {number}: expected {{role, content}}, got {shown(message)}"
        if not isinstance(message.get("role"), str) or not message["role"]:
            return f"message {number} has no role"
        content = message.get("content")
        if not isinstance(content, str | list | tuple) and not message.get("tool_calls"):
            return f"message {number}: content must be a text or a list of parts"
    return None


def sandbox() -> Any:
    """Return a new Jinja2 environment for texts whose authors nobody knows.

    A name that is not there is an error. Products stay within MAX_PRODUCT characters or digits.
    """
    try:
        import jinja2
        from jinja2.sandbox import ImmutableSandboxedEnvironment
    except ImportError as error:
        raise MissingExtraError("quality gates", "gates", "jinja2") from error

    class Sandbox(ImmutableSandboxedEnvironment):
        intercepted_binops = frozenset({"*", "**", "%"})

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            if operator == "%" and isinstance(left, str):
                _refuse_wide(operator, left)
            elif _size(operator, left, right) > MAX_PRODUCT:
                raise OverflowError(f"the result of {operator} is too large")
            return super().call_binop(context, operator, left, right)

        def call(self, context: Any, function: Any, /, *args: Any, **named: Any) -> Any:
            if getattr(function, "__name__", "") in _FILLING:
                _refuse_wide("a call", *args, *named.values())
            return super().call(context, function, *args, **named)

        def wrap_str_format(self, value: Any) -> Any:
            wrapped = super().wrap_str_format(value)
            if wrapped is not None:
                _refuse_wide("format", value.__self__)
            return wrapped

    # Prompts are plain text: escaping HTML would change the question.
    environment = Sandbox(undefined=jinja2.StrictUndefined, autoescape=False)
    for name in ("batch", "center", "format", "indent", "slice"):
        environment.filters[name] = _narrow(name, environment.filters[name])
    environment.globals["range"] = _counted_range
    del environment.globals["lipsum"]
    return environment


def _counted_range(*bounds: int) -> range:
    """Return a range; raise OverflowError where those of a template give too many numbers.

    A loop within a loop makes its range anew each time.
    """
    numbers = range(*bounds)
    _COUNTED.set(_COUNTED.get() + len(numbers))
    if _COUNTED.get() > MAX_PRODUCT:
        raise OverflowError(f"its ranges have more than {MAX_PRODUCT} numbers")
    return numbers


def _narrow(name: str, change: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(change)
    def narrow(*args: Any, **named: Any) -> Any:
        _refuse_wide(name, *(args[:1] if name == "format" else (*args[1:], *named.values())))
        return change(*args, **named)

    return narrow


def _refuse_wide(what: str, *values: Any) -> None:
    """Raise OverflowError for numbers, or widths in formats, that could fill the memory."""
    for value in values:
        wide = isinstance(value, int) and value > MAX_PRODUCT
        if wide or (isinstance(value, str) and _WIDE.search(value)):
            raise OverflowError(f"the result of {what} is too large")


def _size(operator: str, left: Any, right: Any) -> float:
    """Return about how many characters or digits an operation makes."""
    for one, other in ((left, right), (right, left)):
        if isinstance(one, str | list | tuple) and isinstance(other, int):
            return len(one) * max(other, 0)
    if isinstance(left, int) and isinstance(right, int):
        return left.bit_length() * right if operator == "**" else left.bit_length()
    return 0


@cache
def _environment() -> Any:
    return sandbox()


@lru_cache(maxsize=4096)
def _compiled(text: str) -> Callable[[Mapping[str, Any]], str]:
    environment = _environment()
    import jinja2

    try:
        render: Callable[[Mapping[str, Any]], str] = environment.from_string(text).render
    except jinja2.TemplateSyntaxError as error:
        raise TemplateError(
            f"the template {quote(text, 80)} is broken on its line {error.lineno}: {error.message}"
        ) from error
    return render


def _reason(text: str, error: Exception, variables: Mapping[str, Any]) -> str:
    missing = _UNDEFINED.fullmatch(str(error))
    if missing is None:
        return f"the template {quote(text, 80)} failed: {type(error).__name__}: {error}"
    name = missing[1]
    near = suggestion(name, variables) or f", which has {', '.join(variables) or 'none'}"
    return f"the template {quote(text, 80)} needs the variable '{name}' of the case{near}"
