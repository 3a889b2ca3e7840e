"""JavaScript's regular expressions, by the module `regex`: parsed, checked and written anew.

The dialects differ in what is valid at all (``(?i)``, ``a++``), in what signs mean (``$``, ``\\d``,
``[]``) and in the unit: without flags JavaScript counts UTF-16 code units, not characters.
"""

from __future__ import annotations

import re
from functools import lru_cache

from pytest_llmdeploy.gates.assertions import NotEvaluable, pattern
from pytest_llmdeploy.gates.assertions.spec import BadValue
from pytest_llmdeploy.gates.promptfoo.js_values import SPACE

MAX_DEPTH = 200
"""Groups within groups."""
_ASTRAL = re.compile("[\U00010000-\U0010ffff]")
_WORD = "A-Za-z0-9_"
_CLASSES = {
    "d": "0-9", "D": "^0-9", "w": _WORD, "W": f"^{_WORD}", "s": SPACE, "S": f"^{SPACE}",
}  # fmt: skip
_BOUNDARY = f"(?:(?<=[{_WORD}])(?![{_WORD}])|(?<![{_WORD}])(?=[{_WORD}]))"
_NO_BOUNDARY = f"(?:(?<=[{_WORD}])(?=[{_WORD}])|(?<![{_WORD}])(?![{_WORD}]))"
_CONTROL = {"t": 9, "n": 10, "v": 11, "f": 12, "r": 13}
_COUNT = re.compile(r"\{(\d+)(?:(,)(\d*))?\}")
_NAME = re.compile(r"<([^\W\d][\w$]*|\$[\w$]*)>")
_LAST = 0xFFFF


class InvalidPatternError(ValueError):
    """JavaScript refuses the pattern, too."""


def code_units(text: str) -> str:
    """Return the text with each character beyond U+FFFF as the two halves JavaScript sees."""
    return _ASTRAL.sub(_halves, text) if not text.isascii() else text


def _halves(match: re.Match[str]) -> str:
    code = ord(match[0]) - 0x10000
    return chr(0xD800 + (code >> 10)) + chr(0xDC00 + (code & 0x3FF))


def search(source: str, text: str) -> bool:
    """Say whether a pattern without flags matches somewhere.

    Raises InvalidPatternError, and NotEvaluable where the search takes too long.
    """
    try:
        return pattern.search("regex", translated(source), code_units(text))
    except BadValue as error:
        raise NotEvaluable(f"regex: {error}") from error


@lru_cache(maxsize=4096)
def translated(source: str, *, unicode: bool = False) -> str:
    """Return the same pattern for the module `regex`; raise InvalidPatternError.

    `unicode` is for patterns of JSON Schema, which count characters.
    """
    return _Parser(source if unicode else code_units(source)).whole()


