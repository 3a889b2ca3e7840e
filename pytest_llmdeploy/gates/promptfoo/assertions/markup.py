"""Whether a text is XML or HTML, or holds some; nothing of it is fetched or expanded."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html.parser import HTMLParser
from xml.parsers import expat

MAX_CHARACTERS = 10_485_760
_NAME = "[A-Za-z][A-Za-z0-9-]*"
_OPENING = re.compile(rf"<{_NAME}(?:\s[^>]*)?>")
_CLOSING = re.compile(rf"</{_NAME}\s*>")
_CLOSED = re.compile(rf"<{_NAME}(?:\s[^>]*)?/>")
_ENTITY = re.compile("&(?:[a-zA-Z]+|#[0-9]+|#x[0-9a-fA-F]+);")
_DOCTYPE = re.compile(r"<!DOCTYPE\s+html", re.IGNORECASE)
_COMMENT = re.compile("<!--.*?-->", re.DOTALL)
_ATTRIBUTE = re.compile(r"\s[a-zA-Z-]+=\s*[\"'][^\"']*[\"']")
_COMMON = re.compile(
    "<(html|head|body|div|span|p|a|img|h[1-6]|ul|ol|li|table|tr|td|th|form|input|button|script"
    r"|style|link|meta|br|hr)\b",
    re.IGNORECASE,
)
_TAGS = (
    "html head title base link meta style body article section nav aside h1 h2 h3 h4 h5 h6 "
    "header footer address p hr pre blockquote ol ul li dl dt dd figure figcaption main div a "
    "em strong small s cite q dfn abbr ruby rt rp data time code var samp kbd sub sup i b u "
    "mark bdi bdo span br wbr img iframe embed object param picture source video audio track "
    "map area svg math script noscript canvas ins del table caption colgroup col tbody thead "
    "tfoot tr td th form label input button select datalist optgroup option textarea output "
    "progress meter fieldset legend details summary dialog menu slot template"
)
_ELEMENTS = frozenset(_TAGS.split())
_FRAME = frozenset(("html", "head", "body"))
_IN_HEAD = frozenset(("title", "base", "link", "meta", "style", "script", "noscript", "template"))
_IN_TABLE = frozenset(("caption", "col", "colgroup", "tbody", "td", "tfoot", "th", "thead", "tr"))
_CUT_OFF = re.compile("</?[A-Za-z][^<>\"']*$")
_VOID = frozenset(
    "area base br col embed hr img input link meta param source track wbr".split()  # noqa: SIM905
)
_TAG = re.compile(
    r"<(/?)([A-Za-z_:][\w:.-]*)((?:\"[^\"]*\"|'[^']*'|[^<>\"'])*)>"
    r"|<!--.*?-->|<!\[CDATA\[.*?\]\]>|<\?.*?\?>",
    re.DOTALL,
)
_NAMED = re.compile(r"[\w:.-]+(?=\s*=)")
MOST_DEPTH = 1000
"""Elements within elements."""


def xml_problem(text: str, required: Sequence[str]) -> str | None:
    """Return why the text is no XML with these elements; None where it is."""
    paths: set[tuple[str, ...]] = set()
    if problem := _read(text, paths):
        return problem
    missing = [one for one in required if tuple(one.split(".")) not in paths]
    return f"the XML has no {', '.join(missing)}" if missing else None


def _read(text: str, paths: set[tuple[str, ...]]) -> str | None:
    parser = expat.ParserCreate(namespace_separator=None)
    stack: list[str] = []

    def start(name: str, attributes: dict[str, str]) -> None:
        stack.append(name)
        paths.add(tuple(stack))
        paths.update((*stack, f"@_{attribute}") for attribute in attributes)
        if len(stack) > 1000:
            raise ValueError("the XML is nested too deeply")

    def doctype(_name: str, _system: str | None, _public: str | None, has_subset: bool) -> None:
        if has_subset:
            raise ValueError("the XML defines entities of its own, which are not read")

    parser.StartElementHandler = start
    parser.EndElementHandler = lambda _: stack.pop()
    parser.StartDoctypeDeclHandler = doctype
    try:
        parser.Parse(text.encode("utf-8", "replace"), True)
    except (expat.ExpatError, ValueError) as error:
        return f"it is no XML: {error}"
    prefixes = {name.split(":")[0] for path in paths for name in path if ":" in name}
    unbound = [
        prefix.removeprefix("@_")
        for prefix in prefixes
        if prefix.removeprefix("@_") not in ("xml", "xmlns")
        and f"xmlns:{prefix.removeprefix('@_')}" not in text
    ]
    return f"it is no XML: the prefix {unbound[0]} stands for nothing" if unbound else None


def xml_parts(text: str, required: Sequence[str]) -> str | None:
    """Return why no part of the text has these elements; None where one has.

    What counts is that tags open and close; signs that XML forbids may be anywhere.
    """
    stack: list[tuple[str, int]] = []
    parts: list[tuple[int, int]] = []
    paths: list[tuple[int, tuple[str, ...]]] = []
    for tag in _TAG.finditer(text):
        if tag[2] is None:
            continue
        if tag[1]:
            if stack and stack[-1][0] == tag[2]:
                parts.append((stack.pop()[1], tag.end()))
            else:
                stack.clear()
            continue
        path = (*(name for name, _ in stack), tag[2])
        if len(path) > MOST_DEPTH:
            return "the XML is nested too deeply"
        paths.append((tag.start(), path))
        paths += [(tag.start(), (*path, f"@_{name}")) for name in _NAMED.findall(tag[3])]
        if tag[3].rstrip().endswith("/"):
            parts.append((tag.start(), tag.end()))
        else:
            stack.append((tag[2], tag.start()))
    if not parts:
        return "there is no XML in the answer"
    unclosed = len(stack)
    found = {path[unclosed:] for start, path in paths if any(a <= start < b for a, b in parts)}
    missing = [one for one in required if tuple(one.split(".")) not in found]
    return f"the XML in the answer has no {', '.join(missing)}" if missing else None


def contains_html(text: str) -> bool:
    """Say whether enough signs of HTML are in a text."""
    if len(text) > MAX_CHARACTERS:
        return False
    opening, closing = bool(_OPENING.search(text)), bool(_CLOSING.search(text))
    signs = 2 if opening and closing else int(opening or closing)
    for pattern, worth in (
        (_CLOSED, 1), (_ENTITY, 1), (_DOCTYPE, 2), (_COMMENT, 1), (_ATTRIBUTE, 1), (_COMMON, 2),
    ):  # fmt: skip
        signs += worth if pattern.search(text) else 0
    return signs >= 2


def html_problem(text: str) -> str | None:
    """Return why the text is no HTML; None where it is."""
    text = text.strip()
    if not text:
        return "the answer is empty"
    if len(text) > MAX_CHARACTERS:
        return "the answer is too long"
    if re.match(r"<\?xml", text, re.IGNORECASE):
        return "the answer is XML, not HTML"
    reader = _Reader()
    # What is cut off within a tag is no text.
    reader.feed(_CUT_OFF.sub("", text))
    reader.close()
    if reader.loose and not reader.has_body:
        return "the answer has text outside of any element"
    return None if reader.known else "the answer has no element of HTML"


class _Reader(HTMLParser):
    """Notes whether there is text outside of all elements, and an element that HTML has.

    As browsers read: anything but what belongs before the body begins it, after which html, head
    and body are ignored, and parts of a table are ignored outside of one.
    """

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.loose = self.known = self.has_body = self.begun = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002
        if tag in _FRAME:
            if not self.begun:
                self.known = True
                self.has_body = self.has_body or tag == "body"
                self.begun = tag == "body"
            return
        self.begun = self.begun or tag not in _IN_HEAD
        if tag in _IN_TABLE and "table" not in self.open:
            return
        self.known = self.known or tag in _ELEMENTS or "-" in tag
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        self.known = self.known or (self.begun and tag == "p" and "p" not in self.open)
        self.begun = self.begun or tag in ("body", "html", "br")
        if tag in self.open:
            while self.open.pop() != tag:
                pass

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag in ("svg", "math") and self.open[-1:] == [tag]:
            self.open.pop()

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.begun = True
            self.loose = self.loose or not self.open
