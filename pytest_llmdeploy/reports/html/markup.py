"""Markup that is safe by default: every string is text unless it is `Html`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from unicodedata import category

LONGEST_TEXT = 4000
"""Characters of one foreign text; report.json has the whole."""
_KEPT = "\n\t\u200c\u200d"
"""Not printable, but harmless: line breaks, and what joins the parts of one character."""
_GLYPHS = {"PASS": "✓", "FAIL": "✗", "INCONCLUSIVE": "?", "ERROR": "!", "ok": "✓", "saturated": "!"}
_VOID = frozenset({"link", "meta", "br"})


class Html(str):
    """Markup, made by `tag` and `join`; any other string is text and will be escaped."""

    __slots__ = ()


def text(value: str) -> Html:
    """Return text as markup that shows it and does nothing else; `Html` stays what it is.

    Control characters, also those that turn the direction of writing, become U+FFFD.
    """
    if isinstance(value, Html):
        return value
    if len(value) > LONGEST_TEXT:
        left = len(value) - LONGEST_TEXT
        value = f"{value[:LONGEST_TEXT]} … ({left} more characters in report.json)"
    shown = value if value.isprintable() else "".join(map(_shown, value))
    return Html(escape(shown))


def _shown(char: str) -> str:
    kept = char.isprintable() or char in _KEPT or category(char) == "Zs"
    return char if kept else "\ufffd"


def join(parts: Iterable[str]) -> Html:
    """Return the parts one after the other."""
    return Html("".join(map(text, parts)))


def tag(name: str, /, *content: str, **attributes: str | float | None) -> Html:
    """Return an element; ``class_`` is class, ``data_label`` data-label, None is left out.

    Numbers get one decimal at most.
    """
    opened = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_attribute(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID:
        return Html(f"<{name}{opened}>")
    return Html(f"<{name}{opened}>{join(content)}</{name}>")


def _attribute(value: str | float) -> str:
    return text(value) if isinstance(value, str) else f"{value:.1f}".removesuffix(".0")


def badge(verdict: str) -> Html:
    """Return a verdict as sign, word and colour; the word alone tells it, too."""
    sign = tag("span", _GLYPHS.get(verdict, "·"), aria_hidden="true")
    return tag("span", sign, f" {verdict.upper()}", class_=f"badge v-{verdict.lower()}")


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table."""

    head: str
    kind: str = ""
    """``n`` for numbers, ``k`` for what stays on a line, ``w`` for what takes the rest of the
    width, ``f`` for what takes a quarter."""


def table(columns: Sequence[Column], rows: Iterable[Sequence[str]], caption: str) -> Html:
    """Return a table; on narrow screens a row becomes a block with the heads as labels."""
    head = tag(
        "tr",
        *(tag("th", each.head, class_=each.kind or None, scope="col") for each in columns),
        role="row",
    )
    body = (
        tag(
            "tr",
            *(
                tag("td", cell, class_=each.kind or None, data_label=each.head, role="cell")
                for each, cell in zip(columns, row, strict=True)
            ),
            role="row",
        )
        for row in rows
    )
    return tag(
        "table",
        tag("caption", caption),
        tag("thead", head, role="rowgroup"),
        tag("tbody", *body, role="rowgroup"),
        role="table",
    )


def facts(pairs: Iterable[tuple[str, str]]) -> Html:
    """Return names with their values, side by side where there is room."""
    return tag(
        "dl",
        *(tag("div", tag("dt", name), tag("dd", value)) for name, value in pairs),
        class_="facts",
    )
