"""Words and signs of a text, apart as in the Penn Treebank: what ROUGE counts."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from pytest_llmdeploy.gates.measures.spaces import SPACE

_SPACES: Final = re.compile(f"[{SPACE}\x85]+")
_QUOTES: Final = re.compile("``|''|\"")
_ELLIPSIS: Final = re.compile(r"\.{3}")
_CONTRACTIONS: Final = (
    "(can)(not)", "(d)('ye)", "(gim)(me)", "(gon)(na)", "(got)(ta)", "(lem)(me)", "(more)('n)",
    "(wan)(na)(?= )", "('t)(is)", "('t)(was)",
)  # fmt: skip
_IN_WORD: Final = r"[\w\u200c\u200d]"


def tokens(text: str) -> list[str]:
    """Return the words and signs of a text in lower case."""
    text = _SPACES.sub(" ", text).strip(" ")
    if not text:
        return []
    text = _quoted(text)
    text = _ELLIPSIS.sub(" ... ", text)
    text = re.sub(r"[:,](?!\d)", r" \g<0> ", text)
    text = re.sub(r"[;@#$%&]", r" \g<0> ", text)
    text = _last_stop(text)
    text = re.sub(r"[?!]", r" \g<0> ", text)
    text = re.sub(r"[\]\[(){}<>]", r" \g<0> ", text)
    text = f" {text.replace('--', ' -- ')} "
    text = re.sub(r"([^'])' ", r"\1 ' ", text)
    text = re.sub(r"'([sSmMdD]) ", r" '\1 ", text)
    text = re.sub(r"('ll|'LL|'re|'RE|'ve|'VE|n't|N'T) ", r" \1 ", text)
    for pair in _CONTRACTIONS:
        text = re.sub(rf"(?i)(?<!{_IN_WORD}){pair}(?!{_IN_WORD})", r" \1 \2 ", text)
    text = re.sub(" {2,}", " ", text)
    return re.sub("^ | $", "", text).split(" ")


def _last_stop(text: str) -> str:
    """Set the full stop of the last sentence apart, unless it ends an abbreviation like U.S."""
    found = re.search(r"([^.])(\.)([\])}>'" + SPACE + r"]*)\Z", text)
    if not found or re.search(r"\b[A-Za-z]\.[A-Za-z]\Z", text[: found.end(1)], re.ASCII):
        return text
    return f"{text[: found.end(1)]} {found[2]}{found[3]} "


def _quoted(text: str) -> str:
    """Set quotation marks apart: each opens or closes."""
    opened = False
    parts: list[str] = []
    last = 0
    for match in _QUOTES.finditer(text):
        opened = match[0] == "``" or _opens(text, match, opened)
        parts += [text[last : match.start()], " `` " if opened else " '' "]
        last = match.end()
    return "".join([*parts, text[last:]])


def _opens(text: str, match: re.Match[str], opened: bool) -> bool:
    start, end = match.span()
    before = text[start - 1] if start else ""
    if opened or (before in (".", "!", "?") and before):
        return False
    if not (end < len(text) or start == 0 or _bracket(before)):
        return False
    if not (start == 0 or _bracket(before) or unicodedata.category(before).startswith("P")):
        return False
    if match[0] == '"':
        return True
    following = text[start + 2 : start + 3]
    partner = _QUOTES.search(text, start + 2)
    return (
        start > 0
        and bool(following)
        and unicodedata.category(following)[0] + unicodedata.category(following) in _STARTS
        and partner is not None
        and partner[0] == "''"
    )


_STARTS: Final = frozenset(["LLu", "LLl", "LLt", "LLm", "LLo", "NNd", "NNl", "NNo", "SSc", "PPs"])


def _bracket(char: str) -> bool:
    return bool(char) and (char == "<" or char.isspace() or unicodedata.category(char) == "Ps")
