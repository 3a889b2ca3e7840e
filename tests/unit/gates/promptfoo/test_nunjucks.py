from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmdeploy.gates.promptfoo.nunjucks import TemplateError, names, render

VALUES: dict[str, Any] = {
    "s": "hello World", "n": 3, "f": 1.5, "t": True, "none": None, "list": [3, 1, 2], "empty": [],
    "obj": {"b": 1, "a": {"c": [1]}}, "rows": [{"n": "b"}, {"n": "a"}],
}  # fmt: skip


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ s }} {{ n }} {{ f }} {{ t }} {{ none }}{{ missing }}{{ missing.deep }}",
         "hello World 3 1.5 true "),
        ("{{ list }} {{ obj }} {{ list.length }} {{ '😀'.length }}", "3,1,2 [object Object] 3 2"),
        ("{% if empty %}yes{% endif %}{% if '' %}no{% endif %}", "yes"),
        ("{{ '1' == 1 }} {{ '1' === 1 }} {{ none !== missing }}", "true false true"),
        # JavaScript's precedence decides, as the original writes no parentheses.
        ("{{ not n == 3 }} {{ 1 ~ 2 + 3 }} {{ 10 - 2 + 3 }} {{ 3 > 2 > 1 }}", "false 123 11 false"),
        ("{{ 7 // 2 }} {{ 2 ** 3 }} {{ -7 % 4 }} {{ 1 / 0 }}", "3 8 -3 Infinity"),
        ("{% for k, v in obj %}{{ k }}{{ loop.last }};{% endfor %}", "bfalse;atrue;"),
        ("{% for k in obj %}x{% else %}none{% endfor %}", "none"),
        ("{% set q = 0 %}{% for i in list %}{% set q = q + i %}{% endfor %}{{ q }}", "6"),
        ("{% macro m(a, b=2) %}{{ a }}{{ b }}{% endmacro %}{{ m(1) }} {{ m(1, b=5) }}", "12 15"),
        ("{{ rows | sort(attribute='n') | dump }}", '[{"n":"a"},{"n":"b"}]'),
        ("{{ missing | default('d') }}{{ none | default('d') }}", "d"),
        ("{{ '{\"a\": [1.0]}' | load | dump }}", '{"a":[1]}'),
        ("a {#- x -#} b {%- if t -%} c {%- endif %} d", "abc d"),
        ("{% raw %}{{ x }}{% endraw %}{% verbatim %}{% y %}{% endverbatim %}", "{{ x }}{% y %}"),
        ("{{ s.split(' ') | join('+') | upper }} {{ s[0] }} {{ s.slice(-3) }}",
         "HELLO+WORLD h rld"),
        ("<b>{{ '<i>' }}</b>", "<b><i></b>"),
        ("{{ 'x' if n > 2 else 'y' }} {{ 2 in list }} {{ 'b' in obj }} {{ n is odd }}",
         "x true true true"),
    ],
)  # fmt: skip
def test_templates_print_as_in_javascript(template: str, text: str) -> None:
    assert render(template, VALUES) == text


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ s | nofilter }}", "there is no filter 'nofilter'"),
        ("{{ missing() }}", "cannot call 'missing', which is undefined"),
        ("{{ list.map() }}", "the method 'map' is not supported in templates"),
        ("{% if s %}", "line 1: expected elif or elseif or else or endif"),
        ("{{ s", "the tag is never closed: expected '}}' before the template's end"),
        ("{% include 'x' %}", "line 1: the tag 'include' reads other templates, which is not "
                              "supported, found 'x'"),
        ("\n{{ 5 | lower }}", "the filter 'lower' cannot be applied to \"5\""),
        ("{{ list | random }}", "the filter 'random' is not supported"),
        ("#} x", "line 1: a comment ends that never began"),
        ("{{ s.toUpperCase }}", "the template prints a function"),
    ],
)  # fmt: skip
def test_what_cannot_be_filled_in_says_why(template: str, message: str) -> None:
    with pytest.raises(TemplateError) as caught:
        render(template, VALUES)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "template",
    [
        "{{ range(100000000) | length }}",
        "{% for a in range(2000) %}{% for b in range(2000) %}x{% endfor %}{% endfor %}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{{ 'x'.repeat(1000000000) }}",
        "{% set s = 'xxxxxxxxxx' %}{% for i in range(60) %}{% set s = s + s %}{% endfor %}{{ s }}",
        "{{ 'x' | center(1000000000) }}",
        "{{ 'a'.padStart(100000000) | replace('', 'bbbbbbbbbbbbbb') }}",
        "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}",
        "{% set s = 'aaaaaaaaaa' %}{% for i in range(60) %}{% set s = s | replace('a', 'aaaa') %}"
        "{% endfor %}",
        "{% set l = [1] %}{% for i in range(60) %}{% set l = l.concat(l) %}{% endfor %}",
        "{% set l = [1] %}{% for i in range(40) %}{% set l = [l, l] %}{% endfor %}{{ l | dump }}",
    ],
)
def test_templates_end_in_time(template: str) -> None:
    with pytest.raises(TemplateError):
        render(template, {})


@pytest.mark.parametrize(
    "template", ["{{ s.__class__ }}", "{{ s['__class__'] }}", "{{ obj.keys }}"]
)
def test_templates_reach_values_only(template: str) -> None:
    try:
        text = render(template, VALUES)
    except TemplateError as error:
        text = str(error)
    assert text in {"", "the method 'keys' is not supported in templates"}


def test_the_environment_is_what_is_given() -> None:
    assert render("{{ env.A }}{{ env.HOME }}", {}, {"A": "a"}) == "a"


def test_names_are_what_is_looked_up() -> None:
    assert names("{{ a.b }}{% for c in d %}{{ c | join(e) }}{% endfor %}") == {"a", "c", "d", "e"}
    assert names("{{ broken") == frozenset()


@given(st.text(alphabet="{}%#-|.()[]' \nabcxif0=~!", max_size=60))
def test_any_text_is_rendered_or_refused(text: str) -> None:
    with contextlib.suppress(TemplateError):
        assert isinstance(render(text, {"a": 1, "b": ["x"], "c": {"a": 2}}), str)
