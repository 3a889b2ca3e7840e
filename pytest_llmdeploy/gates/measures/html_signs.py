"""Signs of HTML in a text, and the elements that the HTML standard has.

No one sign is proof, as prose has ``a < b`` and XML has tags: it takes two that do not imply each
other. An opening tag with the name of an element of HTML has both in one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

_BY_KIND: Final = {
    "document": "html head body title base link meta style",
    "scripts": "script noscript template slot canvas",
    "sections": "article section nav aside header footer main address hgroup search",
    "headings": "h1 h2 h3 h4 h5 h6",
    "blocks": "p div pre blockquote figure figcaption hr",
    "lists": "ul ol menu li dl dt dd",
    "tables": "table caption colgroup col thead tbody tfoot tr th td",
    "forms": "form fieldset legend label input button select datalist optgroup option textarea",
    "results": "output progress meter",
    "interaction": "details summary dialog",
    "media": "img picture source audio video track iframe embed object map area svg math",
    "meaning": "a em strong small s cite q dfn abbr code var samp kbd data time",
    "changes": "ins del mark sub sup",
    "looks": "i b u span br wbr bdi bdo ruby rt rp",
    "older": "param",
}
ELEMENTS: Final = frozenset(name for names in _BY_KIND.values() for name in names.split())
"""By the living standard of the WHATWG; those it has dropped are none, but for ``param``."""
ENOUGH: Final = 2
_TAG: Final = re.compile(r"<(?P<end>/?)(?P<name>[A-Za-z][A-Za-z0-9-]*)(?P<rest>[\s/][^<>]*)?>")
_DOCTYPE: Final = re.compile(r"<!doctype\s+html\b", re.IGNORECASE)
_REFERENCE: Final = re.compile(r"&(?:[A-Za-z]{2,32}|#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6});")
_ATTRIBUTE: Final = re.compile(r"(?<=\s)[A-Za-z][A-Za-z-]*=(?:\"[^\"]*\"|'[^']*')")


def contains_html(text: str) -> bool:
    """Say whether enough signs of HTML are in a text."""
    found: set[str] = set()
    for sign in _signs(text):
        found.add(sign)
        if len(found) >= ENOUGH:
            return True
    return False


def _signs(text: str) -> Iterator[str]:
    if _DOCTYPE.search(text):
        yield from ("a document type", "the name of HTML")
    for tag in _TAG.finditer(text):
        if tag["end"]:
            yield "a closing tag"
            continue
        yield "an empty tag" if (tag["rest"] or "").endswith("/") else "an opening tag"
        if tag["name"].lower() in ELEMENTS:
            yield "the name of HTML"
    if 0 <= (start := text.find("<!--")) < text.find("-->", start + 4):
        yield "a comment"
    if _REFERENCE.search(text):
        yield "a character reference"
    if _ATTRIBUTE.search(text):
        yield "an attribute"
