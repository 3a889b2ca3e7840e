"""Which answers are judged on the event loop itself."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from pytest_llmdeploy.gates.assertions import AssertionRegistry, AssertionResult
from pytest_llmdeploy.gates.case import Case
from pytest_llmdeploy.gates.instant import LONGEST_TEXT, TYPES, is_instant
from pytest_llmdeploy.gates.scoring import score_sample
from pytest_llmdeploy.gates.suite import Clients, Suite
from pytest_llmdeploy.ports import Answer

REGISTRY = AssertionRegistry()


def _case(*written: Any) -> Case:
    specs = tuple(REGISTRY.parse(one, "cases.jsonl:1") for one in written)
    return Case("c", {}, None, specs, (), 1.0, None, 1, "cases.jsonl:1")


def _answer(text: str = "Paris") -> Answer:
    return Answer(text, "stop", 1, 1, 0.1, "m")


@pytest.mark.parametrize(
    "written",
    ["icontains: paris", "not-contains: Rome", "word-count: 1", "contains-any: Paris, Rome"],
)
def test_looking_through_a_short_text_is_instant(written: str) -> None:
    assert is_instant(_case(written), _answer())


@pytest.mark.parametrize(
    "written", ["regex: (a+)+$", "is-json", "levenshtein: Paris", "is-refusal"]
)
def test_what_can_take_long_is_not(written: str) -> None:
    assert not is_instant(_case(written), _answer())
    assert not is_instant(_case("icontains: paris", written), _answer())


def test_a_projects_own_type_is_not() -> None:
    registry = AssertionRegistry()
    registry.register("slow", lambda _output, _context: True)
    spec = registry.parse("slow: 1", "cases.jsonl:1")
    case = Case("c", {}, None, (spec,), (), 1.0, None, 1, "cases.jsonl:1")
    assert not is_instant(case, _answer())


def test_nothing_of_a_projects_own_can_take_a_name_of_ours() -> None:
    for name in TYPES:
        with pytest.raises(ValueError, match="exists already"):
            AssertionRegistry().register(name, lambda _output, _context: True)


def test_a_long_answer_or_a_long_list_is_not() -> None:
    assert not is_instant(_case("icontains: paris"), _answer("a" * (LONGEST_TEXT + 1)))
    many = {"type": "contains-any", "value": [f"town {number}" for number in range(1000)]}
    assert is_instant(_case(many), _answer())
    assert not is_instant(_case(many), _answer("a" * 1000))


def test_what_an_assertion_of_a_set_needs_counts() -> None:
    parts = ["icontains: paris", "regex: (a+)+$"]
    assert is_instant(_case({"type": "assert-set", "assert": parts[:1]}), _answer())
    assert not is_instant(_case({"type": "assert-set", "assert": parts}), _answer())


def test_a_transform_is_not() -> None:
    written = {"type": "icontains", "value": "paris", "transform": "{{ output | trim }}"}
    assert not is_instant(_case(written), _answer())


@pytest.mark.parametrize("instant", [True, False])
def test_a_thread_judges_what_is_not_instant(instant: bool) -> None:
    case, judged_in = _case("icontains: paris"), []

    def evaluate(*_: Any) -> list[AssertionResult]:
        judged_in.append(threading.current_thread())
        return [AssertionResult("icontains", True, 1.0, "there")]

    suite = Suite(
        key="llmdeploy.yaml::s",
        cases={"c": case},
        messages=lambda _: [],
        evaluate=evaluate,
        score=lambda case, results: score_sample(results, case.threshold),
        clients=Clients(lambda: pytest.fail("nobody is asked")),
        parameters={},
        concurrency=1,
        timeout=10,
        redact=lambda value: value,
        instant=lambda *_: instant,
    )
    sample = asyncio.run(suite.sample(case, [], _answer(), None))
    assert sample.record["passed"]
    assert (judged_in == [threading.current_thread()]) is instant
