"""Words and signs of a text, apart as in the Penn Treebank: what ROUGE counts.

One scan over the text by the conventions of the treebank: signs stand alone, double quotes become
`` and '', contractions come apart into their words, and only the last full stop leaves its word.
"""

from __future__ import annotations

import re
from typing import Final

from pytest_llmdeploy.gates.measures.spaces import SPACE

_BLANK: Final = f"{SPACE}\x85"
_SIGNS: Final = r"\[\](){}<>;@#$%&?!"
_PART: Final = re.compile(
    rf"""(?P<space>[{_BLANK}]+)
    | (?P<quote>"|``|'')
    | (?P<sign>\.\.\.|--|[{_SIGNS}]|[:,](?!\d))
    | (?P<word>(?:(?!\.\.\.|--|``|''|[:,](?!\d))[^{_BLANK}{_SIGNS}"])+)""",
    re.VERBOSE,
)
_OPENERS: Final = "([{<"
_CLOSERS: Final = frozenset('])}>"')
_ABBREVIATION: Final = re.compile(r"(?<!\w)[A-Za-z]\.[A-Za-z]\.\Z")
"""Like U.S. and e.g., which keep their stop."""
_ENDING: Final = re.compile(r"(?:n't|'(?:ll|re|ve|[smd]?))\Z", re.IGNORECASE)
_TWO_WORDS: Final = {
    "cannot": 3, "d'ye": 1, "gimme": 3, "gonna": 3, "gotta": 3, "lemme": 3, "more'n": 4,
    "'tis": 2, "'twas": 2, "wanna": 3,
}  # fmt: skip
"""Words that are two, and how many letters the first of them has."""
_FUSED: Final = re.compile(rf"(?<!\w)(?:{'|'.join(_TWO_WORDS)})(?!\w)", re.IGNORECASE)


def tokens(text: str) -> list[str]:
    """Return the words and signs of a text; upper and lower case stay."""
    parts = list(_PART.finditer(text))
    last = next((part for part in reversed(parts) if not _closes(part)), None)
    found: list[str] = []
    for part in parts:
        if part["quote"]:
            found.append("``" if _opens(part, text) else "''")
        elif part["word"]:
            found += _words(part[0], ends=part is last)
        elif part["sign"]:
            found.append(part[0])
    return found


def _closes(part: re.Match[str]) -> bool:
    """Say whether the part may stand behind the last full stop."""
    return bool(part["space"]) or part[0] in _CLOSERS or part[0] == "''" or set(part[0]) == {"'"}


def _opens(part: re.Match[str], text: str) -> bool:
    before = text[part.start() - 1 : part.start()] or " "
    return part[0] == "``" or (part[0] == '"' and (before.isspace() or before in _OPENERS))


def _words(piece: str, *, ends: bool) -> list[str]:
    """Return the words in what is written as one; `ends` where it is the last of the text."""
    behind: list[str] = []
    if ends:
        bare = piece.rstrip("'")
        if bare.endswith(".") and not bare.endswith("..") and not _ABBREVIATION.search(bare):
            behind = [".", *piece[len(bare) :]]
            piece = bare[:-1]
    if (ending := _ENDING.search(piece)) and ending.start():
        behind.insert(0, ending[0])
        piece = piece[: ending.start()]
    at = 0
    words: list[str] = []
    for fused in _FUSED.finditer(piece):
        cut = fused.start() + _TWO_WORDS[fused[0].lower()]
        words += [piece[at : fused.start()], piece[fused.start() : cut], piece[cut : fused.end()]]
        at = fused.end()
    return [word for word in [*words, piece[at:], *behind] if word]
