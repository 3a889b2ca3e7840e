"""Evals of an openai/evals registry, from the YAML file to the verdict of a row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_llmdeploy.errors import ConfigError
from pytest_llmdeploy.gates.assertions import NotEvaluable
from tests.unit.gates.openai_evals.fakes import Judge, judged, lines, read

BASIC = {
    "Match": "evals.elsuite.basic.match:Match",
    "Includes": "evals.elsuite.basic.includes:Includes",
    "FuzzyMatch": "evals.elsuite.basic.fuzzy_match:FuzzyMatch",
    "JsonMatch": "evals.elsuite.basic.json_match:JsonMatch",
    "ModelBasedClassify": "evals.elsuite.modelgraded.classify:ModelBasedClassify",
}
YAML = "registry/evals/city.yaml"
ASKED = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Capital?"}]


def registry(root: Path, kind: str, *samples: Any, args: str = "", spec: str = "") -> str:
    """Write an eval of a class with its samples, and return its file's name."""
    path = root / YAML
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        "city:\n  id: city.dev.v0\n  metrics: [accuracy]\n"
        f"city.dev.v0:\n  class: {BASIC.get(kind, kind)}\n"
        f"  args:\n    samples_jsonl: city/samples.jsonl\n{args}",
        encoding="utf-8",
    )
    lines(root / "registry/data/city/samples.jsonl", *samples)
    if spec:
        (root / "registry/modelgraded").mkdir(exist_ok=True)
        (root / "registry/modelgraded/own.yaml").write_text(spec, encoding="utf-8")
    return YAML


@pytest.mark.parametrize(
    ("kind", "ideal", "said", "passed"),
    [
        ("Match", "Paris", "Paris, of course", True),
        ("Match", "Paris", "It is Paris", False),
        ("Match", "Paris", "paris", False),
        ("Match", ["Lyon", "Paris"], "Paris", True),
        ("Includes", "Paris", "It is Paris", True),
        ("Includes", "Paris", "It is PARIS", False),
        ("Includes", ["Lyon", "Paris"], "Paris", True),
        ("FuzzyMatch", "The Eiffel Tower!", "eiffel tower", True),
        ("FuzzyMatch", "eiffel tower", "It is an Eiffel  Tower.", True),
        ("FuzzyMatch", "Eiffel Tower", "tower", True),
        ("FuzzyMatch", "Paris", "Rome", False),
        ("FuzzyMatch", "Paris", "", False),
        ("FuzzyMatch", "the", "a", True),
        ("JsonMatch", '{"a": [1, "x"]}', ' {"a": [1.0, "x"]} ', True),
        ("JsonMatch", '{"a": 1}', '{"a": 1, "b": 2}', False),
        ("JsonMatch", '{"a": null}', '{"a": null}', False),
        ("JsonMatch", "[1, 2]", "[2, 1]", False),
        ("JsonMatch", "[1]", "no JSON", False),
        ("JsonMatch", ["1", "[]"], "[]", True),
    ],
)
def test_the_rules_of_each_class(
    tmp_path: Path, kind: str, ideal: object, said: str, passed: bool
) -> None:
    path = registry(tmp_path, kind, {"input": ASKED, "ideal": ideal})
    parts = read(tmp_path, path)
    assert judged(parts, said).passed is passed
    assert parts.cases[0].problem is None


def test_includes_can_ignore_case(tmp_path: Path) -> None:
    args = "    ignore_case: true\n"
    path = registry(tmp_path, "Includes", {"input": "?", "ideal": "paris"}, args=args)
    assert judged(read(tmp_path, path), "It is PARIS").passed


def test_fuzzy_match_tells_its_f1(tmp_path: Path) -> None:
    parts = read(tmp_path, registry(tmp_path, "FuzzyMatch", {"input": "?", "ideal": "big tower"}))
    from tests.unit.gates.helpers import answer

    (found,) = parts.evaluate(parts.cases[0], [], answer("the tower"), None)
    # One of one word said, one of two wanted: 2 * 1 / 3.
    assert found.evidence == {"f1_score": pytest.approx(2 / 3)}


