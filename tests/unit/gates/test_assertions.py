"""Every assertion type both ways, plain and with not-, and what cannot be judged."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from pytest_llmdeploy.errors import ConfigError, NotMeasuredError
from pytest_llmdeploy.gates.assertions import (
    AssertionContext,
    AssertionRegistry,
    AssertionSpec,
    NotEvaluable,
    evaluate,
)
from tests.unit.gates import user_checks
from tests.unit.gates.helpers import answer, context, load

REGISTRY = AssertionRegistry()
SCHEMA = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}
MINE = "tests.unit.gates.user_checks"


def parsed(raw: Any, *, column: bool = False) -> AssertionSpec:
    """Return a single assertion."""
    spec = REGISTRY.parse(raw, "c.yaml:1", column=column)
    assert isinstance(spec, AssertionSpec)
    return spec


HOLDS = [
    # assertion, answer that holds, answer that doesn't, reason of the failure
    ("equals: Paris", " Paris\n", "paris", 'expected the answer to equal "Paris", got "paris"'),
    (
        {"equals": {"a": 1, "b": [True]}},
        '{"b": [true], "a": 1.0}',
        '{"a": true, "b": [true]}',
        'expected the answer to equal the JSON "{\\"a\\": 1, \\"b\\": [true]}",'
        ' got "{\\"a\\": true, \\"b\\": [true]}"',
    ),
    (
        {"equals": 42},
        "42",
        "forty-two",
        'expected the answer to equal the JSON "42", got "forty-two", which is not JSON:'
        " Expecting value: line 1 column 1 (char 0)",
    ),
    ("contains: Par", "in Paris", "paris", 'expected the answer to contain "Par", got "paris"'),
    (
        "icontains: STRASSE",
        "Straße",
        "Weg",
        'expected the answer to contain "STRASSE" in any case, got "Weg"',
    ),
    (
        'contains-any: Paris, "a, b"',
        "x a, b x",
        "a b",
        'expected the answer to contain any of "Paris", "a, b", got "a b" without "Paris", "a, b"',
    ),
    (
        {"contains-all": ["a", "b"]},
        "ab",
        "a",
        'expected the answer to contain all of "a", "b", got "a" without "b"',
    ),
    (
        "icontains-any: A, B",
        "b",
        "c",
        'expected the answer to contain any of "A", "B" in any case, got "c" without "A", "B"',
    ),
    (
        "icontains-all: A, B",
        "ba",
        "b",
        'expected the answer to contain all of "A", "B" in any case, got "b" without "A"',
    ),
    ("starts-with: Yes", "\n Yes.", "yes", 'expected the answer to start with "Yes", got "yes"'),
    (
        {"regex": {"pattern": "^pa.is$", "flags": "im"}},
        "x\nPARIS",
        "Pais",
        'expected the answer to match "^pa.is$", got "Pais"',
    ),
    (
        "regex: \\d{4}",
        "in 1789.",
        "in 178",
        'expected the answer to match "\\\\d{4}", got "in 178"',
    ),
    (
        "is-json",
        " [1]\n",
        "```json\n[1]\n```",
        'expected the answer to be JSON, got "```json\\n[1]\\n```" (it stands in a Markdown code'
        " fence): Expecting value: line 1 column 1 (char 0)",
    ),
    (
        "is-json",
        "null",
        "NaN",
        'expected the answer to be JSON, got "NaN": NaN is not JSON',
    ),
    (
        {"is-json": SCHEMA},
        '{"age": 3}',
        '{"age": "3"}',
        "expected the answer to be JSON of the schema, at $.age: '3' is not of type 'integer';"
        ' got "{\\"age\\": \\"3\\"}"',
    ),
    (
        "word-count: 2..3",
        "a b\nc",
        "a",
        'expected the answer to have 2 to 3 words, it has 1: "a"',
    ),
    ("word-count: 2", "a b", "a b c", 'expected the answer to have 2 words, it has 3: "a b c"'),
    (
        {"word-count": {"min": 2}},
        "a b c",
        "a",
        'expected the answer to have at least 2 words, it has 1: "a"',
    ),
    (
        "is-refusal",
        "I\u2019m sorry, but I can\u2019t help with that.",
        "Paris.",
        'expected the answer to be a refusal, got "Paris."',
    ),
    (
        "is-refusal: das kann ich nicht",
        "Das  kann ich nicht.",
        "Gern.",
        'expected the answer to be a refusal, got "Gern."',
    ),
    (
        f"python: {MINE}:polite",
        "please",
        "now",
        f'expected the answer to satisfy {MINE}:polite, got "now"',
    ),
    (
        f"python(0.7): {MINE}:share",
        "0.7",
        "0.6",
        f"expected the answer to satisfy {MINE}:share, its score is 0.6 at a threshold of 0.7;"
        ' got "0.6"',
    ),
    (
        f"python: {MINE}:mapping",
        "please",
        "now",
        f'expected the answer to satisfy {MINE}:mapping, {MINE}:mapping said: no please; got "now"',
    ),
]


@pytest.mark.parametrize(
    ("raw", "good", "bad", "reason"), HOLDS, ids=[f"{i}-{row[0]}" for i, row in enumerate(HOLDS)]
)
def test_both_ways(raw: Any, good: str, bad: str, reason: str) -> None:
    spec = parsed(raw)
    negated = parsed(_negated(raw))
    passed = evaluate(spec, answer(good), context())
    failed = evaluate(spec, answer(bad), context())
    assert (passed.passed, failed.passed) == (True, False)
    assert failed.reason == reason
    assert passed.reason == f"expected the answer {spec.check.expectation}: met"
    not_passed = evaluate(negated, answer(bad), context())
    not_failed = evaluate(negated, answer(good), context())
    assert (not_passed.passed, not_failed.passed) == (True, False)
    assert not_failed.reason.startswith(f"expected the answer not {spec.check.expectation}, ")
    assert not_failed.type == f"not-{spec.type}"
    for plain, opposite in ((passed, not_failed), (failed, not_passed)):
        assert plain.score == pytest.approx(1 - opposite.score)


def _negated(raw: Any) -> Any:
    if isinstance(raw, str):
        return f"not-{raw}"
    return {f"not-{key}": value for key, value in raw.items()}


def test_latency() -> None:
    spec = REGISTRY.parse("latency(0.5)", "c:1")
    assert evaluate(spec, answer("x", latency=0.5), context()).passed
    late = evaluate(spec, answer("x", latency=0.75), context())
    assert (late.passed, late.reason) == (
        False,
        "expected the answer to come within 0.5 s, it took 0.750 s",
    )
    assert evaluate(REGISTRY.parse("not-latency: 0.5", "c:1"), answer("x", 0.75), context()).passed


@pytest.mark.parametrize("raw", ["is-refusal", "not-is-refusal"])
def test_an_empty_answer_is_neither_refusal_nor_answer(raw: str) -> None:
    found = evaluate(REGISTRY.parse(raw, "c:1"), answer(" \n"), context())
    assert (found.passed, found.score) == (False, 0)
    assert found.reason.endswith(
        "to be a refusal, the answer is empty, which is neither a refusal nor an answer"
    )


@pytest.mark.parametrize(
    "text",
    [
        "I cannot assist with that request.",
        "As an AI language model, I am not able to browse.",
        "Sorry, I can't do that.",
        "I must decline.",
        "That is against my guidelines.",
        "Unfortunately, I'm unable to provide medical advice.",
        "No, I won't.",
    ],
)
def test_refusals(text: str) -> None:
    assert evaluate(REGISTRY.parse("is-refusal", "c:1"), answer(text), context()).passed


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry to hear that you are ill. Drink a lot of water.",
        "The treaty was declined by Rome, who could not help the city.",
        "You cannot divide by zero.",
        "Paris, as an AI would say, is the capital.",
    ],
)
def test_no_refusals(text: str) -> None:
    assert not evaluate(REGISTRY.parse("is-refusal", "c:1"), answer(text), context()).passed


def test_a_long_answer_is_cut_in_its_middle() -> None:
    found = evaluate(REGISTRY.parse("equals: x", "c:1"), answer("a" * 300 + "b" * 300), context())
    assert found.reason == f'expected the answer to equal "x", got "{"a" * 100} … {"b" * 100}"'


def test_half_a_character_of_a_model_can_be_reported() -> None:
    found = evaluate(REGISTRY.parse("equals: x", "c:1"), answer("\ud83d"), context())
    assert found.reason == 'expected the answer to equal "x", got "?"'


DEEP = "[" * 100_000
UNEVALUABLE: list[tuple[Any, str, str]] = [
    (
        f"python: {MINE}:returns",
        "none",
        f"{MINE}:returns returned None; it must return True or False, a score from 0 to 1,"
        " {'pass', 'score', 'reason'} or an AssertionResult",
    ),
    (
        f"python: {MINE}:returns",
        "text",
        f"{MINE}:returns returned str; it must return True or False, a score from 0 to 1,"
        " {'pass', 'score', 'reason'} or an AssertionResult",
    ),
    (
        f"python: {MINE}:returns",
        "empty",
        f"{MINE}:returns returned \"{{}}\"; 'pass' (True or False) or 'score' must be there,"
        " 'reason' may, and nothing else",
    ),
    (
        f"python: {MINE}:returns",
        "typo",
        f"{MINE}:returns returned \"{{'passed': True}}\"; 'pass' (True or False) or 'score' must"
        " be there, 'reason' may, and nothing else",
    ),
    (
        f"python: {MINE}:returns",
        "pass",
        f"{MINE}:returns returned \"{{'pass': 'yes'}}\"; 'pass' (True or False) or 'score' must"
        " be there, 'reason' may, and nothing else",
    ),
    (
        f"python: {MINE}:returns",
        "nan",
        f"{MINE}:returns returned the score nan; it must lie between 0 and 1",
    ),
    (
        f"python: {MINE}:returns",
        "above",
        f"{MINE}:returns returned the score 1.5; it must lie between 0 and 1",
    ),
    (
        f"python: {MINE}:returns",
        "huge",
        f"{MINE}:returns returned the score a huge number; it must lie between 0 and 1",
    ),
    (f"python: {MINE}:returns", "score", f"{MINE}:returns returned 'high' as its score"),
    ("is-json", DEEP, "the answer is JSON nested too deeply to be read"),
    ("latency: 2", "", "latency: the answer's latency is nan"),
    (
        {"is-json": {"$id": "urn:x", "$ref": "urn:y"}},
        "1",
        "the JSON Schema cannot be followed: <WrappedReferencingError Unresolvable(ref='urn:y')>",
    ),
]


@pytest.mark.parametrize("negated", [False, True])
@pytest.mark.parametrize(
    ("raw", "text", "reason"), UNEVALUABLE, ids=[f"{i}" for i in range(len(UNEVALUABLE))]
)
def test_what_cannot_be_judged_never_passes(
    raw: Any, text: str, reason: str, negated: bool
) -> None:
    spec = REGISTRY.parse(_negated(raw) if negated else raw, "c:1")
    with pytest.raises(NotEvaluable) as caught:
        evaluate(spec, answer(text, latency=float("nan")), context())
    assert str(caught.value) == reason
    assert isinstance(caught.value, NotMeasuredError)


@pytest.mark.parametrize("prefix", ["", "not-"])
def test_a_function_that_raises_is_told_with_its_place(prefix: str) -> None:
    line = user_checks.raises.__code__.co_firstlineno + 1
    spec = REGISTRY.parse(f"{prefix}python: {MINE}:raises", "c:1")
    with pytest.raises(NotEvaluable) as caught:
        evaluate(spec, answer("x"), context())
    assert str(caught.value) == (
        f"{MINE}:raises raised ValueError: no such word ({user_checks.__file__}:{line})"
    )


def test_a_function_that_exits_does_not_end_the_run() -> None:
    line = user_checks.exits.__code__.co_firstlineno + 1
    with pytest.raises(NotEvaluable) as caught:
        evaluate(REGISTRY.parse(f"python: {MINE}:exits", "c:1"), answer("x"), context())
    assert str(caught.value) == (
        f"{MINE}:exits raised SystemExit: 0 ({user_checks.__file__}:{line})"
    )


@pytest.mark.parametrize("error", [KeyboardInterrupt, asyncio.CancelledError, GeneratorExit])
def test_no_exception_of_a_function_gets_past(error: type[BaseException]) -> None:
    def interrupted(output: str, context: AssertionContext) -> bool:
        raise error("now")

    registry = AssertionRegistry()
    registry.register("mine", interrupted)
    with pytest.raises(NotEvaluable) as caught:
        evaluate(registry.parse("mine", "c:1"), answer("x"), context())
    line = interrupted.__code__.co_firstlineno + 1
    assert str(caught.value) == f"mine raised {error.__name__}: now ({__file__}:{line})"


STEERING = "\x1b]0;title\x07\x9b2J" + "\n\u202e" + "x" * 1_000_000
TAMED = "?]0;title??2J ?" + "x" * 185 + "…"


def test_what_a_function_says_cannot_steer_a_terminal() -> None:
    def says(output: str, context: AssertionContext) -> Any:
        if output == "raise":
            raise ValueError(STEERING)
        if output == "score":
            return {"score": STEERING[:12]}
        return {"pass": False, "reason": STEERING}

    registry = AssertionRegistry()
    registry.register("mine", says)
    spec = registry.parse("mine", "c:1")
    assert evaluate(spec, answer("x"), context()).reason == (
        f'expected the answer to satisfy mine, mine said: {TAMED}; got "x"'
    )
    with pytest.raises(NotEvaluable) as caught:
        evaluate(spec, answer("raise"), context())
    line = says.__code__.co_firstlineno + 2
    assert str(caught.value) == f"mine raised ValueError: {TAMED} ({__file__}:{line})"
    with pytest.raises(NotEvaluable) as caught:
        evaluate(spec, answer("score"), context())
    assert str(caught.value) == "mine returned '?]0;title??2' as its score"


def test_where_a_schema_is_broken_cannot_steer_a_terminal() -> None:
    schema = {"additionalProperties": {"type": "null"}}
    spec = REGISTRY.parse({"is-json": schema}, "c:1")
    key = "\x1b[2J" + "k" * 10_000
    reason = evaluate(spec, answer(json.dumps({key: 1})), context()).reason
    assert reason.isprintable()
    assert len(reason) < 700
    assert "[2Jkkk" in reason


@pytest.fixture
def two_projects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return the folder of the projects one and two, both of which Python looks into."""
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / name)])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def _write(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("def good(output, context):\n    return True\n")


def _load_function(root: Path, function: str) -> None:
    load(root, cases=[{"vars": {"country": "x"}, "assert": f"python: {function}"}])


@pytest.mark.parametrize(
    ("files", "first", "second", "places"),
    [
        (
            ["one/namesake.py", "two/namesake.py"],
            "namesake:good",
            "namesake:good",
            "one/namesake.py, not from two/namesake.py",
        ),
        (
            ["one/namesake/__init__.py", "one/namesake/a.py", "two/namesake/b.py"],
            "namesake.a:good",
            "namesake.b:good",
            "one/namesake/__init__.py, not from two/namesake",
        ),
        (
            ["one/namesake/__init__.py", "two/namesake.py"],
            "namesake:good",
            "namesake:only_here",
            "one/namesake/__init__.py, not from two/namesake.py",
        ),
    ],
)
def test_a_function_of_another_project_is_not_taken(
    two_projects: Path, files: list[str], first: str, second: str, places: str
) -> None:
    for file in files:
        _write(two_projects / file)
    _load_function(two_projects / "one", first)
    with pytest.raises(ConfigError) as caught:
        _load_function(two_projects / "two", second)
    assert str(caught.value) == (
        "llmdeploy.yaml:5: gates.capitals.cases[0].assert: python: the module 'namesake' came"
        f" from {places}: Python keeps one module of a name, so give yours another one"
    )
    _load_function(two_projects / "one", first)


def test_a_module_of_python_is_not_taken_for_a_project_s_own(two_projects: Path) -> None:
    _write(two_projects / "one" / "time.py")
    with pytest.raises(ConfigError) as caught:
        _load_function(two_projects / "one", "time:sleep")
    assert str(caught.value) == (
        "llmdeploy.yaml:5: gates.capitals.cases[0].assert: python: the module 'time' came from"
        " Python itself, not from one/time.py: Python keeps one module of a name, so give yours"
        " another one"
    )


def test_modules_that_are_not_beside_the_file_are_fine(two_projects: Path) -> None:
    _write(two_projects / "one" / "shared_checks" / "own.py")  # a namespace package
    (two_projects / "two" / "json").mkdir()
    (two_projects / "two" / "json" / "cases.jsonl").touch()
    _load_function(two_projects / "one", "shared_checks.own:good")
    _load_function(two_projects / "two", "shared_checks.own:good")
    _load_function(two_projects / "two", "json:loads")


@pytest.mark.parametrize("prefix", ["", "not-"])
def test_a_regex_that_takes_for_ever_is_given_up(
    prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pytest_llmdeploy.gates.assertions.pattern.REGEX_TIMEOUT", 0.05)
    spec = REGISTRY.parse(prefix + "regex: ^(a|aa)+$", "c:1")
    with pytest.raises(NotEvaluable) as caught:
        evaluate(spec, answer("a" * 60 + "!"), context())
    assert str(caught.value) == (
        'regex: the pattern "^(a|aa)+$" was not decided within 0.05 s'
        " on a text of 61 characters; make it simpler"
    )


EVIL = "^(a|aa)+$"
LATE = "a" * 60 + "!"
DRAFT_7 = "http://json-schema.org/draft-07/schema#"
LATEST = "https://json-schema.org/draft/2020-12/schema"


@pytest.mark.parametrize("prefix", ["", "not-"])
@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"pattern": EVIL}, LATE),
        ({"patternProperties": {EVIL: {}}}, {LATE: 1}),
        ({"patternProperties": {EVIL: {}}, "additionalProperties": False}, {LATE: 1}),
        ({"propertyNames": {"pattern": EVIL}}, {LATE: 1}),
        ({"$schema": LATEST, "properties": {"a": {"$ref": "#"}}, "pattern": EVIL}, {"a": LATE}),
        ({"properties": {"a": {"$schema": DRAFT_7, "pattern": EVIL}}}, {"a": LATE}),
        ({"$schema": DRAFT_7, "items": {"pattern": EVIL}}, [LATE]),
    ],
)
def test_a_pattern_of_a_schema_that_takes_for_ever_is_given_up(
    prefix: str, schema: Any, value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pytest_llmdeploy.gates.assertions.pattern.REGEX_TIMEOUT", 0.05)
    spec = REGISTRY.parse({f"{prefix}is-json": schema}, "c:1")
    with pytest.raises(NotEvaluable) as caught:
        evaluate(spec, answer(json.dumps(value)), context())
    assert str(caught.value) == (
        'JSON Schema: the pattern "^(a|aa)+$" was not decided within 0.05 s'
        " on a text of 61 characters; make it simpler"
    )


SOME_KEYS = {"patternProperties": {"^n_": {"type": "integer"}, "2$": {"minimum": 2}}}


@pytest.mark.parametrize(
    ("schema", "value", "wrong"),
    [
        ({"pattern": "^a+$"}, "aa", None),
        ({"pattern": "^a+$"}, 5, None),
        ({"pattern": "^a+$"}, "b", "at $: 'b' does not match '^a+$'"),
        (SOME_KEYS, {"n_1": 1, "n_2": 2, "x": "y"}, None),
        (SOME_KEYS, [], None),
        (SOME_KEYS, {"n_1": "1"}, "at $.n_1: '1' is not of type 'integer'"),
        (SOME_KEYS, {"n_2": 1}, "at $.n_2: 1 is less than the minimum of 2"),
        ({**SOME_KEYS, "additionalProperties": False}, {"n_1": 1}, None),
        (
            {**SOME_KEYS, "properties": {"x": {}}, "additionalProperties": False},
            {"n_1": 1, "x": 2, "y": 3},
            "at $: Additional properties are not allowed ('y' was unexpected)",
        ),
        ({**SOME_KEYS, "additionalProperties": {"type": "null"}}, {"n_1": 1, "z": None}, None),
        (
            {**SOME_KEYS, "additionalProperties": {"type": "null"}},
            {"n_1": 1, "z": 5},
            "at $.z: 5 is not of type 'null'",
        ),
        ({"additionalProperties": False}, [1], None),
        ({"const": {"$schema": "x"}}, {"$schema": "x"}, None),
        ({"properties": {"$schema": {"type": "string"}}}, {"$schema": "x"}, None),
    ],
)
def test_patterns_of_a_schema(schema: Any, value: Any, wrong: str | None) -> None:
    text = json.dumps(value)
    found = evaluate(REGISTRY.parse({"is-json": schema}, "c:1"), answer(text), context())
    assert found.passed is (wrong is None) is Draft202012Validator(schema).is_valid(value)
    if wrong is not None:
        expected = f"expected the answer to be JSON of the schema, {wrong}; got {json.dumps(text)}"
        assert found.reason == expected


def test_functions_see_the_context_and_may_return_results() -> None:
    spec = REGISTRY.parse(f"python: {MINE}:uses_context", "c:1")
    assert evaluate(spec, answer("a word"), context(word="word")).passed
    weighted = REGISTRY.parse(
        {"type": "python", "value": f"{MINE}:result", "weight": 3, "threshold": 0.95}, "c:1"
    )
    found = evaluate(weighted, answer("x"), context())
    assert (found.type, found.passed, found.score, found.weight) == ("python", False, 0.9, 3.0)


def test_registered_types_belong_to_their_registry() -> None:
    def long_enough(output: str, context: AssertionContext) -> float:
        return float(min(1.0, len(output) / context.value))

    registry = AssertionRegistry()
    registry.register("long-enough", long_enough)
    assert "long-enough" in registry.names
    assert "long-enough" not in AssertionRegistry().names
    spec = registry.parse({"not-long-enough": 10}, "c:1")
    found = registry.evaluate(spec, answer("abcd"), context())
    assert (found.passed, found.score) == (True, 0.6)
    with pytest.raises(ValueError, match=r"^the assertion type 'long-enough' exists already$"):
        registry.register("long-enough", long_enough)
    with pytest.raises(ValueError, match=r"^'not-long' cannot name an assertion type: use a-z, "):
        registry.register("not-long", long_enough)
    with pytest.raises(ValueError, match=r"^waits is async; an assertion is a plain function$"):
        registry.register("waits", user_checks.is_async)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (
            "contains-any: a,,b",
            "contains-any: the value is empty, and every answer contains the empty text",
        ),
        (
            'contains-all: "a',
            'contains-all: the list "\\"a" cannot be split: unexpected end of data',
        ),
        (
            {"contains-all": []},
            "contains-all: the value must be a list of texts, or texts separated by commas",
        ),
        ({"contains": True}, "contains: the value must be a text, got true: put it in quotes"),
        ("contains(0.5): x", "contains: it has no threshold"),
        ("contains(half): x", "contains: threshold must be a number, got 'half'"),
        (
            {"type": "latency(1)", "threshold": 2},
            "latency(1): the threshold is given twice",
        ),
        ("latency(1): 2", "latency: give the seconds once, as value or as threshold"),
        (
            "latency: soon",
            "latency: it needs a number of seconds above 0, such as 'latency: 2.5'",
        ),
        ("equals", "equals: it needs a value"),
        ("not-equals", "not-equals: it needs a value"),
        ("word-count: 0..", "word-count: at least 0 words could never fail"),
        (
            "word-count: few",
            "word-count: the value must be a number of words, a range such as 1..20, or {min, max}",
        ),
        (
            {"word-count": {"min": 1.5}},
            "word-count: min and max must be whole numbers from 0",
        ),
        ("regex:", "regex: it needs a pattern as its value"),
        (
            {"regex": {"pattern": "x", "flags": "iq"}},
            "regex: flags must be letters out of 'imsx', not 'iq'",
        ),
        ({"regex": {"patern": "x"}}, "regex: the value must be a pattern, or {pattern, flags}"),
        (
            {"is-json": {"$ref": "https://example.org/s.json"}},
            'is-json: the JSON Schema is wrong: $ref "https://example.org/s.json" leads nowhere'
            " in it; nothing is fetched from outside",
        ),
        (
            {"is-json": {"$ref": "#/$defs/none"}},
            'is-json: the JSON Schema is wrong: $ref "#/$defs/none" leads nowhere in it;'
            " nothing is fetched from outside",
        ),
        (
            "is-json: {",
            "is-json: the schema is not JSON: Expecting property name enclosed in double quotes:"
            " line 1 column 2 (char 1)",
        ),
        (
            {"is-json": {"patternProperties": {"a": True}, "unevaluatedProperties": False}},
            "is-json: the JSON Schema is wrong: unevaluatedProperties and patternProperties cannot"
            " be judged together within a deadline; use additionalProperties",
        ),
        (
            {"is-json": {"pattern": "("}},
            "is-json: the JSON Schema is wrong: at $.pattern: '(' is not a 'regex'",
        ),
        ({"is-json": [1]}, "is-json: the value must be a JSON Schema, got a list"),
        (
            {"is-refusal": [""]},
            "is-refusal: the value, where there is one, must be a list of further phrases",
        ),
        (
            "python: nothing",
            "python: the value must name a function, as in 'python: package.module:function'",
        ),
        (
            "python: no_such_module_anywhere:f",
            "python: No module named 'no_such_module_anywhere';"
            " pytest's 'pythonpath' says where modules are found",
        ),
        (
            f"python: {MINE}:nothing",
            f"python: module '{MINE}' has no attribute 'nothing'",
        ),
        (f"python: {MINE}:NOT_A_FUNCTION", f"python: {MINE}:NOT_A_FUNCTION is not a function"),
        (
            f"python: {MINE}:is_async",
            f"python: {MINE}:is_async is async; an assertion is a plain function",
        ),
        (
            f"python(1.5): {MINE}:polite",
            "python: threshold is 1.5, it must be above 0 and at most 1",
        ),
        (
            "It is: Paris",
            "\"It is: Paris\" is not an assertion: write 'type: value', such as 'icontains: Paris'",
        ),
        (
            {"type": ["x"]},
            "the assertion has the type a list: write 'type: value', such as 'icontains: Paris'",
        ),
        (
            {"contains": "a", "icontains": "b"},
            "the assertion has an unknown key 'contains', expected one of: type, value,"
            " threshold, weight, metric, transform",
        ),
        (
            {"equals": "x", "weight": float("inf")},
            "equals: weight must be a number above 0, got inf",
        ),
    ],
)
def test_broken_assertions(raw: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        REGISTRY.parse(raw, "c.yaml:7", where="assert[0]")
    assert str(caught.value) == f"c.yaml:7: assert[0]: {message}"


WORD = st.text(alphabet="abc,:() \"'é", min_size=1).map(str.strip).filter(bool)


@given(negated=st.booleans(), value=WORD, column=st.booleans())
def test_text_grammar_of_one_value(negated: bool, value: str, column: bool) -> None:
    written = f"{'not-' if negated else ''}icontains: {value}"
    spec = parsed(written, column=column)
    assert (spec.negated, spec.type, spec.value) == (negated, "icontains", value)
    assert spec == parsed({"type": spec.name, "value": value})


@given(values=st.lists(WORD, min_size=1, max_size=4))
def test_text_grammar_of_several_values(values: list[str]) -> None:
    written = ", ".join('"{}"'.format(value.replace('"', '""')) for value in values)
    by_text = parsed(f"contains-all: {written}")
    by_list = parsed({"contains-all": values})
    assert by_text.check.expectation == by_list.check.expectation


@given(threshold=st.floats(min_value=0.001, max_value=1))
def test_text_grammar_of_thresholds(threshold: float) -> None:
    spec = parsed(f"python({threshold!r}): {MINE}:polite")
    assert (spec.threshold, spec.value) == (threshold, f"{MINE}:polite")


@given(output=st.text(), value=st.text(min_size=1))
def test_not_is_the_opposite(output: str, value: str) -> None:
    for name in ("equals", "contains", "icontains", "starts-with"):
        plain, opposite = (
            evaluate(REGISTRY.parse({"type": t, "value": value}, "c:1"), answer(output), context())
            for t in (name, f"not-{name}")
        )
        assert plain.passed is not opposite.passed


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=5))
def test_json_equals_itself(value: Any) -> None:
    if value is None or isinstance(value, str):
        value = [value]
    spec = REGISTRY.parse({"equals": value}, "c:1")
    assert evaluate(spec, answer(json.dumps(value)), context()).passed
    assert not evaluate(spec, answer(json.dumps([value])), context()).passed
