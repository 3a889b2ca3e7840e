from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_llmdeploy.gates.promptfoo.matrix import Planned
from pytest_llmdeploy.gates.promptfoo.messages import messages_of
from pytest_llmdeploy.gates.promptfoo.paths import Files
from pytest_llmdeploy.gates.promptfoo.providers import Provider, read_provider, warnings
from pytest_llmdeploy.gates.promptfoo.variables import NotSupportedError
from tests.unit.gates.promptfoo.configs import HEAD, rows


def ids(planned: list[Planned]) -> list[str]:
    return [one.row.id for one in planned]


def test_rows_have_names_of_their_own(tmp_path: Path) -> None:
    text = (
        "providers: [echo, {id: echo, label: other}]\n"
        "prompts: [a, b]\n"
        "tests:\n"
        "  - {description: 'is [a]::b', vars: {x: [p, q]}, providers: [other], prompts: [a]}\n"
        "  - {description: gate, vars: {x: 1}, providers: [other], prompts: [a]}\n"
        "  - {vars: {x: 1}, options: {repeat: 2}, providers: [other], prompts: [b]}\n"
        "  - {description: gate, vars: {x: 2}, providers: [other], prompts: [a]}\n"
    )
    assert ids(rows(tmp_path, text)) == [
        "is -a--b-v1-p1-other",
        "is -a--b-v2-p1-other",
        "gate-p1-other",
        "test-3-p2-other-r1",
        "test-3-p2-other-r2",
        "gate-p1-other-2",
    ]


def test_a_row_cannot_have_the_name_of_the_gate(tmp_path: Path) -> None:
    assert ids(rows(tmp_path, HEAD + "tests: [{description: gate, vars: {x: 1}}]\n")) == [
        "test-gate"
    ]


def test_rows_know_where_their_test_is_written(tmp_path: Path) -> None:
    text = HEAD + "tests:\n  - vars: {x: 1}\n  - file://t.yaml\n  - file://t.csv\n"
    files = {"t.yaml": "# first\n- vars: {x: 2}\n", "t.csv": 'x\n"a\nb"\nc\n'}
    sources = [one.row.source.removeprefix(f"{tmp_path}/") for one in rows(tmp_path, text, files)]
    assert sources == ["promptfooconfig.yaml:4", "t.yaml:2", "t.csv:2", "t.csv:4"]


def test_parameters_are_kept_and_openai_has_its_defaults(tmp_path: Path) -> None:
    text = (
        "providers:\n"
        "  - {id: 'openai:gpt-4.1', config: {top_p: 0.5, apiKey: k, passthrough: {seed: 1}}}\n"
        "  - {id: 'openai:o3', config: {reasoning_effort: low}}\n"
        "  - {id: 'anthropic:messages:claude', config: {max_tokens: 5}}\n"
        "prompts: [{raw: p, label: p, config: {stop: [x]}}]\n"
        "tests: [{vars: {v: 7}, options: {temperature: 0.3, user: u}}]\n"
    )
    found = [dict(one.parameters) for one in rows(tmp_path, text)]
    assert found == [
        {"temperature": 0.3, "max_tokens": 1024, "top_p": 0.5, "seed": 1, "stop": ["x"]},
        {"reasoning_effort": "low", "stop": ["x"]},
        {"temperature": 0.3, "max_tokens": 5, "stop": ["x"]},
    ]


def test_rows_do_not_have_the_credentials_of_a_provider(tmp_path: Path) -> None:
    text = (
        "providers: [{id: echo, config: {apiKey: sk-1, headers: {a: sk-2}, tools: file://t.json}}]\n"
        "prompts: [p]\ntests: [{vars: {x: 1}}]\n"
    )
    (planned,) = rows(tmp_path, text, {"t.json": '[{"type": "function"}]'})
    assert planned.row.provider.config == {"tools": [{"type": "function"}]}
    assert "sk-" not in repr(planned)


def test_what_of_a_provider_has_no_effect_is_told() -> None:
    provider = Provider("openai:gpt-4.1", config={"apiKey": "k", "temperature": 1, "headers": {}})
    assert warnings(provider) == [
        "openai:gpt-4.1: the environment's model answers instead",
        "openai:gpt-4.1: no effect of apiKey, headers in its config",
    ]
    assert warnings(Provider("echo")) == []