def test_a_case_is_asked_as_its_class_asks(tmp_path: Path) -> None:
    path = registry(
        tmp_path, "FuzzyMatch", {"input": ASKED, "ideal": "x"}, {"input": "?", "ideal": "x"}
    )
    parts = read(tmp_path, path, name="city")
    first, second = parts.cases
    assert parts.messages(first) == ASKED
    assert parts.messages(second) == [{"role": "user", "content": "?"}]
    assert first.parameters == {"temperature": 0, "max_tokens": 100}
    assert first.source == f"{tmp_path}/registry/data/city/samples.jsonl:1"
    assert parts.imported is not None
    assert parts.imported.format == "openai/evals"
    assert parts.imported.warnings == (
        "inputs that are plain text are asked as the user's message (openai/evals sends them as "
        "the system's)",
    )


def test_examples_stand_before_the_last_message(tmp_path: Path) -> None:
    shot = [{"role": "system", "name": "example_user", "content": "2+2"}]
    args = "    num_few_shot: 1\n    few_shot_jsonl: city/few.jsonl\n"
    path = registry(tmp_path, "Match", {"input": ASKED, "ideal": "x"}, args=args)
    lines(tmp_path / "registry/data/city/few.jsonl", {"sample": shot}, {"sample": ASKED})
    parts = read(tmp_path, path)
    assert parts.messages(parts.cases[0]) == [ASKED[0], shot[0], ASKED[1]]


@pytest.mark.parametrize("kind", ["Match", "Includes"])
def test_an_empty_ideal_passes_everything_and_is_told(tmp_path: Path, kind: str) -> None:
    parts = read(tmp_path, registry(tmp_path, kind, {"input": "?", "ideal": ["", "x"]}))
    reason = f"{kind}: an empty ideal answer is part of every answer"
    assert parts.cases[0].vacuous == reason
    assert judged(parts, "anything").passed


@pytest.mark.parametrize(
    ("kind", "sample", "problem"),
    [
        ("Match", {"input": "?"}, "the sample has no ideal answer"),
        ("Match", {"input": "?", "ideal": []}, "ideal is an empty list: no answer could ever pass"),
        ("Includes", {"input": "?", "ideal": [1]}, "ideal must be a text or a list of texts"),
        ("Match", {"ideal": "x"}, "input: expected a text or a list of messages, got nothing"),
        (
            "JsonMatch",
            {"input": "?", "ideal": "{"},
            "the ideal answer is not JSON, as JsonMatch needs it",
        ),
    ],
)
def test_samples_that_cannot_be_judged(
    tmp_path: Path, kind: str, sample: dict[str, Any], problem: str
) -> None:
    parts = read(tmp_path, registry(tmp_path, kind, sample))
    assert parts.cases[0].problem == problem


SPEC = """own:
  prompt: "Q: {input} A: {completion} {{as is}} {criteria}"
  choice_strings: [Good, Fair, Bad]
  choice_scores: {Good: 1, Fair: 0.5, Bad: 0}
  input_outputs: {input: completion}
"""
ARGS = "    modelgraded_spec: own\n    eval_type: cot_classify\n"
SAMPLE = {"input": ASKED, "criteria": "short?"}


@pytest.mark.parametrize(
    ("votes", "passed", "score"),
    [
        (["I think.\nGood"], True, 1.0),
        (["Good at first sight\nbut no:\n**Bad**."], False, 0.0),
        (["so\nFair"], False, 0.5),
        (["Good", "Bad", "Good"], True, 2 / 3),
    ],
)
def test_a_judge_names_a_choice(
    tmp_path: Path, votes: list[str], passed: bool, score: float
) -> None:
    path = registry(tmp_path, "ModelBasedClassify", SAMPLE, args=ARGS, spec=SPEC)
    judge = Judge(*votes)
    found = judged(read(tmp_path, path), "Paris {x}", judge)
    assert found.passed is passed
    assert found.score == pytest.approx(score)
    messages, parameters = judge.asked[0]
    assert parameters == {"max_tokens": 1024}
    assert messages[0]["content"] == (
        "Q: Be short.\nUser: Capital? A: Paris {x} {as is} short?\n\n"
        "Think it through step by step in writing before you decide. Then put exactly one of "
        '"Good" or "Fair" or "Bad", without quotes, on the last line, alone.'
    )


