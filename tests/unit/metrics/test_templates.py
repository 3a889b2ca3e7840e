"""Placeholders in PromQL of the user's own."""

from __future__ import annotations

import pytest

from pytest_llmdeploy.metrics.templates import Values, duration, fill, problem_of, selectors


def values(version: str = "2.0.0", *pods: str, window: float = 30.0) -> Values:
    texts = dict.fromkeys(("color", "role", "namespace", "service"), "x") | {"version": version}
    return Values(texts, pods, window)


@pytest.mark.parametrize(
    ("query", "filled"),
    [
        ('rate(a{v="{{version}}"}[{{window}}])', 'rate(a{v="2.0.0"}[30s])'),
        ('a{v=~"{{ version }}"}', 'a{v=~"2\\\\.0\\\\.0"}'),
        ("a{v!~'{{version}}|old'}", "a{v!~'2\\\\.0\\\\.0|old'}"),
        ("a{v=~`{{version}}`}", "a{v=~`2\\.0\\.0`}"),
        ('a{pod=~"{{pods}}", s="{{service}}-x"}', 'a{pod=~"g-1|g-2", s="x-x"}'),
        ("a{v=\"it's\"} # it's {{window}}\n + b", 'a{v="it\'s"} \n + b'),
    ],
)
def test_filling(query: str, filled: str) -> None:
    assert problem_of(query) is None
    assert fill(query, values("2.0.0", "g-1", "g-2")) == filled


@pytest.mark.parametrize(
    ("query", "filled"),
    [
        ('a{v="{{version}}"}', 'a{v="x\\"} or \\\\ \\n\'`{{role}}"}'),
        ("a{v='{{version}}'}", "a{v='x\"} or \\\\ \\n\\'`{{role}}'}"),
        ('a{v=~"{{version}}"}', 'a{v=~"x\\"\\\\} or \\\\\\\\ \\n\'`\\\\{\\\\{role\\\\}\\\\}"}'),
    ],
)
def test_a_value_does_not_leave_its_quotes(query: str, filled: str) -> None:
    assert fill(query, values("x\"} or \\ \n'`{{role}}")) == filled


def test_a_raw_text_ends_with_its_own_mark() -> None:
    assert fill("a{v=~`{{version}}`}", values("x`y")) == r"a{v=~`x\x60y`}"
    assert fill("a{v=`{{version}}`}", values("x`y")) == "a{v=`xy`}"


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        (
            'a{v="{{versoin}}"}',
            "{{versoin}} is not known; known are {{version}}, {{color}}, {{role}}, {{pods}}, "
            "{{namespace}}, {{service}}, {{window}}",
        ),
        ("a{v={{version}}}", "{{version}} must stand inside quotation marks"),
        ('a{v="{{window}}"}', "{{window}} must stand outside quotation marks"),
        ('a{pod="{{pods}}"}', "{{pods}} is a pattern: write =~ before it"),
        ('a{pod="x}', "a quotation mark is not closed"),
    ],
)
def test_what_cannot_be_filled_in(query: str, problem: str) -> None:
    assert problem_of(query) == problem


def test_durations_are_never_longer_than_the_span() -> None:
    assert [duration(seconds) for seconds in (30, 30.0004, 29.9996, 0.25)] == [
        "30s",
        "30s",
        "29999ms",
        "250ms",
    ]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ('sum(rate(a{v="}[1m]"}[5m])) / sum by (x) (rate(b[5m]))', ['a{v="}[1m]"}', "b"]),
        (
            'histogram_quantile(0.9, sum by (le) (rate(ns:a_bucket{x="y"}[1m])))',
            ['ns:a_bucket{x="y"}'],
        ),
        ('{__name__=~"a|b"} or vector(0)', ['{__name__=~"a|b"}']),
        ("vector(1)", []),
        ('max_over_time(a{}[10m:1m]) # c{d="e"}', ["a{}"]),
    ],
)
def test_selectors(query: str, found: list[str]) -> None:
    assert selectors(query) == found
