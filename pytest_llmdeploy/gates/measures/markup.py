"""Whether a text is XML or HTML, or holds some; nothing of it is fetched or expanded."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from xml.parsers import expat

from pytest_llmdeploy.gates.measures.html_signs import ELEMENTS

MAX_CHARACTERS = 10_485_760
_FRAME = frozenset(("html", "head", "body"))
_IN_HEAD = frozenset(("title", "base", "link", "meta", "style", "script", "noscript", "template"))
_IN_TABLE = frozenset(("caption", "col", "colgroup", "tbody", "td", "tfoot", "th", "thead", "tr"))
_CUT_OFF = re.compile("</?[A-Za-z][^<>\"']*$")
_VOID = frozenset(
    "area base br col embed hr img input link meta param source track wbr".split()  # noqa: SIM905
)
_TAG = re.compile("<(/?)([A-Za-z_:][\\w:.-]*)")
_HIDDEN = (("<!--", "-->"), ("<![CDATA[", "]]>"), ("<?", "?>"))
_NEXT = re.compile("[<>\"']")
_NAMED = re.compile(r"[\w:.-]+(?=\s*=)")
_MOST_OPEN = 200
MOST_DEPTH = 1000
"""Elements within elements."""
MOST_WORK = 20_000_000
"""Characters that are read in search of tags, all attempts together."""


def xml_problem(text: str, required: Sequence[str]) -> str | None:
    """Return why the text is no XML with these elements; None where it is."""
    wanted = _Wanted(required)
    if problem := _read(text, wanted):
        return problem
    missing = wanted.missing()
    return f"the XML has no {', '.join(missing)}" if missing else None


class _Wanted:
    """Which of the dotted paths of elements and ``@_attributes`` were met.

    Only those are kept, as all paths of a deep text would fill the memory.
    """

    def __init__(self, required: Sequence[str]) -> None:
        self._required = required
        self._paths = {tuple(one.split(".")) for one in required}
        self._lengths = {len(path) for path in self._paths}
        self._met: set[tuple[str, ...]] = set()

    def meet(self, stack: Sequence[str], attributes: Iterable[str], outer: int = 0) -> None:
        """Note a tag with all its parents, of which the first `outer` do not count."""
        depth = max(len(stack) - outer, 0)
        if depth in self._lengths:
            self._note(tuple(stack[outer:]))
        if depth + 1 in self._lengths:
            for name in attributes:
                self._note((*stack[outer:], f"@_{name}"))

    def _note(self, path: tuple[str, ...]) -> None:
        if path in self._paths:
            self._met.add(path)

    def missing(self) -> list[str]:
        return [one for one in self._required if tuple(one.split(".")) not in self._met]


def _read(text: str, wanted: _Wanted) -> str | None:
    parser = expat.ParserCreate(namespace_separator=None)
    stack: list[str] = []
    prefixes: set[str] = set()

    def start(name: str, attributes: dict[str, str]) -> None:
        stack.append(name)
        wanted.meet(stack, attributes)
        prefixes.update(one.split(":")[0] for one in (name, *attributes) if ":" in one)
        if len(stack) > MOST_DEPTH:
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
    unbound = sorted(
        prefix for prefix in prefixes - {"xml", "xmlns"} if f"xmlns:{prefix}" not in text
    )
    return f"it is no XML: the prefix {unbound[0]} stands for nothing" if unbound else None


def xml_parts(text: str, required: Sequence[str]) -> str | None:
    """Return why no part of the text has these elements; None where one has.

    What counts is that tags open and close; signs that XML forbids may be anywhere.
    Raises ValueError where tags cannot be told within MOST_WORK.
    """
    tags = list(_tags(text))
    stack: list[tuple[str, int]] = []
    parts: list[tuple[int, int]] = []
    for tag in tags:
        if tag.closing:
            if stack and stack[-1][0] == tag.name:
                parts.append((stack.pop()[1], tag.end))
            else:
                stack.clear()
        elif len(stack) >= MOST_DEPTH:
            return "the XML is nested too deeply"
        elif tag.closed:
            parts.append((tag.start, tag.end))
        else:
            stack.append((tag.name, tag.start))
    if not parts:
        return "there is no XML in the answer"
    wanted = _Wanted(required)
    if required:
        _meet_parts(tags, _merged(parts), len(stack), wanted)
    missing = wanted.missing()
    return f"the XML in the answer has no {', '.join(missing)}" if missing else None


def _meet_parts(
    tags: Sequence[_Tag], parts: Sequence[tuple[int, int]], unclosed: int, wanted: _Wanted
) -> None:
    """Meet the paths within the parts, without the tags that nothing closes."""
    stack: list[str] = []
    part = 0
    for tag in tags:
        if tag.closing:
            if stack and stack[-1] == tag.name:
                stack.pop()
            else:
                stack.clear()
            continue
        stack.append(tag.name)
        while part < len(parts) and parts[part][1] <= tag.start:
            part += 1
        if part < len(parts) and parts[part][0] <= tag.start:
            wanted.meet(stack, tag.attributes, unclosed)
        if tag.closed:
            stack.pop()


def _merged(parts: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(parts):
        if not merged or merged[-1][1] < end:
            merged.append((start, end))
    return merged


@dataclass(frozen=True, slots=True)
class _Tag:
    closing: bool
    name: str
    closed: bool
    """It has no content: ``<br/>``."""
    attributes: tuple[str, ...]
    start: int
    end: int


def _tags(text: str) -> Iterator[_Tag]:
    """Yield the tags of a text, without what comments and the like hide."""
    at = work = 0
    while (start := text.find("<", at)) >= 0:
        if hidden := next((one for one in _HIDDEN if text.startswith(one[0], start)), None):
            end = text.find(hidden[1], start + len(hidden[0]))
            work += (end if end >= 0 else len(text)) - start
            at = end + len(hidden[1]) if end >= 0 else start + 1
        elif opened := _TAG.match(text, start):
            end, seen = _end_of_tag(text, opened.end())
            work += seen - start
            if end >= 0:
                rest = text[opened.end() : end - 1]
                names = tuple(_NAMED.findall(rest))
                yield _Tag(
                    bool(opened[1]), opened[2], rest.rstrip().endswith("/"), names, start, end
                )
            at = end if end >= 0 else start + 1
        else:
            at = start + 1
        if work > MOST_WORK:
            raise ValueError("the answer has too many signs of tags to look for XML in it")


def _end_of_tag(text: str, at: int) -> tuple[int, int]:
    """Return where the tag ends, -1 where it doesn't, and how far the text was read."""
    while sign := _NEXT.search(text, at):
        if sign[0] == ">":
            return sign.end(), sign.end()
        close = text.find(sign[0], sign.end()) if sign[0] != "<" else -1
        if close < 0:
            return -1, len(text) if sign[0] != "<" else sign.end()
        at = close + 1
    return -1, len(text)