def test_a_judge_that_names_no_choice_is_no_verdict(tmp_path: Path) -> None:
    path = registry(tmp_path, "ModelBasedClassify", SAMPLE, args=ARGS, spec=SPEC)
    with pytest.raises(NotEvaluable) as error:
        judged(read(tmp_path, path), "Paris", Judge("Hm."))
    assert str(error.value) == (
        "the judge judge-model cannot be understood: none of the choices Good, Fair, Bad; "
        "it said: Hm."
    )


def test_labelled_answers_judge_the_judge(tmp_path: Path) -> None:
    sample = {**SAMPLE, "completion": "Paris", "choice": "Bad"}
    args = f"{ARGS}    metaeval: true\n"
    path = registry(tmp_path, "ModelBasedClassify", sample, args=args, spec=SPEC)
    parts = read(tmp_path, path)
    assert parts.cases[0].canned == "Paris"
    assert judged(parts, "Paris", Judge("Bad")).passed
    assert not judged(parts, "Paris", Judge("Good")).passed


@pytest.mark.parametrize(
    ("spec", "sample", "problem"),
    [
        (
            SPEC.replace("  choice_scores: {Good: 1, Fair: 0.5, Bad: 0}\n", ""),
            SAMPLE,
            "the spec own has no choice_scores: it counts choices and calls none of them good; "
            "add choice_scores to it",
        ),
        (SPEC, {"input": "?"}, "the judge's prompt needs {criteria}, the sample has none"),
    ],
)
def test_model_graded_samples_that_cannot_be_judged(
    tmp_path: Path, spec: str, sample: dict[str, Any], problem: str
) -> None:
    path = registry(tmp_path, "ModelBasedClassify", sample, args=ARGS, spec=spec)
    assert read(tmp_path, path).cases[0].problem == problem


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            SPEC.replace("Good, Fair", "Go.od, Fair"),
            "the choice 'Go.od' has punctuation: it could never be read",
        ),
        (
            SPEC.replace("Fair: 0.5, ", ""),
            "choice_scores must give each of choice_strings a number",
        ),
        (
            SPEC.replace("{input: completion}", "{a: b, c: d}"),
            "it compares several answers to one sample: one answer is judged here",
        ),
    ],
)
def test_broken_specs_are_refused(tmp_path: Path, spec: str, message: str) -> None:
    path = registry(tmp_path, "ModelBasedClassify", SAMPLE, args=ARGS, spec=spec)
    with pytest.raises(ConfigError) as error:
        read(tmp_path, path)
    assert [(one.where, one.line, one.message) for one in error.value.problems] == [
        ("own", 1, message)
    ]


@pytest.mark.parametrize(
    ("text", "name", "line", "message"),
    [
        (
            "a.v0: {class: 'mine.evals:Own'}",
            None,
            1,
            "the class 'mine.evals:Own' is code and never run; these are built in: Match, "
            "Includes, FuzzyMatch, JsonMatch, ModelBasedClassify",
        ),
        ("a: {id: b}\nb: {id: a}", "a", 2, "its id leads to no eval: a -> b -> a"),
        ("a: {id: b}", "c", 0, "there is no eval 'c', it has: a"),
        (
            "a: {class: 'x:A'}\nb: {class: 'x:B'}",
            None,
            1,
            "the file holds 2 evals: choose one by openai_evals.name: a, b",
        ),
        (
            "a: {class: 'evals.elsuite.basic.match:Match',\n args: {samples_jsonl: 'gs://x/y'}}",
            None,
            2,
            "'gs://x/y' lies elsewhere: fetch it, and name it as openai_evals.samples",
        ),
    ],
)
def test_what_a_registry_cannot_be_asked(
    tmp_path: Path, text: str, name: str | None, line: int, message: str
) -> None:
    (tmp_path / "own.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        read(tmp_path, "own.yaml", name=name)
    assert [(one.line, one.message) for one in error.value.problems] == [(line, message)]


def test_samples_below_the_project_only(tmp_path: Path) -> None:
    path = registry(tmp_path, "Match", {"input": "?", "ideal": "x"})
    text = (tmp_path / YAML).read_text(encoding="utf-8")
    (tmp_path / YAML).write_text(text.replace("city/samples", "../../../outside"), encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        read(tmp_path, path)
    assert "'../../../outside.jsonl'" in error.value.problems[0].message
