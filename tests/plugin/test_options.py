"""Each way of telling a run what to do."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_llmdeploy.markers import MARKERS
from tests.plugin.conftest import Project

CONFIG = """
environments:
  local: {url: "{url}"}
  staging: {url: "{url}"}
  beta: {url: "{url}"}
health: {checks: [{name: up, path: /health, timeout: 20}]}
smoke: {checks: []}
gates:
  echo: {retries: 0, cases: [{id: a, prompt: "Say exactly: b", assert: ["equals: b"]}]}
"""
OWN = "def test_own(): pass\n"
HEADER = re.compile(r"^llmdeploy: (.*)$", re.MULTILINE)
ENV_TAKEN = (
    " (--env belongs to another plugin here: choose with LLMDEPLOY_ENV or the ini key "
    "llmdeploy_env)"
)


def header(out: str) -> str:
    """Return what the header says of ours; empty when it says nothing."""
    found = HEADER.search(out)
    return found[1] if found else ""


@pytest.fixture
def configured(project: Project) -> Project:
    project.config(CONFIG)
    return project


@pytest.mark.parametrize(
    ("arguments", "variable", "ini", "chosen"),
    [
        ((), None, None, "local"),
        ((), None, "beta", "beta"),
        ((), "staging", "beta", "staging"),
        (("--env", "local"), "staging", "beta", "local"),
        (("--env=beta",), "staging", None, "beta"),
    ],
)
def test_which_environment(
    configured: Project,
    arguments: tuple[str, ...],
    variable: str | None,
    ini: str | None,
    chosen: str,
) -> None:
    # A directory of that name is no argument, and a conftest.py beside it is still read.
    for name in ("staging", "local"):
        configured.write(f"{name}/test_in_it.py", "def test_in_it(): assert False\n")
    configured.write("conftest.py", "def pytest_report_header(): return 'conftest was read'\n")
    if ini:
        configured.write("pytest.ini", f"[pytest]\nllmdeploy_env = {ini}\n")
    env = {"LLMDEPLOY_ENV": variable} if variable else {}
    done = configured.run("llmdeploy.yaml::health", *arguments, env=env)
    assert (done.code, done.counts()) == (0, {"passed": 1}), done.out
    assert header(done.out) == f"environment {chosen}"
    assert "conftest was read" in done.out
    assert done.report["services"][0]["environment"] == chosen


def test_an_unknown_environment(configured: Project) -> None:
    done = configured.run("--env", "stagin")
    assert done.code == 2
    assert (
        "llmdeploy.yaml: environments: no environment 'stagin', did you mean 'staging'? "
        "The file has: local, staging, beta (choose with --env)"
    ) in done.out
    assert "Traceback" not in done.out
    empty = configured.run("--env=")
    assert empty.code == 4
    assert "--llmdeploy-image and --env take a name, not an empty text" in empty.out


def test_a_conftest_that_owns_env(configured: Project) -> None:
    configured.write(
        "conftest.py",
        "def pytest_addoption(parser): parser.addoption('--env', dest='theirs', default='x')\n",
    )
    configured.write(
        "test_own.py", "def test_own(pytestconfig): assert pytestconfig.option.theirs == 'mine'\n"
    )
    done = configured.run("--env", "mine", env={"LLMDEPLOY_ENV": "beta"})
    assert (done.code, done.counts()) == (0, {"passed": 4}), done.out
    assert header(done.out) == "environment beta" + ENV_TAKEN


def test_a_plugin_that_owns_env(configured: Project) -> None:
    configured.write(
        "theirs.py", "def pytest_addoption(parser): parser.addoption('--env', dest='theirs')\n"
    )
    configured.write("pytest.ini", "[pytest]\nllmdeploy_env = staging\n")
    path = {"PYTHONPATH": str(configured.path)}
    done = configured.run("-p", "theirs", "--env=mine", env=path)
    assert (done.code, done.counts()) == (0, {"passed": 3}), done.out
    assert header(done.out) == "environment staging" + ENV_TAKEN


def test_config_names_a_file_elsewhere(configured: Project) -> None:
    text = CONFIG.replace("{url}", configured.url).replace("name: up", "name: chosen")
    configured.write("deploy/blue.yaml", text)
    configured.write(
        "tests/test_own.py", "def test_own(llm_env): assert llm_env.path.name == 'blue.yaml'\n"
    )
    done = configured.run("tests", "--llmdeploy-config", "deploy/blue.yaml", "-v")
    assert (done.code, done.counts()) == (0, {"passed": 4}), done.out
    assert "deploy/blue.yaml::health::chosen PASSED" in done.out
    missing = configured.run("--llmdeploy-config=deploy/green.yaml")
    assert missing.code == 4
    assert "ERROR: --llmdeploy-config: there is no file 'deploy/green.yaml'" in missing.out
    assert "Traceback" not in missing.out


def test_output_and_image(configured: Project) -> None:
    configured.write(
        "test_own.py",
        "def test_own(pytestconfig):\n"
        "    assert pytestconfig.option.llmdeploy_image == 'registry/app:2'\n",
    )
    done = configured.run("--llmdeploy-output", "out/here", "--llmdeploy-image=registry/app:2")
    assert (done.code, done.counts()) == (0, {"passed": 4}), done.out
    report = json.loads((configured.path / "out/here/report.json").read_text())
    assert report["verdict"] == "PASS"
    assert not (configured.path / ".llmdeploy").exists()
    assert "report: out/here/report.json" in done.out
    empty = configured.run("--llmdeploy-image= ")
    assert empty.code == 4
    assert "--llmdeploy-image and --env take a name, not an empty text" in empty.out


def test_testpaths(configured: Project) -> None:
    configured.write("pytest.ini", "[pytest]\ntestpaths = tests\n")
    configured.write("tests/test_own.py", OWN)

    def collected(*arguments: str) -> list[str]:
        done = configured.run("--collect-only", "-q", *arguments)
        return [line for line in done.out.splitlines() if "::" in line]

    gates = ["llmdeploy.yaml::gates::echo::a", "llmdeploy.yaml::gates::echo::gate"]
    own = "tests/test_own.py::test_own"
    assert collected() == [own]
    assert collected("-m", "gates") == gates
    assert collected("-m", "not gates") == [own]
    assert collected("-m", "slow_load or not smoke") == [own]
    assert collected("-m", "gates", "tests") == []
    assert collected("llmdeploy.yaml", "-m", "gates") == gates


def test_a_marker_expression_that_is_none_is_pytests_to_report(configured: Project) -> None:
    configured.write("pytest.ini", "[pytest]\ntestpaths = tests\n")
    configured.write("tests/test_own.py", OWN)
    done = configured.run("-m", "gates and (")
    assert done.code == 4
    assert "Wrong expression passed to '-m': gates and (" in done.out
    assert "INTERNALERROR" not in done.out


def test_markers_and_help(project: Project) -> None:
    markers = project.run("--markers", "--strict-markers")
    assert markers.code == 0
    for line in MARKERS.values():
        assert f"@pytest.mark.{line}\n" in markers.out
    shown = project.run("--help")
    assert shown.code == 0
    group = shown.out[shown.out.index("release of an LLM service:") :]
    for option in ("--env=NAME", "--llmdeploy-config=FILE", "--llmdeploy-output=DIR"):
        assert f"  {option}" in group
    assert "llmdeploy_env (string):" in shown.out


def test_a_project_without_a_file_notices_nothing(project: Project) -> None:
    project.write(
        "test_own.py",
        "import pytest\n@pytest.mark.smoke\ndef test_own(): pass\n"
        "@pytest.mark.load\ndef test_load(): pass\n",
    )
    before = sorted(project.path.iterdir())
    done = project.run(env={"PYTHONDONTWRITEBYTECODE": "1"})
    assert (done.code, done.counts()) == (0, {"passed": 2})
    assert sorted(project.path.iterdir()) == before
    lines = [line for line in done.out.splitlines() if not line.startswith("plugins:")]
    assert "llmdeploy" not in "\n".join(lines).replace(str(project.path), "")


HEAVY = (
    *("kubernetes", "openai", "locust", "httpx", "prometheus_api_client", "gevent"),
    *("pydantic", "ruamel", "rich", "jinja2", "starlette"),
)


def test_importing_the_plugin_is_light() -> None:
    code = (
        "import sys, pytest_llmdeploy.plugin; print(*{name.split('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pytest_llmdeploy" in done.stdout.split()
    assert not set(HEAVY) & set(done.stdout.split())


BLOCKER = """
import importlib.abc, os, sys

class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in os.environ["BLOCKED"].split():
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker())
"""


@pytest.mark.parametrize(
    ("module", "what"), [("openai", "asking a model"), ("jinja2", "quality gates")]
)
def test_a_missing_extra(configured: Project, tmp_path: Path, module: str, what: str) -> None:
    configured.config(CONFIG.replace("Say exactly: b", "Say exactly: {{ 'b' }}"))
    configured.write("blocked/sitecustomize.py", BLOCKER)
    env = {"PYTHONPATH": str(tmp_path / "blocked"), "BLOCKED": module}
    health = configured.run("-m", "health", env=env)
    assert (health.code, health.report["verdict"]) == (0, "PASS"), health.out
    gates = configured.run("-m", "gates", env=env)
    assert gates.code == 10, gates.out
    assert (
        f"{what} needs the package '{module}', which is not installed: "
        "pip install 'pytest-llmdeploy[gates]'"
    ) in gates.out.replace("\n", " ")
    assert "Traceback" not in gates.out
    assert gates.report["verdict"] == "ERROR"
