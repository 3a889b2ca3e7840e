"""Transforms: what they make of an answer, in which order, and what happens when they fail."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmdeploy.config.gates import SuiteConfig
from pytest_llmdeploy.errors import ConfigError
from pytest_llmdeploy.gates.assertions import (
    AssertionContext,
    AssertionRegistry,
    NotEvaluable,
    transforms,
)
from pytest_llmdeploy.gates.case import Case
from pytest_llmdeploy.gates.identity import case_hash
from pytest_llmdeploy.gates.suite import Clients, Suite, build_suite
from tests.unit.gates import user_checks
from tests.unit.gates.helpers import answer, context, load, suite, where

REGISTRY = AssertionRegistry()
MINE = "tests.unit.gates.user_checks"


def split(output: str, context: AssertionContext) -> list[str]:
    return output.split()


def sees(output: Any, context: AssertionContext) -> str:
    return f"{output}{context.vars['word']}{context.parameters.get('seed')}"


def returns(output: str, context: AssertionContext) -> Any:
    endless: list[Any] = []
    endless.append(endless)
    values = {"none": None, "nan": float("nan"), "set": {1}, "endless": endless}
    if output == "raise":
        raise ValueError("no\nluck")
    return "x" * 10_000_001 if output == "long" else values[output]


@pytest.fixture(autouse=True)
def _functions(monkeypatch: pytest.MonkeyPatch) -> None:
    for function in (split, sees, returns):
        monkeypatch.setattr(user_checks, function.__name__, function, raising=False)


def changed(written: str, text: str, **variables: Any) -> tuple[str, Any]:
    after = transforms.apply([REGISTRY.transform(written, "c:1")], context(text, **variables))
    return after.answer.text, after.output


MAKES = [
    ("{{ output | upper }}", "paris", "PARIS", None),
    ("{{- output | trim -}}", " a ", "a", None),
    ("{{+ output }}", "a", "a", None),
    ("The city: {{ output }}", "Paris", "The city: Paris", None),
    ("{{ output }}{{ vars.word }}", "a", "ab", None),
    ("{% if output %}yes{% endif %}", "a", "yes", None),
    ("{{ (output | fromjson).city }}", '{"city": "Lima"}', "Lima", None),
    ("{{ output | fromjson }}", '{"a": [1, "é<"]}', '{"a":[1,"é<"]}', {"a": [1, "é<"]}),
    ("{{ output | length }}", "abc", "3", 3),
    ("{{ 'a' in output }}", "b", "false", False),
    ("{{ (output | fromjson) | tojson }}", '{"a":  "<"}', '{"a":"<"}', None),
    ("{{ vars.word ~ '}}' }}", "x", "b}}", None),
    (f"python: {MINE}:split", "a b", '["a","b"]', ["a", "b"]),
    (f"python: {MINE}:sees", "a", "abNone", None),
]


def test_javascript_makes_values_too() -> None:
    pytest.importorskip("py_mini_racer")
    assert changed("javascript: output.trim() + context.vars.word", " a ", word="b") == ("ab", None)
    both = [
        REGISTRY.transform(one, "c:1")
        for one in ("javascript: JSON.parse(output)", "javascript: output.map(x => 2 * x)")
    ]
    after = transforms.apply(both, context("[1, 2]"))
    assert (after.answer.text, after.output) == ("[2,4]", [2, 4])
    for code, reason in [
        ("output.a.b", "it failed: TypeError: Cannot read properties of undefined"),
        ("undefined", "it failed: the code returned nothing"),
    ]:
        with pytest.raises(NotEvaluable) as caught:
            changed(f"javascript: {code}", "x")
        assert str(caught.value).startswith(f'the transform "javascript: {code}": {reason}')


@pytest.mark.parametrize(("written", "text", "after", "output"), MAKES)
def test_what_a_transform_makes(written: str, text: str, after: str, output: Any) -> None:
    assert changed(written, text, word="b") == (after, output)


def test_the_next_transform_gets_the_value() -> None:
    both = [REGISTRY.transform(one, "c:1") for one in ("{{ output | fromjson }}", "{{ output.a }}")]
    after = transforms.apply(both, context('{"a": 0}'))
    assert (after.answer.text, after.output) == ("0", 0)
    after = transforms.apply([REGISTRY.transform("{{ output + 1 }}", "c:1")], after)
    assert (after.answer.text, after.output) == ("1", 1)


FAILS = [
    ("{{ otput }}", "a", "UndefinedError: 'otput' is undefined"),
    ("{{ vars.wrd }}", "a", "UndefinedError: 'dict object' has no attribute 'wrd'"),
    (
        "{{ (output | fromjson).a }}",
        "no",
        "JSONDecodeError: Expecting value: line 1 column 1 (char 0)",
    ),
    ("{{ (output | fromjson).a }}", "NaN", "ValueError: NaN is not JSON"),
    ("{{ output * 1000000 }}", "ab", "OverflowError: the result of * is too large"),
    ("{{ 9 ** (9 ** 9) }}", "ab", "OverflowError: the result of ** is too large"),
    (
        "{{ output.__class__.__mro__ }}",
        "ab",
        "SecurityError: access to attribute '__class__' of 'str' object is unsafe.",
    ),
    (
        "{{ vars.clear() }}",
        "ab",
        "SecurityError: access to attribute 'clear' of 'dict' object is unsafe.",
    ),
]


@pytest.mark.parametrize(("written", "text", "reason"), FAILS)
def test_a_template_that_fails_leaves_nothing_to_judge(
    written: str, text: str, reason: str
) -> None:
    with pytest.raises(NotEvaluable) as caught:
        changed(written, text)
    assert str(caught.value).startswith(f'the transform "{written}" failed: {reason}')


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("none", "returned nothing"),
        (
            "nan",
            "returned a float that is no JSON: Out of range float values are not JSON compliant",
        ),
        ("set", "returned a set that is no JSON: Object of type set is not JSON serializable"),
        ("endless", "returned a list that is no JSON: Circular reference detected"),
        ("long", "returned more than 10000000 characters"),
    ],
)
def test_a_function_that_returns_no_value(text: str, reason: str) -> None:
    with pytest.raises(NotEvaluable) as caught:
        changed(f"python: {MINE}:returns", text)
    assert str(caught.value).startswith(f'the transform "python: {MINE}:returns" {reason}')


def test_a_function_that_raises_is_told_with_its_place() -> None:
    with pytest.raises(NotEvaluable) as caught:
        changed(f"python: {MINE}:returns", "raise")
    line = returns.__code__.co_firstlineno + 5
    assert str(caught.value) == (
        f'the transform "python: {MINE}:returns": it raised ValueError: no luck ({__file__}:{line})'
    )


@pytest.mark.parametrize(
    ("raw", "text", "passed", "score"),
    [
        ("javascript: output.length < 3", "ab", True, 1.0),
        ("javascript: output.length < 3", "abc", False, 0.0),
        ("javascript(0.7): Number(output)", "0.6", False, 0.6),
        ("not-javascript: output === context.vars.word", "b", False, 0.0),
        ("javascript: return {pass: true, score: 0.25, reason: 'so'}", "x", True, 0.25),
        (
            {"javascript": "output.a === 1", "transform": "{{ output | fromjson }}"},
            '{"a": 1}',
            True,
            1.0,
        ),
    ],
)
def test_javascript_judges_as_a_function_does(
    raw: Any, text: str, passed: bool, score: float
) -> None:
    pytest.importorskip("py_mini_racer")
    result = REGISTRY.evaluate(REGISTRY.parse(raw, "c:1"), answer(text), context(word="b"))
    assert (result.passed, result.score) == (passed, score)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (
            "javascript: output.a.b",
            'the code "output.a.b": it failed: TypeError: Cannot read properties of undefined',
        ),
        ("not-javascript: null", 'the code "null" returned None; it must return True or False'),
        ("javascript: 7", 'the code "7" returned the score 7; it must lie between 0 and 1'),
    ],
)
def test_javascript_that_says_nothing_is_never_a_pass(raw: str, reason: str) -> None:
    pytest.importorskip("py_mini_racer")
    with pytest.raises(NotEvaluable) as caught:
        REGISTRY.evaluate(REGISTRY.parse(raw, "c:1"), answer("x"), context())
    assert str(caught.value).startswith(reason)


def test_javascript_sees_json_only() -> None:
    pytest.importorskip("py_mini_racer")
    with pytest.raises(NotEvaluable) as caught:
        changed("javascript: output", "x", word={1})
    assert str(caught.value) == (
        'the transform "javascript: output": what it would see is no JSON:'
        " Object of type set is not JSON serializable"
    )


BROKEN = [
    (
        "upper",
        '"upper" would give every answer the same text: write a template such as'
        " '{{ output | trim }}', 'python: package.module:function' or 'javascript: output.length'",
    ),
    (
        3,
        "expected text, got 3: write a template such as '{{ output | trim }}',"
        " 'python: package.module:function' or 'javascript: output.length'",
    ),
    (
        "{{ output",
        'the template "{{ output" is broken on its line 1: unexpected end of template,'
        " expected 'end of print statement'.",
    ),
    (
        "python: nothing",
        "the value must name a function, as in 'python: package.module:function'",
    ),
    (
        f"python: {MINE}:is_async",
        f"{MINE}:is_async is async; a transform is a plain function",
    ),
    (
        "javascript: ",
        "the value must be code, as in 'javascript: output.trim()'",
    ),
]


@pytest.mark.parametrize(("written", "message"), BROKEN)
def test_broken_transforms(written: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        REGISTRY.transform(written, "c.yaml:7", where="transform")
    assert str(caught.value) == f"c.yaml:7: transform: {message}"
    if isinstance(written, str):
        with pytest.raises(ConfigError) as caught:
            REGISTRY.parse({"contains": "a", "transform": written}, "c.yaml:7")
        assert str(caught.value) == f"c.yaml:7: contains: {message}"


@given(st.text(max_size=40), st.text(max_size=40))
def test_no_template_does_more_than_fail(written: str, text: str) -> None:
    try:
        transform = REGISTRY.transform("{{" + written + "}}", "c:1")
        after = transforms.apply([transform], context(text))
    except (ConfigError, NotEvaluable):
        return
    assert isinstance(after.answer.text, str)


def made(root: Path, **fields: Any) -> tuple[Suite, Case]:
    config: SuiteConfig = suite(**fields)
    built = build_suite(
        key="k",
        name="capitals",
        config=config,
        root=root,
        where=where,
        registry=AssertionRegistry(),
        timeout=5,
        clients=Clients(lambda: None),  # type: ignore[arg-type, return-value]
        redact=lambda value: value,
    )
    return built, next(iter(built.cases.values()))


def test_the_suite_s_comes_first_then_the_case_s_then_the_assertion_s(tmp_path: Path) -> None:
    built, case = made(
        tmp_path,
        transform="{{ output }}1",
        parameters={"seed": 3},
        cases=[
            {
                "vars": {"country": "x", "word": "w"},
                "transform": "{{ output }}2",
                "assert": [
                    {"equals": "a123", "transform": "{{ output }}3"},
                    {"type": "equals", "value": "a12"},
                    {"type": "equals", "value": "a12w3", "transform": f"python: {MINE}:sees"},
                    {
                        "type": "assert-set",
                        "assert": [
                            {"equals": "{{ word }}a12", "transform": "{{ vars.word }}{{ output }}"}
                        ],
                    },
                ],
            }
        ],
    )
    results = built.evaluate(case, (), answer("a"), None)
    assert [result.reason for result in results if not result.passed] == []
    assert len(results) == 4


def test_a_transform_that_fails_is_no_fail_of_a_negated_assertion(tmp_path: Path) -> None:
    built, case = made(
        tmp_path,
        cases=[
            {
                "vars": {"country": "x"},
                "assert": {"not-contains": "a", "transform": "{{ output | fromjson }}"},
            }
        ],
    )
    with pytest.raises(NotEvaluable):
        built.evaluate(case, (), answer("no json"), None)


def test_transforms_make_another_case_of_it(tmp_path: Path) -> None:
    def hashed(shared: str | None, own: str | None) -> str:
        case = {"vars": {"country": "x"}, "assert": "contains: a", "transform": own}
        return case_hash(made(tmp_path, transform=shared, cases=[case])[1])

    one, two = "{{ output | trim }}", "{{ output | upper }}"
    ways = [(None, None), (one, None), (two, None), (one, two), (two, one)]
    assert len({hashed(*way) for way in ways}) == len(ways)
    case = made(tmp_path, cases=[{"vars": {"country": "x"}, "assert": "contains: a"}])[1]
    assert case_hash(replace(case, id="other")) == case_hash(case)


ALLOW = (
    "code that a case file names runs only where the gate allows it: set"
    " gates.capitals.allow_code: true, if you trust whoever writes that file"
)
CODE = f"python: {MINE}:polite"
IN_FILES = [
    ("c.csv", f"country,__expected\nx,{CODE}\n", ":2: __expected: python: "),
    ("c.csv", "country,__expected\nx,not-python: a:b\n", ":2: __expected: not-python: "),
    ("c.json", '[{"assert": "python: a:b"}]', ":1: assert: python: "),
    ("c.jsonl", '{"assert": [{"type": "python", "value": "a:b"}]}', ":1: assert[0]: python: "),
    ("c.yaml", "- assert:\n    - python: a:b\n", ":2: assert[0]: python: "),
    (
        "c.yaml",
        "- assert:\n    - {contains: x, transform: 'python: a:b'}\n",
        ":2: assert[0]: contains: ",
    ),
    (
        "c.yaml",
        "- vars: {p: 'python: a:b'}\n  assert: ['{{ p }}']\n",
        ":2: assert[0]: python: ",
    ),
    (
        "c.yaml",
        "- assert:\n    - {type: assert-set, assert: ['python: a:b']}\n",
        ":2: assert[0]: assert-set, assertion 1: python: ",
    ),
    ("c.yaml", "- transform: 'python: a:b'\n  assert: ['contains: x']\n", ":1: transform: "),
    ("c.yaml", "- transform: 'javascript: 1'\n  assert: ['contains: x']\n", ":1: transform: "),
]


@pytest.mark.parametrize(("name", "content", "place"), IN_FILES)
def test_code_in_a_case_file_needs_leave(
    name: str, content: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_text(content)
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, cases=name, prompt="x")
    assert str(caught.value) == f"{name}{place}{ALLOW}"


SMUGGLED: list[Any] = [
    "python: {{ x }}",
    "{{ kind }}: {{ x }}",
    {"python": "{{ x }}"},
    {"type": "python", "value": "{{ x }}"},
    {"type": "{{ kind }}", "value": f"{MINE}:polite"},
    {"type": "assert-set", "assert": ["python: {{ x }}"]},
]


@pytest.mark.parametrize("check", SMUGGLED)
def test_a_case_file_cannot_fill_code_into_the_suite_s_assertions(
    check: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    values = f'{{"vars": {{"x": "{MINE}:polite", "kind": "python"}}}}'
    (tmp_path / "c.jsonl").write_text(values)
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, checks=[check], cases="c.jsonl", prompt="x")
    inside = "assert-set, assertion 1: " if "assert-set" in str(check) else ""
    assert str(caught.value) == (
        "llmdeploy.yaml:4: gates.capitals.assert[0], for the case of c.jsonl:1:"
        f" {inside}python: {ALLOW}"
    )
    assert load(tmp_path, checks=[check], cases="c.jsonl", prompt="x", allow_code=True)


@pytest.mark.parametrize(
    "check",
    [
        CODE,
        {"type": "python", "value": f"{MINE}:polite", "metric": "{{ x }}"},
        {"type": "contains", "value": "{{ x }}", "transform": f"python: {MINE}:sees"},
        {"type": "assert-set", "assert": [CODE, "contains: {{ x }}"]},
    ],
)
def test_the_suite_s_own_code_needs_no_leave(check: Any, tmp_path: Path) -> None:
    (tmp_path / "c.jsonl").write_text('{"vars": {"x": "python: a:b"}}')
    assert load(tmp_path, checks=[check], cases="c.jsonl", prompt="x")


def test_code_in_place_and_registered_types_need_no_leave(tmp_path: Path) -> None:
    case = {
        "vars": {"f": f"{MINE}:polite"},
        "assert": [CODE, "python: {{ f }}"],
        "transform": f"python: {MINE}:sees",
    }
    assert load(tmp_path, cases=[case], prompt="x")
    registry = AssertionRegistry()
    registry.register("polite", user_checks.polite)
    (tmp_path / "c.jsonl").write_text('{"assert": ["polite"]}')
    assert load(tmp_path, cases="c.jsonl", prompt="x", registry=registry)


def test_a_case_file_with_leave_may_name_code(tmp_path: Path) -> None:
    (tmp_path / "c.jsonl").write_text(
        f'{{"assert": ["{CODE}"], "transform": "python: {MINE}:sees"}}'
    )
    (case,) = load(tmp_path, cases="c.jsonl", prompt="x", allow_code=True)
    assert [one.written for one in case.transforms] == [f"python: {MINE}:sees"]


def test_a_value_of_a_case_is_no_code_in_a_transform(tmp_path: Path) -> None:
    (tmp_path / "c.jsonl").write_text('{"vars": {"x": "{{ 1 }}python: os:getcwd"}}')
    (case,) = load(
        tmp_path, checks=["contains: a"], transform="{{ vars.x }}", cases="c.jsonl", prompt="x"
    )
    after = transforms.apply(case.transforms, replace(context("a"), vars=case.vars))
    assert after.answer.text == "{{ 1 }}python: os:getcwd"


def test_a_broken_transform_of_the_suite_is_told_once(tmp_path: Path) -> None:
    cases = [{"vars": {"country": "x"}, "assert": "contains: a"}] * 2
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, transform="python: no_such_module:f", cases=cases)
    assert str(caught.value).splitlines()[0] == (
        "llmdeploy.yaml:3: gates.capitals.transform: No module named 'no_such_module'; pytest's"
        " 'pythonpath' says where modules are found"
    )
