"""The fixtures and hooks that a project's own tests and conftest.py use."""

from __future__ import annotations

import json

from tests.plugin.conftest import Project, free_port

SERVICE = """
service: {name: answering-machine, version_header: x-llm-version, timeout: 20}
environments:
  local: {url: "{url}"}
  other: {url: "{url}", service: {name: other-machine}}
health: {checks: []}
smoke: {checks: []}
"""
GATES = """
gates:
  echo:
    prompt: "Say exactly: {{ word }}"
    assert: [{type: shout, value: {at_least: 2}}]
    retries: 0
    cases: [{id: a, vars: {word: PARIS}}, {id: b, vars: {word: paris}}]
    min_pass_rate: 0.5
"""
CONFTEST = """
import json, os, pathlib

def shout(output, context):
    return sum(char.isupper() for char in output) >= context.value["at_least"]

def pytest_llmdeploy_assertions(registry):
    registry.register("shout", shout)

def pytest_llmdeploy_verdict(event):
    with pathlib.Path("verdicts.txt").open("a") as file:
        file.write(json.dumps([os.getpid(), event.nodeid, str(event.verdict)]) + "\\n")
"""
TESTS = """
import httpx, pytest

def test_env(llm_env):
    assert llm_env.environment_name == "local"
    assert llm_env.service.name == "answering-machine"
    assert llm_env.gates == {} or "echo" in llm_env.gates

def test_service(llm_service):
    assert llm_service.api_url == llm_service.url + "/v1"
    assert httpx.get(llm_service.url + "/health").json()["status"] == "ok"

def test_client(llm_client):
    said = [{"role": "user", "content": "Say exactly: Oslo"}]
    answer = llm_client.chat.completions.create(model="scripted", messages=said)
    assert answer.choices[0].message.content == "Oslo"

@pytest.mark.gates
def test_gate_passes(gate):
    result = gate.check({"prompt": "Say exactly: Rome", "assert": ["contains: Rome"]})
    assert result["verdict"] == "PASS"
    assert result["samples"][0]["text"] == "Rome"

@pytest.mark.smoke
def test_smoke_of_ones_own(llm_service):
    assert llm_service.url.startswith("http")
"""


def test_fixtures_work_together_and_marked_tests_are_in_the_report(project: Project) -> None:
    project.config(SERVICE)
    project.write("test_own.py", TESTS)
    done = project.run("test_own.py", "--strict-markers", "-W", "error")
    assert (done.code, done.counts()) == (0, {"passed": 5}), done.out
    items = {item["nodeid"]: item for item in done.report["items"]}
    assert set(items) == {"test_own.py::test_gate_passes", "test_own.py::test_smoke_of_ones_own"}
    smoke = items["test_own.py::test_smoke_of_ones_own"]
    assert (smoke["stage"], smoke["name"]) == ("smoke", "test_smoke_of_ones_own")
    assert (smoke["verdict"], smoke["reason"]) == ("PASS", "as expected")
    assert (smoke["environment"], smoke["service"]) == ("local", "answering-machine")
    assert done.report["stages"]["smoke"] == {"verdict": "PASS", "counts": {"PASS": 1}}


FAILING = """
import pytest

@pytest.mark.gates
def test_wrong(gate):
    gate.check({"id": "capital", "prompt": "Say exactly: Bonn", "assert": ["equals: Berlin"]})

def test_unknown_suite(gate):
    gate.check({"vars": {}}, suite="capitols")

@pytest.mark.smoke
def test_dead(llm_client):
    import httpx
    httpx.get("http://127.0.0.1:9")
"""


