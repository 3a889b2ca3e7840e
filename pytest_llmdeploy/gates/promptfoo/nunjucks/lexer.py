"""A template's text to tokens."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "data", "block", "endblock", "variable", "endvariable", "operator", "symbol", "text", "number",
    "constant", "end",
]  # fmt: skip
_OPEN = re.compile(r"\{\{-?|\{%-?|\{#|#\}")
_SPACE = re.compile(r"[ \n\t\r\xa0]+")
_OPERATOR = re.compile(r"===|!==|==|!=|<=|>=|//|\*\*|[()\[\]{}%*\-+~/#,:|.<>=!]")
_WORD = re.compile(r"[^ \n\t\r\xa0()\[\]{}%*\-+~/#,:|.<>=!]+")
_NUMBER = re.compile(r"[0-9]+")
_RAW = re.compile(r"\{%-?\s*(raw|verbatim)\s*(-?)%\}")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}
CONSTANTS: dict[str, bool | None] = {"true": True, "false": False, "none": None, "null": None}


class TemplateError(ValueError):
    """The template cannot be filled in; the text says why."""


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of the template."""

    kind: Kind
    value: str
    line: int


def tokens(text: str) -> Iterator[Token]:
    """Yield the tokens, space controlled by dashes already removed; raise TemplateError."""
    position, strip_next = 0, False
    while position < len(text):
        found = _OPEN.search(text, position)
        data = text[position : found.start() if found else len(text)]
        line = text.count("\n", 0, position) + 1
        if strip_next:
            data = data.lstrip()
        if found is None:
            yield Token("data", data, line)
            return
        mark, start = found.group(), found.start()
        line = text.count("\n", 0, start) + 1
        comment_strips = mark == "{#" and text.startswith("{#-", start)
        if data:
            strips = mark.endswith("-") or comment_strips
            yield Token("data", data.rstrip() if strips else data, line)
            strip_next = False
        if mark == "#}":
            raise TemplateError(f"line {line}: a comment ends that never began")
        if mark == "{#":
            end = text.find("#}", start + 2)
            if end < 0:
                raise TemplateError(f"line {line}: a comment is never closed")
            strip_next = text[end - 1] == "-"
            position = end + 2
            continue
        if raw := _RAW.match(text, start):
            body, position = _raw(text, raw)
            strip_next = text[position - 3] == "-"
            yield Token("data", body.lstrip() if raw[2] else body, line)
            continue
        opened: Kind = "variable" if mark.startswith("{{") else "block"
        yield Token(opened, mark, line)
        position, strip_next = yield from _code(text, found.end(), opened)


def _raw(text: str, opening: re.Match[str]) -> tuple[str, int]:
    """Return what stands between the tags, and the position behind them."""
    name = opening[1]
    tag = re.compile(r"\{%\s*(" + name + "|end" + name + r")\s*%\}")
    level, position = 1, opening.end()
    while found := tag.search(text, position):
        level += 1 if found[1] == name else -1
        if not level:
            return text[opening.end() : found.start()], found.end()
        position = found.end()
    raise TemplateError(f"{{% {name} %}} is never closed")


def _code(text: str, position: int, opened: Kind) -> Generator[Token, None, tuple[int, bool]]:
    """Yield the tokens of one tag; return the position behind it and whether it strips space."""
    close = "}}" if opened == "variable" else "%}"
    kind: Kind = "endvariable" if opened == "variable" else "endblock"
    while position < len(text):
        line = text.count("\n", 0, position) + 1
        if space := _SPACE.match(text, position):
            position = space.end()
            continue
        for mark in (f"-{close}", close):
            if text.startswith(mark, position):
                yield Token(kind, mark, line)
                return position + len(mark), mark.startswith("-")
        character = text[position]
        if character in "\"'":
            value, position = _string(text, position, character)
            yield Token("text", value, line)
        elif text.startswith("r/", position):
            raise TemplateError(f"line {line}: regular expressions in templates are not supported")
        elif operator := _OPERATOR.match(text, position):
            position = operator.end()
            yield Token("operator", operator.group(), line)
        elif word := _WORD.match(text, position):
            value, position = word.group(), word.end()
            if _NUMBER.fullmatch(value):
                if text.startswith(".", position):
                    digits = _NUMBER.match(text, position + 1)
                    fraction = digits.group() if digits else ""
                    value, position = f"{value}.{fraction}", position + 1 + len(fraction)
                yield Token("number", value, line)
            else:
                yield Token("constant" if value in CONSTANTS else "symbol", value, line)
    raise TemplateError(f"the tag is never closed: expected '{close}' before the template's end")


def _string(text: str, position: int, quote: str) -> tuple[str, int]:
    parts: list[str] = []
    position += 1
    while position < len(text) and text[position] != quote:
        if text[position] == "\\":
            position += 1
            letter = text[position : position + 1]
            parts.append(_ESCAPES.get(letter, letter))
        else:
            parts.append(text[position])
        position += 1
    return "".join(parts), position + 1