def html_problem(text: str) -> str | None:
    """Return why the text is no HTML; None where it is. Raises ValueError, see `_readable`."""
    text = text.strip()
    if not text:
        return "the answer is empty"
    if len(text) > MAX_CHARACTERS:
        return "the answer is too long"
    if re.match(r"<\?xml", text, re.IGNORECASE):
        return "the answer is XML, not HTML"
    reader = _Reader()
    reader.feed(_readable(text))
    reader.close()
    if reader.too_deep:
        return "the HTML is nested too deeply"
    if reader.loose and not reader.has_body:
        return "the answer has text outside of any element"
    return None if reader.known else "the answer has no element of HTML"


def _readable(text: str) -> str:
    """Return the text without what is cut off within a tag, which is no text.

    Raises ValueError for so many signs of tags and comments that never end that Python's reader
    would take for ever, as it looks for each one's end anew.
    """
    end = text.rfind(">") + 1
    if text.count("<", end) > _MOST_OPEN or text.count("<!--", text.rfind("-->") + 1) > _MOST_OPEN:
        raise ValueError("the answer has too many signs of tags to tell whether it is HTML")
    quotes = min(text.count('"'), text.count("'"))
    if quotes * text.count("<") > MOST_WORK // 10:
        raise ValueError("the answer has too many quotes and tags to tell whether it is HTML")
    return _CUT_OFF.sub("", text)


class _Reader(HTMLParser):
    """Notes whether there is text outside of all elements, and an element that HTML has.

    As browsers read: anything but what belongs before the body begins it, after which html, head
    and body are ignored, and parts of a table are ignored outside of one.
    """

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.loose = self.known = self.has_body = self.begun = self.too_deep = False

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
        self.known = self.known or tag in ELEMENTS or "-" in tag
        if tag not in _VOID:
            self.too_deep = self.too_deep or len(self.open) >= MOST_DEPTH
            if not self.too_deep:
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
