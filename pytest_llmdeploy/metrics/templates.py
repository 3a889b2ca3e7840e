"""PromQL of the user's own: placeholders filled in so that no value can leave its quotes. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from pytest_llmdeploy.metrics.presets import quoted

PLACEHOLDERS = ("version", "color", "role", "pods", "namespace", "service", "window")
_PLACEHOLDER = re.compile(r"\{\{\s*(.*?)\s*\}\}")
_TOKEN = re.compile(
    r"""(?P<comment>\#[^\n]*)
      | (?P<text>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|`[^`]*`)
      | (?P<open>["'`])
      | (?P<other>\{\{.*?\}\}|.)""",
    re.VERBOSE | re.DOTALL,
)
_SELECTOR = re.compile(
    r"(?P<name>[A-Za-z_:][\w:]*)?\s*(?P<labels>\{[^{}]*\})|(?P<bare>[A-Za-z_:][\w:]*)(?=\s*\[)"
)


class Values(NamedTuple):
    """What stands for the placeholders."""

    texts: Mapping[str, str]
    pods: tuple[str, ...]
    window: float
    """Seconds."""


def names(query: str) -> set[str]:
    """Return the names of a query's placeholders."""
    return set(_PLACEHOLDER.findall(query))


def problem_of(query: str) -> str | None:
    """Return what is wrong with a query's placeholders; None where nothing is."""
    for name in _PLACEHOLDER.findall(query):
        if name not in PLACEHOLDERS:
            known = ", ".join(f"{{{{{one}}}}}" for one in PLACEHOLDERS)
            return f"{{{{{name}}}}} is not known; known are {known}"
    for piece in _pieces(query):
        if piece.quote == "open":
            return "a quotation mark is not closed"
        for name in _PLACEHOLDER.findall(piece.text):
            if (name == "window") == bool(piece.quote):
                inside = "outside" if name == "window" else "inside"
                return f"{{{{{name}}}}} must stand {inside} quotation marks"
            if name == "pods" and not piece.regex:
                return "{{pods}} is a pattern: write =~ before it"
    return None


def fill(query: str, values: Values) -> str:
    """Return a query that `problem_of` finds nothing wrong with, with values in it.

    After ``=~`` and ``!~`` a value is a pattern that matches just itself.
    """
    return "".join(
        _PLACEHOLDER.sub(lambda found, piece=piece: _value(found[1], piece, values), piece.text)  # type: ignore[misc]
        for piece in _pieces(query)
    )


def duration(seconds: float) -> str:
    """Return a duration of PromQL, right to the millisecond and never longer than the span."""
    whole = int(seconds * 1000 + 1e-6)
    return f"{whole // 1000}s" if whole % 1000 == 0 else f"{whole}ms"


def selectors(query: str) -> list[str]:
    """Return the selectors of series in a query, without ranges: those with braces or a range."""
    blanked, texts = [], []
    for piece in _pieces(query):
        if piece.quote:
            texts.append(piece.text)
            blanked.append(f"\0{len(texts) - 1}\0")
        else:
            blanked.append(piece.text)
    found = []
    for match in _SELECTOR.finditer("".join(blanked)):
        selector = match["bare"] or f"{match['name'] or ''}{match['labels']}"
        if selector not in ("by", "without"):
            found.append(re.sub("\0(\\d+)\0", lambda at: texts[int(at[1])], selector))
    return list(dict.fromkeys(found))


class _Piece(NamedTuple):
    text: str
    quote: str = ""
    """Its quotation mark; ``open`` where it is not closed."""
    regex: bool = False


def _pieces(query: str) -> Iterator[_Piece]:
    """Yield the quoted texts, and what is between them without comments."""
    between = ""
    for match in _TOKEN.finditer(query):
        if match["comment"]:
            continue
        if match["other"]:
            between += match["other"]
            continue
        regex = between.rstrip().endswith(("=~", "!~"))
        yield _Piece(between)
        between = ""
        if match["open"]:
            yield _Piece(match["open"], "open")
        else:
            yield _Piece(match["text"], match["text"][0], regex)
    yield _Piece(between)


def _value(name: str, piece: _Piece, values: Values) -> str:
    if name == "window":
        return duration(values.window)
    if name == "pods":
        text = "|".join(quoted(pod) for pod in values.pods)
    else:
        text = quoted(values.texts[name]) if piece.regex else values.texts[name]
    if piece.quote == "`":  # nothing is escaped within these
        return text.replace("`", "" if not piece.regex else r"\x60")
    text = text.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    return text.replace(piece.quote, f"\\{piece.quote}")
