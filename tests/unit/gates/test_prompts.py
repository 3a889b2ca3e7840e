"""From cases to messages."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from pytest_llmdeploy.errors import ConfigError
from pytest_llmdeploy.gates.cases import Case
from pytest_llmdeploy.gates.prompts import SuitePrompt, render, validate_prompts

ROOT = Path("/nowhere")


def case(prompt: Any = None, number: int = 1, **variables: Any) -> Case:
    return Case(f"c{number}", variables, prompt, (), (), 1.0, None, 1, f"cases/x.csv:{number}")


def user(content: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": content}]


@pytest.mark.parametrize(
    ("own", "suite", "system", "expected"),
    [
        (None, "Capital of {{ country }}?\n", None, user("Capital of France?")),
        ("Own: {{ country }}", "Capital?", None, user("Own: France")),
        ("{ plain } <b>\n", None, None, user("{ plain } <b>")),
        ("{{ html }}", None, None, user("<b> & 'c'")),
        (
            None,
            "{{ country }}?",
            "Speak {{ language | default('English') }}.",
            [{"role": "system", "content": "Speak English."}, *user("France?")],
        ),
        (
            None,
            [
                {"role": "system", "content": "In {{ country }}"},
                {"role": "user", "content": [{"type": "text", "text": "{{ country }}"}]},
            ],
            "not used with messages",
            [
                {"role": "system", "content": "In France"},
                {"role": "user", "content": [{"type": "text", "text": "France"}]},
            ],
        ),
        (({"role": "user", "name": "{{ x }}", "content": "a"},), "b", None, None),
    ],
)
def test_messages(
    own: Any, suite: Any, system: str | None, expected: list[dict[str, Any]] | None
) -> None:
    made = render(case(own, country="France", html="<b> & 'c'"), suite, system, ROOT)
    assert made == (expected or [{"role": "user", "name": "{{ x }}", "content": "a"}])


@pytest.mark.parametrize("name", ["p.j2", "p.txt", "p.MD"])
def test_text_files(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("Capital of\n{{ country }}?\n")
    made = render(case(country="France"), {"file": name}, "Be brief.", tmp_path)
    assert made == [
        {"role": "system", "content": "Be brief."},
        *user("Capital of\nFrance?"),
    ]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("p.yaml", "- {role: user, content: 'Of {{ country }}?'}\n"),
        ("p.json", '[{"role": "user", "content": "Of {{ country }}?"}]'),
    ],
)
def test_message_files(name: str, content: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    assert render(case(country="France"), {"file": name}, None, tmp_path) == user("Of France?")


def test_a_changed_file_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "p.txt"
    path.write_text("old")
    assert render(case(), {"file": "p.txt"}, None, tmp_path) == user("old")
    path.write_text("new")
    os.utime(path, ns=(1, 1))
    assert render(case(), {"file": "p.txt"}, None, tmp_path) == user("new")


@pytest.mark.parametrize(
    ("own", "suite", "message"),
    [
        (
            None,
            "Of {{ county }}?",
            "cases/x.csv:1: c1: the template \"Of {{ county }}?\" needs the variable 'county'"
            " of the case, did you mean 'country'?",
        ),
        (
            "{{ zzz }}",
            None,
            "cases/x.csv:1: c1: the template \"{{ zzz }}\" needs the variable 'zzz' of the case,"
            " which has country",
        ),
        (
            "{{ country.name }}",
            None,
            'cases/x.csv:1: c1: the template "{{ country.name }}" failed: UndefinedError:'
            " 'str object' has no attribute 'name'",
        ),
        (
            "a\n{% if %}",
            None,
            'cases/x.csv:1: c1: the template "a\\n{% if %}" is broken on its line 2:'
            " Expected an expression, got 'end of statement block'",
        ),
        (
            "{{ ''.__class__.__mro__ }}",
            None,
            "cases/x.csv:1: c1: the template \"{{ ''.__class__.__mro__ }}\" failed: SecurityError:"
            " access to attribute '__class__' of 'str' object is unsafe.",
        ),
        (
            "{{ 1 / 0 }}",
            None,
            'cases/x.csv:1: c1: the template "{{ 1 / 0 }}" failed: ZeroDivisionError:'
            " division by zero",
        ),
        (
            "{% if false %}x{% endif %}",
            None,
            "cases/x.csv:1: c1: the prompt is empty once its variables are filled in",
        ),
        (
            None,
            None,
            "cases/x.csv:1: c1: the case has no prompt, and its suite has none either",
        ),
        (None, [], "cases/x.csv:1: c1: the list of messages is empty"),
        (
            None,
            [{"role": "user"}],
            "cases/x.csv:1: c1: message 1: content must be a text or a list of parts",
        ),
        (None, {"fil": "x"}, "cases/x.csv:1: c1: prompt: unknown key 'fil', did you mean 'file'?"),
        (None, {}, "cases/x.csv:1: c1: prompt: expected a text, messages or {file: path}"),
        (None, {"file": "none.j2"}, "none.j2: the file does not exist"),
        (
            None,
            {"file": "p.docx"},
            "p.docx: prompt files are .j2, .txt, .md, .yaml, .yml, .json; '.docx' is none of them",
        ),
        (None, {"file": "p.json"}, "p.json: not JSON: expecting value (column 1)"),
        (None, {"file": "p.yaml"}, "p.yaml: expected a list of messages, got 'x'"),
    ],
)
def test_broken_prompts(
    own: Any, suite: SuitePrompt, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("p.json").write_text("x")
    Path("p.yaml").write_text("x")
    with pytest.raises(ConfigError) as caught:
        render(case(own, country="France"), suite, None, tmp_path)
    assert str(caught.value) == message


def test_validation_says_once_what_is_wrong_with_many() -> None:
    cases = [case(number=n, country="France") for n in (1, 2, 3)] + [case("{{ x }}", number=4)]
    with pytest.raises(ConfigError) as caught:
        validate_prompts(cases, "{{ city }}", None, ROOT)
    assert str(caught.value).split("\n") == [
        "cases/x.csv:1: c1: the template \"{{ city }}\" needs the variable 'city' of the case,"
        " which has country (and so for 2 more)",
        "cases/x.csv:4: c4: the template \"{{ x }}\" needs the variable 'x' of the case,"
        " which has none",
    ]
    validate_prompts(cases[:3], "{{ country }}", None, ROOT)
