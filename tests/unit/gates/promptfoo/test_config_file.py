from __future__ import annotations

from pathlib import Path

import pytest

from pytest_llmdeploy.errors import ConfigError
from pytest_llmdeploy.gates.promptfoo.config_file import read_config
from pytest_llmdeploy.gates.promptfoo.paths import BadPathError, Files
from tests.unit.gates.promptfoo.configs import HEAD, rows, write


def refused(folder: Path, text: str, files: dict[str, str] | None = None) -> str:
    """Return why a config is refused, without its folder."""
    with pytest.raises(ConfigError) as caught:
        rows(folder, text, files)
    return str(caught.value).replace(f"{folder}/", "")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("promptfooconfig.js", "a config that is code is not run: write it as YAML or JSON"),
        ("promptfooconfig.ts", "a config that is code is not run: write it as YAML or JSON"),
        ("promptfooconfig.toml", "a promptfoo config is YAML or JSON, not '.toml'"),
    ],
)
def test_configs_that_are_no_data(tmp_path: Path, name: str, message: str) -> None:
    path = write(tmp_path, {name: "export default {}"})
    with pytest.raises(ConfigError) as caught:
        read_config(path, tmp_path)
    assert str(caught.value) == f"{path}: {message}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n", "promptfooconfig.yaml:1: a promptfoo config is a mapping"),
        ("prompts: [x]\n", "promptfooconfig.yaml:1: providers: the config has no provider"),
        (HEAD + "redteam: {plugins: [x]}\n",
         "promptfooconfig.yaml:3: redteam: red-team configs are not run: give tests"),
        (HEAD + "tests: [{vars: {x: 1}, assert: {$ref: '#/no/where'}}]\n",
         "promptfooconfig.yaml: the reference '#/no/where' names nothing: there is no 'no'"),
        (HEAD + "a: {$ref: '#/b'}\nb: {$ref: '#/a'}\n",
         "promptfooconfig.yaml: the reference '#/a' leads back to itself"),
        (HEAD + "a: {$ref: 'https://example.com/x.yaml#/a'}\n",
         "promptfooconfig.yaml: the reference 'https://example.com/x.yaml#/a' names an address, "
         "which is not read"),
        (HEAD + "tests:\n  - vars: {x: 1}\n  - description: empty\n",
         "promptfooconfig.yaml:5: a test needs one of assert, vars, options, metadata, provider, "
         "providerOutput and threshold"),
        (HEAD + "tests: [{vars: {x: 1}, prompts: [other]}]\n",
         "promptfooconfig.yaml:3: prompts: there is none called 'other'"),
        (HEAD + "tests: [{vars: {x: 1}, providers: []}]\n",
         "promptfooconfig.yaml: the config makes no row: its tests, and the prompts and providers "
         "that they name, leave nothing to ask"),
        (HEAD + "tests: tests.xlsx\n",
         "promptfooconfig.yaml:3: tests: workbooks (tests.xlsx) are not read: save the sheet as "
         "CSV"),
        (HEAD + "tests: [file://none/*.yaml]\n",
         "promptfooconfig.yaml:3: tests[0]: the pattern none/*.yaml matches no file"),
        (HEAD + "tests: ['huggingface://datasets/a/b']\n",
         "promptfooconfig.yaml:3: tests[0]: tests are not fetched from huggingface://: keep a "
         "file"),
        (HEAD + "tests: ['file://make.py:tests']\n",
         "promptfooconfig.yaml:3: tests[0]: tests that code generates (make.py:tests) are not "
         "read: keep what it makes"),
        ("providers: [echo]\nprompts: [Either/or]\n",
         "promptfooconfig.yaml:2: prompts: there is no prompt in \"Either/or\": a text with '/', "
         "'\\' or '.' near its end is taken for a file, unless it has more than one line; put such "
         "a text into a file"),
    ],
)  # fmt: skip
def test_configs_no_run_could_begin_with(tmp_path: Path, text: str, message: str) -> None:
    assert refused(tmp_path, text) == message


@pytest.mark.parametrize(
    "text",
    [
        HEAD + "tests: [{vars: {x: file://../secret.txt}}]\n",
        HEAD + "tests: [{vars: {x: file:///etc/hostname}}]\n",
        HEAD + "tests: [{vars: {x: file://link.txt}}]\n",
        HEAD + "tests: [{vars: {x: 'file://../*.txt'}}]\n",
        HEAD + "tests: file://../tests.yaml\n",
        HEAD + "a: {$ref: '../other.yaml#/a'}\n",
        "providers: [echo]\nprompts: [file://../secret.txt]\n",
        "providers: [file://../secret.yaml]\nprompts: [x]\n",
        HEAD + "defaultTest: file://../secret.yaml\n",
    ],
)
def test_files_outside_the_project_are_not_read(tmp_path: Path, text: str) -> None:
    (tmp_path / "secret.txt").write_text("secret", "utf-8")
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    assert "lies outside the project" in refused(folder, text)


def test_a_config_below_the_project_may_reach_up_to_its_root(tmp_path: Path) -> None:
    write(tmp_path, {"shared.txt": "s"})
    files = Files(tmp_path / "evals", tmp_path)
    assert files.resolve("file://../shared.txt") == (tmp_path / "shared.txt").resolve()
    with pytest.raises(BadPathError):
        files.resolve("../../shared.txt")


def test_only_variables_that_the_config_names_are_filled_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CITY", "Oslo")
    monkeypatch.setenv("OTHER", "hidden")
    monkeypatch.setenv("THE_API_KEY", "sk-secret")
    text = (
        "providers: [{id: echo, config: {apiKey: '{{ env.THE_API_KEY }}'}}]\n"
        "env: {OWN: 'in {{ env.CITY }}', OWN_TOKEN: t}\n"
        "prompts: ['{{ env.OWN }} {{x}}']\n"
        "tests: tests.csv\n"
    )
    cells = "x\n{{ env.CITY }}\n{{ env.OTHER }}\n{{ env.THE_API_KEY }}\n{{ env.OWN_TOKEN }}\n"
    found = rows(tmp_path, text, {"tests.csv": cells})
    problem = (
        "a template reads the variable {} of this process: only those that the config itself "
        "names are filled in, and none that look like secrets"
    )
    assert found[0].row.prompt.rendered == "in Oslo Oslo"
    assert [one.problem for one in found] == [
        None,
        problem.format("OTHER"),
        problem.format("THE_API_KEY"),
        problem.format("OWN_TOKEN"),
    ]
    assert not any("sk-secret" in repr(one) for one in found)
