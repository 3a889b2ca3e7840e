"""A promptfoo config as a gate, as a user runs it."""

from __future__ import annotations

from tests.plugin.conftest import Project
from tests.plugin.test_verdicts_and_exit_codes import ECHO

CONFIG = """\
description: words
prompts: ["Say exactly: {{word}}"]
providers: [{id: "openai:chat:gpt-4.1", config: {temperature: 0, apiKey: none}}, echo]
defaultTest:
  assert: [{type: contains, value: "{{word}}"}]
tests:
  - {description: asked, vars: {word: [one, two]}, metadata: {area: words}}
  - {description: brings its answer, vars: {word: three}, providerOutput: three it is}
  - description: no assertion
    vars: {word: four}
    options: {disableDefaultAsserts: true}
    providers: [echo]
  - {description: needs code, vars: {word: file://word.py}, providers: [echo]}
"""


def test_a_config_is_a_gate_as_it_is(project: Project) -> None:
    head = ECHO.partition("gates:")[0]
    project.config(
        f"{head}gates:\n  - promptfoo: evals/words/promptfooconfig.yaml\n"
        "    max_error_rate: 0.2\n    min_pass_rate: 0.8\n"
        "    decision: {rule: point}\n"
    )
    project.write("evals/words/promptfooconfig.yaml", CONFIG)
    project.write("evals/words/word.py", "raise SystemExit(1)\n")
    done = project.run("-n", "2")
    verdicts = done.verdicts()
    assert verdicts == {
        "gates::words::asked-v1-openai:chat:gpt-4.1": "PASS",
        "gates::words::asked-v1-echo": "PASS",
        "gates::words::asked-v2-openai:chat:gpt-4.1": "PASS",
        "gates::words::asked-v2-echo": "PASS",
        "gates::words::brings its answer-openai:chat:gpt-4.1": "PASS",
        "gates::words::brings its answer-echo": "PASS",
        "gates::words::no assertion-echo": "PASS",
        "gates::words::needs code-echo": "ERROR",
        "gates::words::gate": "PASS",
    }, done.out
    (broken,) = [item for item in done.report["items"] if item["name"] == "words::needs code-echo"]
    assert broken["reason"] == (
        "the prompt cannot be filled in: the variable 'word' is code (file://word.py), which is "
        "not run here"
    )
    assert project.run("-k", "area=words", "--collect-only", "-q").out.count("asked-v") == 4


def test_a_config_that_asks_nothing_is_an_error(project: Project) -> None:
    head = ECHO.partition("gates:")[0]
    project.config(f"{head}gates:\n  words:\n    promptfoo: promptfooconfig.yaml\n")
    project.write("promptfooconfig.yaml", 'prompts: ["x"]\nproviders: [echo]\nscenarios: []\n')
    done = project.run()
    assert done.code == 2, done.out
    assert "promptfooconfig.yaml: the config makes no row" in done.out