@pytest.mark.parametrize(
    ("identity", "problem"),
    [
        ("file://ask.py", "the provider 'file://ask.py' is code: a gate asks the environment's "
                          "endpoint"),
        ("python:ask.py", "the provider 'python:ask.py' is code: a gate asks the environment's "
                          "endpoint"),
        ("exec: ./ask", "the provider 'exec: ./ask' is code: a gate asks the environment's "
                        "endpoint"),
        ("ask.mjs", "the provider 'ask.mjs' is code: a gate asks the environment's endpoint"),
        ("openai:embedding:x", "the provider 'openai:embedding:x' is no chat model"),
        ("openai:chat:x", None),
        ("anthropic:messages:claude-x", None),
        ("https://example.com/v1", None),
        ("vertex:gemini-x", None),
    ],
)  # fmt: skip
def test_providers_that_nothing_is_asked_of(
    tmp_path: Path, identity: str, problem: str | None
) -> None:
    assert read_provider(identity, Files(tmp_path, tmp_path)).problem == problem


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        ("hello", [{"role": "user", "content": "hello"}]),
        ("[INST] hi [/INST]", [{"role": "user", "content": "[INST] hi [/INST]"}]),
        ('[{"role": "user", "content": "x"}]', [{"role": "user", "content": "x"}]),
        ("- role: user\n  content: x\n", [{"role": "user", "content": "x"}]),
    ],
)
def test_prompts_become_messages(text: str, messages: list[Any]) -> None:
    assert messages_of(text) == messages


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1', None),
        ('{"a": }', "the prompt looks like JSON and is none: Expecting value: line 1 column 7 "
                    "(char 6)"),
        ("42", 'the prompt is "42", no messages: expected a list of messages, got 42'),
        ("- role: [", "the prompt is no valid YAML of messages: a '[' or '{' is opened and never "
                      "closed"),
    ],
)  # fmt: skip
def test_prompts_that_are_no_messages(text: str, message: str | None) -> None:
    if message is None:
        assert messages_of(text) == [{"role": "user", "content": text}]
        return
    with pytest.raises(NotSupportedError) as caught:
        messages_of(text)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("test", "problem"),
    [
        ("{vars: {x: file://v.py}}",
         "the prompt cannot be filled in: the variable 'x' is code (file://v.py), which is not "
         "run here"),
        ("{vars: {x: '{{ y | nofilter }}', y: 1}}",
         "the prompt cannot be filled in: there is no filter 'nofilter'"),
        ("{vars: {x: 1}, options: {transformVars: 'return vars'}}",
         "transformVars: set allow_code: true for the gate to let the config's code run"),
    ],
)  # fmt: skip
def test_rows_that_cannot_be_asked_say_why(tmp_path: Path, test: str, problem: str) -> None:
    (planned,) = rows(tmp_path, HEAD + f"tests: [{test}]\n", {"v.py": "raise SystemExit\n"})
    assert planned.problem == problem


def test_code_runs_where_it_is_allowed_only(tmp_path: Path) -> None:
    text = "providers: [echo]\nprompts: ['file://p.py:make']\ntests: [{vars: {x: 1}}]\n"
    files = {"p.py": "def make(context):\n    return 'made {{x}}'\n"}
    (refused,) = rows(tmp_path, text, files)
    assert refused.problem == (
        "the prompt cannot be filled in: the prompt function p.py:make is code: set "
        "allow_code: true to run it"
    )
    (planned,) = rows(tmp_path, text, files, allow_code=True)
    assert (planned.problem, planned.canned) == (None, "made 1")


def test_a_matrix_has_an_end(tmp_path: Path) -> None:
    values = ", ".join("x" for _ in range(100))
    text = HEAD + f"tests: [{{vars: {{x: [{values}], y: [{values}], z: [{values}]}}}}]\n"
    with pytest.raises(Exception, match="the variables make more than 100000 combinations"):
        rows(tmp_path, text)


def test_openai_gets_what_promptfoo_sends_it(tmp_path: Path) -> None:
    given = "{n: 2, top_k: 4, logprobs: true, verbosity: low, max_completion_tokens: 5, seed: 0}"
    text = (
        "providers:\n"
        f"  - {{id: 'openai:chat:gpt-4o', label: a, config: {given}}}\n"
        f"  - {{id: 'openai:chat:gpt-5', label: b, config: {given}}}\n"
        f"  - {{id: 'ollama:chat:x', label: c, config: {given}}}\n"
        "  - {id: 'openai:chat:gpt-4o', label: d, config: {passthrough: {logprobs: true, n: 2}}}\n"
        "prompts: [p]\n"
        "tests: [{vars: {v: 7}}]\n"
    )
    plain = {"temperature": 0, "max_tokens": 1024}
    assert [dict(one.parameters) for one in rows(tmp_path, text)] == [
        {**plain, "seed": 0},
        {"verbosity": "low", "max_completion_tokens": 5, "seed": 0},
        {
            "n": 2,
            "top_k": 4,
            "logprobs": True,
            "verbosity": "low",
            "max_completion_tokens": 5,
            "seed": 0,
        },
        {**plain, "logprobs": True, "n": 2},
    ]


def test_templates_of_a_file_of_tools_are_left(tmp_path: Path) -> None:
    (tmp_path / "tools.json").write_text('[{"type": "function", "x": "{{v}}"}]', "utf-8")
    text = (
        "providers:\n"
        "  - {id: 'openai:chat:gpt-4o', label: a, config: {tools: 'file://tools.json'}}\n"
        "  - {id: 'openai:chat:gpt-4o', label: b,\n"
        "     config: {tools: [{x: '{{v}}'}], stop: ['{{v}}']}}\n"
        "prompts: [p]\n"
        "tests: [{vars: {v: 7}}]\n"
    )
    from_file, written = [one.parameters for one in rows(tmp_path, text)]
    assert from_file["tools"] == [{"type": "function", "x": "{{v}}"}]
    assert (written["tools"], written["stop"]) == ([{"x": "7"}], ["{{v}}"])
