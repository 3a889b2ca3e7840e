"""What a gate's decision asks of its cases, told at collection."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_llmdeploy.errors import ConfigError
from pytest_llmdeploy.gates.case import Case
from pytest_llmdeploy.gates.decision_checks import check_decision, hopeless
from tests.unit.gates.deciding import case, cases, decision
from tests.unit.gates.helpers import where


def problems(given: list[Case], **config: Any) -> list[str]:
    """Return what is wrong, a line each; lines are the lengths of paths."""
    made = decision(given, **config)
    try:
        check_decision("capitals", made.config, made.cases, where)
    except ConfigError as error:
        return str(error).splitlines()
    return []


TAGGED = [case("a", tags=("safety", "math")), case("b", tags=("safety",)), case("c")]


def test_tags_that_cases_have_are_fine() -> None:
    assert problems(TAGGED, must_pass=("safety",), tags={"math": {}}) == []


def test_a_tag_that_no_case_has_is_a_mistake() -> None:
    assert problems(TAGGED, must_pass=("math", "saftey"), tags={"maths": {}, "x": {}}) == [
        "llmdeploy.yaml:4: gates.capitals.must_pass[1]: no case of the gate has the tag 'saftey',"
        " did you mean 'safety'?; its tags: math, safety",
        "llmdeploy.yaml:4: gates.capitals.tags.maths: no case of the gate has the tag 'maths',"
        " did you mean 'math'?; its tags: math, safety",
        "llmdeploy.yaml:4: gates.capitals.tags.x: no case of the gate has the tag 'x';"
        " its tags: math, safety",
    ]
    assert problems([case("a")], must_pass=("x",)) == [
        "llmdeploy.yaml:4: gates.capitals.must_pass[0]: no case of the gate has the tag 'x';"
        " its cases have no tags"
    ]


def test_every_case_needs_the_variable_of_its_cluster() -> None:
    given = [case("a", vars={"document": 1}), case("b", vars={"documents": 2}), case("c")]
    assert problems(given[:1], decision={"cluster_by": "document"}) == []
    assert problems(given, decision={"cluster_by": "document"}) == [
        "llmdeploy.yaml:4: gates.capitals.decision.cluster_by: case 'b' (cases.yaml:2) and 1 more"
        " have no variable 'document', did you mean 'documents'?"
    ]
    broken = case("x", problem="uses javascript")
    assert problems([given[0], broken], decision={"cluster_by": "document"}) == []


def test_every_case_needs_as_many_answers_as_its_estimate() -> None:
    config: dict[str, Any] = {"repeats": 3, "decision": {"estimate": "pass_hat_k", "k": 3}}
    assert problems([case("a", repeats=3)], **config) == []
    assert problems([case("a", repeats=2)], **config) == [
        "cases.yaml:2: repeats: pass_hat_k of k = 3 needs as many repeats, not 2"
    ]


@pytest.mark.parametrize(
    ("given", "config", "sentences"),
    [
        (cases(52), {"min_pass_rate": 0.95}, []),
        (
            cases(51),
            {"min_pass_rate": 0.95},
            [
                "51 cases can never show min_pass_rate 0.95 at 95 % confidence (wilson):"
                " at least 52 are needed, all passing"
            ],
        ),
        (cases(19), {"min_pass_rate": 0.95}, []),
        (cases(1), {"decision": {"rule": "point"}}, []),
        (
            cases(1),
            {"min_pass_rate": 0.99, "decision": {"rule": "exact", "confidence": 0.9}},
            [
                "1 case can never show min_pass_rate 0.99 at 90 % confidence (exact):"
                " at least 230 are needed, all passing"
            ],
        ),
        (
            cases(1000),
            {"decision": {"rule": "bayes"}},
            [
                "1000 cases can never show min_pass_rate 1 at 95 % confidence (bayes):"
                " no number of cases can; take rule point"
            ],
        ),
        (
            [*cases(90), *cases(10, "t", tags=("t",))],
            {"min_pass_rate": 0.9, "tags": {"t": {"min_pass_rate": 0.9, "rule": "wilson"}}},
            [
                "tag t: 10 cases can never show min_pass_rate 0.9 at 95 % confidence (wilson):"
                " at least 25 are needed, all passing"
            ],
        ),
        (
            [*cases(29), case("heavy", weight=9.0)],
            {"min_pass_rate": 0.9},
            [
                "30 cases of unequal weight, worth 13.1, can never show min_pass_rate 0.9"
                " at 95 % confidence (wilson): at least 25 are needed, all passing"
            ],
        ),
        (
            [case(f"c{n}", vars={"d": n % 24}) for n in range(240)],
            {"min_pass_rate": 0.9, "decision": {"cluster_by": "d"}},
            [
                "24 clusters can never show min_pass_rate 0.9 at 95 % confidence (wilson):"
                " at least 25 are needed, all passing"
            ],
        ),
        (
            cases(40, vars={"d": 1}),
            {"min_pass_rate": 0.1, "decision": {"cluster_by": "d", "rule": "bayes"}},
            [
                "1 cluster can never show min_pass_rate 0.1 at 95 % confidence (bayes):"
                " at least 2 are needed, all passing"
            ],
        ),
    ],
)
def test_what_can_never_pass_is_told(
    given: list[Case], config: dict[str, Any], sentences: list[str]
) -> None:
    assert hopeless(decision(given, **config)) == sentences
