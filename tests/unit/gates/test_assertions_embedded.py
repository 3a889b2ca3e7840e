"""Markup and JSON in answers: both ways, what bounds them, and any text at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmdeploy.gates.assertions import NotEvaluable
from tests.unit.gates.judging import holds_and_fails, judged, not_evaluable, refused


@pytest.mark.parametrize(
    ("raw", "good", "bad", "reason"),
    [
        (
            "contains-json",
            'so: {"a": [1]}.',
            "see [1]",
            'expected the answer to contain a JSON object, none is in "see [1]"',
        ),
        (
            {"contains-json": {"required": ["b"]}},
            '{"a": 1} {"b": 1}',
            '{"a": 1}',
            "expected the answer to contain JSON of the schema, at $: 'b' is a required property;"
            ' got "{\\"a\\": 1}"',
        ),
        (
            "is-xml: a.b, a.@_c",
            "<a c='1'><b/></a>",
            "<a><b/></a>",
            'expected the answer to be XML with "a.b", "a.@_c", the XML has no a.@_c; got'
            ' "<a><b/></a>"',
        ),
        (
            "is-xml",
            "<a/>",
            '<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>',
            "expected the answer to be XML, it is no XML: the XML defines entities of its own,"
            ' which are not read; got "<!DOCTYPE a [<!ENTITY b \\"c\\">]><a>&b;</a>"',
        ),
        (
            {"contains-xml": {"requiredElements": ["a.b"]}},
            "so: <a><b>1</b></a>",
            "so: <a>",
            'expected the answer to contain XML with "a.b", there is no XML in the answer; got'
            ' "so: <a>"',
        ),
        (
            "is-html",
            "<p>x</p>",
            "x <p>x</p>",
            "expected the answer to be HTML, the answer has text outside of any element; got"
            ' "x <p>x</p>"',
        ),
        (
            "contains-html",
            "so: <b>x</b>",
            "a < b",
            "expected the answer to contain HTML, there are no signs of HTML in the answer; got"
            ' "a < b"',
        ),
    ],
)
def test_both_ways(raw: str, good: str, bad: str, reason: str) -> None:
    holds_and_fails(raw, good, bad, reason)


def test_what_cannot_work() -> None:
    assert refused("contains-json: 3") == ("contains-json: the value must be a JSON Schema, got 3")
    assert refused("is-html: x") == "is-html: it has no value, got 'x'"
    assert refused({"is-xml": {"elements": ["a"]}}) == (
        "is-xml: the value must name elements, or be {requiredElements: [...]}"
    )


@pytest.mark.parametrize(
    ("raw", "text", "reason"),
    [
        (
            "contains-json",
            '["' * 66_000,
            "contains-json: there are too many braces and brackets to look for JSON",
        ),
        (
            "not-contains-json",
            '{"a":' * 30_000,
            "contains-json: there is JSON nested too deeply to be read",
        ),
        (
            "is-html",
            "<a " * 33_000,
            "the answer has too many signs of tags to tell whether it is HTML",
        ),
        (
            "contains-xml",
            "<!--" * 25_000,
            "the answer has too many signs of tags to look for XML in it",
        ),
        ("not-is-xml", "<" * 100_001, "the answer has 100001 characters, at most 100000 are read"),
    ],
)
@pytest.mark.timeout(5)
def test_what_would_take_for_ever_is_not_judged(raw: str, text: str, reason: str) -> None:
    assert not_evaluable(raw, text) == reason


@pytest.mark.timeout(5)
def test_a_deep_document_keeps_no_path_but_those_asked_for() -> None:
    deep = "<a>" * 900 + "".join(f"<b{n}/>" for n in range(9000)) + "</a>" * 900
    assert judged("is-xml: a.a", deep).passed
    assert judged("contains-xml: a.a", deep).passed


PARTS = st.sampled_from(
    ["<a>", "</a>", "<p", ">", '"', "'", "<!--", "-->", "<?", "<![CDATA[", "{", "}", "[", "]", "1",
     '{"a":', "NaN", "&amp;", "\ud800", "\x00", " "]
)  # fmt: skip
KINDS = st.sampled_from(
    ["contains-json", "is-xml: a", "contains-xml: a", "is-html", "contains-html"]
)


@given(KINDS, st.lists(PARTS, max_size=30).map("".join) | st.text(max_size=60))
def test_any_text_is_judged_or_not_evaluable(raw: str, text: str) -> None:
    try:
        plain = judged(raw, text)
    except NotEvaluable:
        return
    assert plain.score in (0, 1)
    assert judged(f"not-{raw}", text).passed is not plain.passed