def test_a_gate_that_fails_shows_question_and_answer(project: Project) -> None:
    project.config(SERVICE)
    project.write("test_own.py", FAILING)
    done = project.run("test_own.py")
    assert (done.code, done.counts()) == (1, {"failed": 1, "errors": 2})
    item, unknown, dead = done.report["items"]
    place = "test_own.py:9: suite: "
    assert unknown["reason"] == f"{place}there is no gate 'capitols'; the file has: none"
    assert (unknown["stage"], unknown["verdict"]) == ("tests", "ERROR")
    assert (dead["stage"], dead["verdict"]) == ("smoke", "ERROR")
    assert "cannot connect: " in done.out
    first, case, asked, answer, check = item["reason"].splitlines()
    assert first == 'equals: expected the answer to equal "Berlin", got "Bonn"'
    assert case.startswith("  case: ")
    assert asked == "  user: Say exactly: Bonn"
    assert answer.startswith("  answer: 'Bonn' (")
    assert check == '    FAIL expected the answer to equal "Berlin", got "Bonn"'
    assert (item["verdict"], done.report["verdict"]) == ("FAIL", "FAIL")


UNANSWERED = """
import pytest

@pytest.mark.gates
def test_nobody_answers(gate):
    gate.check({"prompt": "Hello", "assert": ["contains: a"]}, suite="echo")
"""


def test_a_gate_without_an_answer_is_a_pytest_error_and_10(project: Project) -> None:
    dead = f"http://127.0.0.1:{free_port()}"
    suite = "gates: {echo: {retries: 0, cases: [{prompt: x, assert: ['contains: x']}]}}\n"
    project.config((SERVICE + suite).replace("{url}", dead))
    project.write("test_own.py", UNANSWERED)
    done = project.run("test_own.py", "--junitxml=junit.xml")
    assert (done.code, done.counts()) == (10, {"error": 1}), done.out
    (item,) = done.report["items"]
    assert item["verdict"] == "ERROR"
    assert item["reason"].startswith(f"{dead}/v1/models cannot be reached: [Errno 111] ")
    junit = (project.path / "junit.xml").read_text()
    assert 'errors="1" failures="0"' in junit


OVERRIDE = """
import pytest
from pytest_llmdeploy.config.loader import load_config

@pytest.fixture(scope="session")
def llm_env(pytestconfig):
    return load_config(pytestconfig.rootpath / "llmdeploy.yaml", "other")
"""


def test_an_override_of_llm_env_is_followed_by_the_others(project: Project) -> None:
    project.config(SERVICE.replace('local: {url: "{url}"}', 'local: {url: "http://127.0.0.1:1"}'))
    project.write("conftest.py", OVERRIDE)
    project.write(
        "test_own.py",
        """
def test_all(llm_env, llm_service, llm_client, gate):
    assert llm_env.service.name == "other-machine"
    assert llm_service.url == llm_env.environment.url
    assert llm_client.models.list().data[0].id == "scripted"
    gate.check({"prompt": "Say exactly: Rome", "assert": ["contains: Rome"]})
""",
    )
    done = project.run("test_own.py")
    assert (done.code, done.counts()) == (0, {"passed": 1}), done.out


def test_hooks_see_each_verdict_once_with_workers_too(project: Project) -> None:
    project.config(SERVICE + GATES)
    project.write("conftest.py", CONFTEST)
    expected = {
        "llmdeploy.yaml::gates::echo::a": "PASS",
        "llmdeploy.yaml::gates::echo::b": "FAIL",
        "llmdeploy.yaml::gates::echo::gate": "PASS",
    }
    for arguments in ((), ("-n", "2")):
        done = project.run(*arguments)
        assert (done.code, done.counts()) == (0, {"passed": 2, "missed": 1}), done.out
        path = project.path / "verdicts.txt"
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        path.unlink()
        assert len({pid for pid, _, _ in lines}) == 1
        assert sorted((nodeid, verdict) for _, nodeid, verdict in lines) == sorted(expected.items())


def test_an_unknown_assertion_type_is_an_error_of_the_file(project: Project) -> None:
    project.config(SERVICE + GATES)
    done = project.run()
    assert done.code == 2
    assert "there is no assertion type 'shout': write 'type: value'" in done.out
    assert "Traceback" not in done.out


def test_a_hook_that_registers_a_known_type_says_so(project: Project) -> None:
    project.config(SERVICE + GATES)
    project.write("conftest.py", CONFTEST.replace('"shout"', '"contains"'))
    done = project.run()
    assert done.code == 2
    assert "ValueError: the assertion type 'contains' exists already" in done.out
