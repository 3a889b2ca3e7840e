"""The formula of a multi grader: arithmetic over the scores of its parts, read by a parser.

``+ - * / ^``, parentheses, numbers, names of graders, and min, max, abs, floor, ceil, exp, sqrt
and log, as the service documents them. Nothing is ever handed to Python to run.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence

LONGEST = 2000
"""Characters of a formula; its depth is bounded by them, too."""
DEEPEST = 50
_TOKEN = re.compile(r"\s*(?:(\d+\.?\d*(?:[eE][-+]?\d+)?|\.\d+)|([A-Za-z_]\w*)|([-+*/^(),]))")
_FUNCTIONS: dict[str, Callable[..., float]] = {
    "min": min,
    "max": max,
    "abs": abs,
    "floor": math.floor,
    "ceil": math.ceil,
    "exp": math.exp,
    "sqrt": math.sqrt,
    "log": math.log,
}


class BadFormulaError(ValueError):
    """The formula cannot be computed; the text says why."""


def compute(formula: str, scores: Mapping[str, float]) -> float:
    """Return the formula's value, a finite number; raise BadFormulaError."""
    parser = _Parser(_tokens(formula), scores)
    try:
        value = float(parser.whole())
    except (ArithmeticError, ValueError, TypeError) as error:
        if isinstance(error, BadFormulaError):
            raise
        raise BadFormulaError(f"the formula cannot be computed: {error}") from error
    if not math.isfinite(value):
        raise BadFormulaError("the formula's value is no finite number")
    return value


def _tokens(formula: str) -> list[str]:
    if len(formula) > LONGEST:
        raise BadFormulaError(f"the formula is longer than {LONGEST} characters")
    tokens, position = [], 0
    text = formula.strip()
    while position < len(text):
        token = _TOKEN.match(text, position)
        if token is None:
            raise BadFormulaError(f"the formula has {text[position]!r}, which means nothing in it")
        tokens.append(token[0].strip())
        position = token.end()
    return tokens


class _Parser:
    """Recursive descent; each level binds tighter than the one before."""

    def __init__(self, tokens: Sequence[str], scores: Mapping[str, float]) -> None:
        self._tokens = tokens
        self._scores = scores
        self._at = 0
        self._depth = 0

    def whole(self) -> float:
        value = self._sum()
        if self._peek():
            raise BadFormulaError(f"the formula has {self._peek()!r} too much")
        return value

    def _peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _take(self) -> str:
        token = self._peek()
        if not token:
            raise BadFormulaError("the formula ends too early")
        self._at += 1
        return token

    def _expect(self, token: str) -> None:
        if self._take() != token:
            raise BadFormulaError(f"the formula lacks a {token!r}")

    def _sum(self) -> float:
        self._depth += 1
        if self._depth > DEEPEST:
            raise BadFormulaError(f"the formula is nested deeper than {DEEPEST} levels")
        value = self._product()
        while self._peek() in ("+", "-"):
            value = value + self._product() if self._take() == "+" else value - self._product()
        self._depth -= 1
        return value

    def _product(self) -> float:
        value = self._signed()
        while self._peek() in ("*", "/"):
            value = value * self._signed() if self._take() == "*" else value / self._signed()
        return value

    def _signed(self) -> float:
        sign = 1
        while self._peek() in ("-", "+"):
            sign = -sign if self._take() == "-" else sign
        return sign * self._power()

    def _power(self) -> float:
        base = self._atom()
        if self._peek() != "^":
            return base
        self._take()
        self._depth += 1
        if self._depth > DEEPEST:
            raise BadFormulaError(f"the formula is nested deeper than {DEEPEST} levels")
        value = math.pow(base, self._signed())
        self._depth -= 1
        return value

    def _atom(self) -> float:
        word = self._take()
        if word == "(":
            value = self._sum()
            self._expect(")")
            return value
        if word in _FUNCTIONS and self._peek() == "(":
            return self._call(word)
        if word in self._scores:
            return self._scores[word]
        if word[0].isdigit() or word[0] == ".":
            return float(word)
        known = ", ".join(self._scores) or "none"
        raise BadFormulaError(f"the formula names {word!r}; its graders are: {known}")

    def _call(self, name: str) -> float:
        self._expect("(")
        values = [self._sum()]
        while self._peek() == ",":
            self._take()
            values.append(self._sum())
        self._expect(")")
        if len(values) > 1 and name not in ("min", "max"):
            raise BadFormulaError(f"{name} takes one number, not {len(values)}")
        return float(
            _FUNCTIONS[name](values) if name in ("min", "max") else _FUNCTIONS[name](*values)
        )
