"""Two signs of HTML that do not imply each other, or one tag of its own."""

from __future__ import annotations

import time

import pytest

from pytest_llmdeploy.gates.measures.html_signs import contains_html


@pytest.mark.parametrize(
    "text",
    [
        "see <b>this",
        "<BR>",
        "<br/>",
        "<foo>x</foo>",
        "<!doctype HTML>",
        'x a="b" &amp; y',
        "<!-- c --> &#38;",
        "</div><foo/>",
        "<foo a='b'>",
    ],
)
def test_signs(text: str) -> None:
    assert contains_html(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a < b > c",
        "&amp; &lt;",
        "</div>",
        "<foo/>",
        "<foo><bar>",
        "<!-- c -->",
        'x="1"',
        "a <b c",
    ],
)
def test_too_few_signs(text: str) -> None:
    assert not contains_html(text)


@pytest.mark.parametrize("sign", ["<", "<a ", "<!--", "&a", " a='", ' a="', "</", "<!doctype "])
def test_hostile_texts_end_soon(sign: str) -> None:
    begin = time.process_time()
    contains_html(sign * 100_000)
    assert time.process_time() - begin < 5
