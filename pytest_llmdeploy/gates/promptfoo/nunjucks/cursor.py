"""A place in a template's tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from pytest_llmdeploy.gates.promptfoo.nunjucks.lexer import Kind, TemplateError, Token


class Cursor:
    """Tokens, and how far they have been read."""

    def __init__(self, found: Sequence[Token]) -> None:
        self._tokens = found
        self._at = 0
        self._end = Token("end", "the end", found[-1].line if found else 1)

    def peek(self, ahead: int = 0) -> Token:
        """Return the next token, or one after it, without stepping over it."""
        at = self._at + ahead
        return self._tokens[at] if at < len(self._tokens) else self._end

    def next(self) -> Token:
        """Step over the next token and return it."""
        token = self.peek()
        self._at += 1
        return token

    def skip(self, operator: str) -> bool:
        """Step over an operator where it comes next; say whether it did."""
        token = self.peek()
        found = token.kind == "operator" and token.value == operator
        self._at += found
        return found

    def skip_word(self, word: str) -> bool:
        """Step over a word where it comes next; say whether it did."""
        token = self.peek()
        found = token.kind == "symbol" and token.value == word
        self._at += found
        return found

    def symbol(self) -> str:
        """Step over a name and return it."""
        token = self.next()
        if token.kind != "symbol":
            self._at -= 1
            self.fail("expected a name")
        return token.value

    def expect(self, kind: Kind) -> None:
        """Step over a token of this kind, which must come next."""
        if self.next().kind != kind:
            self._at -= 1
            close = "'}}'" if kind == "endvariable" else "'%}'"
            self.fail(f"expected {close}")

    def fail(self, message: str) -> NoReturn:
        """Raise TemplateError with the place."""
        token = self.peek()
        found = "" if token.kind == "end" else f", found {token.value!r}"
        raise TemplateError(f"line {token.line}: {message}{found}")
