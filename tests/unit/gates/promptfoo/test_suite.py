from __future__ import annotations

from pathlib import Path

import pytest

from pytest_llmdeploy.config.gates import SuiteConfig
from pytest_llmdeploy.errors import ConfigError
from pytest_llmdeploy.gates.assertions import AssertionRegistry
from pytest_llmdeploy.gates.promptfoo.suite import read_promptfoo
from pytest_llmdeploy.gates.suite import SuiteParts
from pytest_llmdeploy.ports import Answer
from tests.unit.gates.promptfoo.configs import write

CONFIG = """\
description: all kinds of rows
outputPath: out.json
evaluateOptions: {maxConcurrency: 2, repeat: 1}
providers: [{id: 'openai:chat:gpt-4.1', config: {apiKey: k}}, echo]
prompts: ['{{x}}']
tests:
  - description: right
    vars: {x: word}
    metadata: {area: [a, b], level: 2, conversationId: c, nested: {k: v}}
    assert: [{type: contains, value: word}]
  - {description: nothing asked, vars: {x: a}, providers: [echo]}
  - {description: code, vars: {x: file://x.py}, providers: [echo]}
"""


def read(folder: Path, name: str = "promptfooconfig.yaml") -> SuiteParts:
    return read_promptfoo(
        "words",
        SuiteConfig(promptfoo=name, repeats=2),
        folder,
        lambda *_: ("llmdeploy.yaml", 7),
        AssertionRegistry(),
    )


def test_a_suite_says_what_it_cannot_judge_and_what_has_no_effect(tmp_path: Path) -> None:
    write(tmp_path, {"promptfooconfig.yaml": CONFIG, "x.py": ""})
    parts = read(tmp_path)
    asked, echoed, vacuous, broken = parts.cases
    assert (asked.id, asked.canned) == ("right-openai:chat:gpt-4.1", None)
    assert parts.messages(asked) == [{"role": "user", "content": "word"}]
    assert asked.tags == ("area=a", "area=b", "level=2")
    assert asked.source == f"{tmp_path}/promptfooconfig.yaml:7"
    assert asked.repeats == 2
    assert echoed.canned == "word"
    assert vacuous.vacuous == "no assertion"
    why = "the prompt cannot be filled in: the variable 'x' is code (file://x.py), which is not"
    assert broken.problem == f"{why} run here"
    assert parts.imported is not None
    assert parts.imported.format == "promptfoo"
    assert parts.imported.unsupported == {broken.problem: 1}
    assert parts.imported.vacuous == {"no assertion": 1}
    assert parts.imported.warnings == [
        "openai:chat:gpt-4.1: the environment's model answers instead",
        "openai:chat:gpt-4.1: no effect of apiKey in its config",
        "outputPath: results are written as llmdeploy.yaml says",
        "evaluateOptions: no effect of maxConcurrency: see llmdeploy.yaml",
    ]


@pytest.mark.parametrize(("text", "passed"), [("a word", True), ("none", False)])
def test_answers_are_judged_by_the_row(tmp_path: Path, text: str, passed: bool) -> None:
    write(tmp_path, {"promptfooconfig.yaml": CONFIG, "x.py": ""})
    parts = read(tmp_path)
    case = parts.cases[0]
    answer = Answer(text, "stop", None, None, 0.1, "model")
    results = parts.evaluate(case, parts.messages(case), answer, None)
    score = parts.score(case, results)
    assert (score.passed, score.score) == (passed, float(passed))


def test_what_judges_a_row_is_part_of_what_it_is(tmp_path: Path) -> None:
    write(tmp_path, {"promptfooconfig.yaml": CONFIG, "x.py": ""})
    first = read(tmp_path).cases[0].judgement
    write(tmp_path, {"promptfooconfig.yaml": CONFIG.replace("value: word", "value: other")})
    assert read(tmp_path).cases[0].judgement != first


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none.yaml", "the file none.yaml does not exist"),
        ("../x.yaml", "the file ../x.yaml lies outside the project: only files below the folder "
                      "of llmdeploy.yaml or of the config are read"),
    ],
)  # fmt: skip
def test_a_config_that_is_not_there(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, name)
    assert str(caught.value) == f"llmdeploy.yaml:7: gates.words.promptfoo: {message}"


def test_a_grader_of_the_config_and_parameters_without_effect_are_told(tmp_path: Path) -> None:
    text = (
        "prompts: [p]\n"
        "providers: [{id: 'openai:chat:gpt-4o', config: {logprobs: true, n: 2, seed: 1}}]\n"
        "defaultTest: {options: {provider: 'openai:gpt-5'}}\n"
        "tests: [{assert: [{type: llm-rubric, value: kind}]}]\n"
    )
    write(tmp_path, {"promptfooconfig.yaml": text})
    imported = read(tmp_path).imported
    assert imported is not None
    assert imported.warnings == [
        "openai:chat:gpt-4o: the environment's model answers instead",
        "openai:chat:gpt-4o: no effect of logprobs, n in its config",
        "options.provider: the gate's judge and embeddings grade instead",
    ]