class _Parser:
    def __init__(self, source: str) -> None:
        self.source = source
        self.at = 0
        self.depth = 0
        self.groups, self.names = _groups(source)
        self.opened = 0

    def whole(self) -> str:
        written = self.alternatives()
        if self.at < len(self.source):
            raise InvalidPatternError("unmatched ')'")
        return written

    def alternatives(self) -> str:
        parts: list[str] = []
        while self.at < len(self.source) and self.source[self.at] != ")":
            if self.source[self.at] == "|":
                self.at += 1
                parts.append("|")
            else:
                parts.append(self.term())
        return "".join(parts)

    def term(self) -> str:
        char = self.source[self.at]
        if char in "*+?" or _COUNT.match(self.source, self.at):
            raise InvalidPatternError("nothing to repeat")
        self.at += 1
        repeatable = True
        if char == "(":
            written, repeatable = self.group()
        elif char == "[":
            written = self.char_class()
        elif char == "\\":
            written, repeatable = self.escape()
        elif char == ".":
            written = "[^\\n\\r\\u2028\\u2029]"
        elif char in "^$":
            written, repeatable = ("\\A" if char == "^" else "\\Z"), False
        else:
            written = _literal(ord(char))
        return written + self.quantifier(repeatable)

    def quantifier(self, repeatable: bool) -> str:
        source = self.source
        if self.at >= len(source):
            return ""
        count = _COUNT.match(source, self.at)
        if source[self.at] in "*+?":
            written = source[self.at]
            self.at += 1
        elif count:
            least, most = int(count[1]), count[3]
            if most and int(most) < least:
                raise InvalidPatternError("numbers out of order in {} quantifier")
            if max(least, int(most or 0)) > 100_000:
                raise NotEvaluable(f"regex: {count[0]} repeats too often to be judged here")
            written = count[0]
            self.at = count.end()
        else:
            return ""
        if not repeatable:
            raise InvalidPatternError("nothing to repeat")
        if self.at < len(source) and source[self.at] == "?":
            self.at += 1
            written += "?"
        return written

    def group(self) -> tuple[str, bool]:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise NotEvaluable("regex: the pattern is nested too deeply to be judged here")
        opening, repeatable = "(", True
        if self.source.startswith("?", self.at):
            for start in ("?:", "?=", "?!", "?<=", "?<!"):
                if self.source.startswith(start, self.at):
                    opening, repeatable = f"({start}", not start.startswith("?<")
                    self.at += len(start)
                    break
            else:
                name = _NAME.match(self.source, self.at + 1)
                if not name:
                    raise InvalidPatternError("invalid group")
                self.at = name.end()
        if opening == "(":
            self.opened += 1
        written = f"{opening}{self.alternatives()})"
        if self.at >= len(self.source):
            raise InvalidPatternError("unterminated group")
        self.at += 1
        self.depth -= 1
        return (f"(?:{written})" if opening != "(" else written), repeatable

    def escape(self) -> tuple[str, bool]:
        if self.at >= len(self.source):
            raise InvalidPatternError("\\ at end of pattern")
        char = self.source[self.at]
        if char in "bB":
            self.at += 1
            return (_BOUNDARY if char == "b" else _NO_BOUNDARY), False
        if char in _CLASSES:
            self.at += 1
            return f"[{_CLASSES[char]}]", True
        if char == "k" and self.names:
            name = _NAME.match(self.source, self.at + 1)
            if not name or name[1] not in self.names:
                raise InvalidPatternError("invalid named reference")
            self.at = name.end()
            return self.back(self.names[name[1]]), True
        if char in "123456789":
            number = re.compile(r"\d+").match(self.source, self.at)
            if number and int(number[0]) <= self.groups:
                self.at = number.end()
                return self.back(int(number[0])), True
        return _literal(self.code()), True

    def back(self, number: int) -> str:
        # A group that has not matched yet is empty there, and never matches here.
        if number > self.opened:
            return "(?:)"
        return f"(?({number})\\{number}|)"

    def code(self) -> int:  # noqa: PLR0911
        """Return the character that an escape stands for; `at` is behind the backslash."""
        source, char = self.source, self.source[self.at]
        self.at += 1
        if char in _CONTROL:
            return _CONTROL[char]
        if char == "c":
            letter = source[self.at : self.at + 1]
            if letter.isascii() and letter.isalpha():
                self.at += 1
                return ord(letter) % 32
            self.at -= 1
            return ord("\\")
        if char in "xu":
            digits = source[self.at : self.at + (2 if char == "x" else 4)]
            if re.fullmatch("[0-9a-fA-F]{2}" if char == "x" else "[0-9a-fA-F]{4}", digits):
                self.at += len(digits)
                return int(digits, 16)
            return ord(char)
        octal = re.compile(r"[0-3][0-7]{0,2}|[4-7][0-7]?").match(source, self.at - 1)
        if octal:
            self.at = octal.end()
            return int(octal[0], 8)
        return ord(char)

    def char_class(self) -> str:
        negated = self.source.startswith("^", self.at)
        self.at += negated
        parts: list[str] = []
        while self.at < len(self.source) and self.source[self.at] != "]":
            first = self.member()
            if self.source.startswith("-", self.at) and self.source[
                self.at + 1 : self.at + 2
            ] not in ("", "]"):
                self.at += 1
                last = self.member()
                if isinstance(first, int) and isinstance(last, int):
                    if first > last:
                        raise InvalidPatternError("range out of order in character class")
                    parts.append(f"{_literal(first)}-{_literal(last)}")
                    continue
                parts += [_member(first), "\\-", _member(last)]
            else:
                parts.append(_member(first))
        if self.at >= len(self.source):
            raise InvalidPatternError("unterminated character class")
        self.at += 1
        if not parts:
            return "[\\s\\S]" if negated else "(?!)"
        return f"[{'^' if negated else ''}{''.join(parts)}]"

    def member(self) -> int | str:
        """Return a character of a class, or the name of a class in it."""
        char = self.source[self.at]
        self.at += 1
        if char != "\\":
            return ord(char)
        if self.at >= len(self.source):
            raise InvalidPatternError("\\ at end of pattern")
        escaped = self.source[self.at]
        if escaped in _CLASSES:
            self.at += 1
            return escaped
        if escaped == "b":
            self.at += 1
            return 8
        return self.code()


def _member(member: int | str) -> str:
    if isinstance(member, int):
        return _literal(member)
    if member in "dws":
        return _CLASSES[member]
    return _complement(member)


@lru_cache(maxsize=8)
def _complement(name: str) -> str:
    """Return what the class is made of as ranges: a set within a set means other things."""
    inside = re.compile(f"[{_CLASSES[name][1:]}]")
    ranges: list[str] = []
    start = None
    for code in range(0x110000 + 1):
        outside = code < 0x110000 and not inside.match(chr(code))
        if code > 0x3100 and code < 0xFE00:  # nothing of these classes is there
            continue
        if code > _LAST and code < 0x110000:
            continue
        if outside and start is None:
            start = code
        elif not outside and start is not None:
            ranges.append(f"{_literal(start)}-{_literal(min(code - 1, 0x10FFFF))}")
            start = None
    return "".join(ranges)


def _literal(code: int) -> str:
    char = chr(code)
    if char.isalnum() and code < 128:
        return char
    return f"\\U{code:08x}" if code > _LAST else f"\\u{code:04x}"


def _groups(source: str) -> tuple[int, dict[str, int]]:
    """Return how many groups capture, and the numbers of those with a name."""
    number, names, at, inside = 0, dict[str, int](), 0, False
    while at < len(source):
        char = source[at]
        if char == "\\":
            at += 2
            continue
        if inside:
            inside = char != "]"
        elif char == "[":
            inside = True
        elif char == "(":
            name = _NAME.match(source, at + 2) if source.startswith("?", at + 1) else None
            if name or not source.startswith("?", at + 1):
                number += 1
            if name:
                if name[1] in names:
                    raise InvalidPatternError("duplicate capture group name")
                names[name[1]] = number
        at += 1
    return number, names
