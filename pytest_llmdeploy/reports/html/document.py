"""What is around every page: one file that asks nothing of a network or a script."""

from __future__ import annotations

from pytest_llmdeploy.reports.html.markup import Html, join, tag, text
from pytest_llmdeploy.reports.html.style import CSS

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'"
"""No script, no request: what got into the page by mistake could not act either."""


def document(title: str, *content: Html, style: str = "") -> Html:
    """Return the whole page; `style` is what it needs beside the style of all pages."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("title", title),
        tag("link", rel="icon", href="data:,"),
        tag("style", Html(CSS + style)),
    )
    page = tag("html", head, tag("body", *content), lang="en")
    return join([Html("<!doctype html>\n"), page, text("\n")])
