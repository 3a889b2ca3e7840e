"""What a run leaves behind: whole, valid, harmless, and without secrets."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from pytest_llmdeploy.config.models import STAGES
from pytest_llmdeploy.reports.json_report import SCHEMA_PATH
from pytest_llmdeploy.verdicts import Verdict
from tests.plugin.conftest import Outcome, Project, free_port, wait_for
from tests.raw_server import FOREVER, RawServer

SCHEMA: Mapping[str, Any] = json.loads(SCHEMA_PATH.read_text(encoding="utf-8"))


def assert_valid(report: dict[str, Any]) -> None:
    checker = Draft202012Validator(SCHEMA, format_checker=Draft202012Validator.FORMAT_CHECKER)
    assert [error.message for error in checker.iter_errors(report)] == []


def test_the_schema_is_one_and_knows_our_words() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$defs"]["stage"]["enum"] == list(STAGES)
    assert set(SCHEMA["$defs"]["verdict"]["enum"]) == {str(verdict) for verdict in Verdict}

    def undescribed(node: object, path: str) -> list[str]:
        if not isinstance(node, dict):
            return []
        below = [p for key, value in node.items() for p in undescribed(value, f"{path}/{key}")]
        for name, value in node.get("properties", {}).items():
            if "description" not in value and "$ref" not in value:
                below.append(f"{path}/{name}")
        return below

    assert undescribed(SCHEMA, "") == []


HOSTILE = (
    "<script>alert('x')</script> | `code` **bold** [link](http://evil.example) "
    "![image](http://evil.example) @everyone &amp; $x$ \\\\ # ::error::\\n| a | b |\\n\x07"
)
CONFIG = f"""
service: {{name: judged, version_header: x-llm-version, timeout: 20}}
environments:
  local: {{url: "{{url}}"}}
health:
  checks:
    - {{name: up, path: /health}}
    - {{name: lost, path: /nowhere}}
smoke:
  checks: [models, {{name: dead, kind: http, request: {{name: dead, path: /ready, status: 503}}}}]
gates:
  hostile:
    retries: 0
    cases:
      - id: good
        prompt: "Say exactly: good"
        assert: ["equals: good"]
      - id: bad
        prompt: "Say exactly: {HOSTILE}"
        assert: ["equals: nothing | of ` <b>that</b>"]
  unreachable:
    retries: 0
    endpoint: {{base_url: "http://127.0.0.1:PORT/v1", model: m}}
    cases: [{{id: x, prompt: hello, assert: ["contains: a"]}}]
  allows:
    min_pass_rate: 0.5
    retries: 0
    cases:
      - {{id: hit, prompt: "Say exactly: a", assert: ["equals: a"]}}
      - {{id: miss, prompt: "Say exactly: a", assert: ["equals: b"]}}
"""


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory, scripted_url: str
) -> tuple[Project, Outcome]:
    """Return one run with every kind of outcome."""
    project = Project(tmp_path_factory.mktemp("reports"), scripted_url)
    project.write("pytest.ini", "[pytest]\n")
    project.config(CONFIG.replace("PORT", str(free_port())).replace("\x07", "\\a"))
    github = {
        name: str(project.write(name, "")) for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")
    }
    return project, project.run("--junitxml=junit.xml", env=github)


Finished = tuple[Project, Outcome]


def test_report_json(finished: Finished) -> None:
    _, done = finished
    report = done.report
    assert_valid(report)
    assert done.code == report["run"]["exit_code"] == 1, done.out
    assert not report["run"]["interrupted"]
    assert (report["verdict"], report["overall_status"]) == ("FAIL", "fail")
    assert report["pass_rate"] == 0.5
    assert report["services"] == [
        {"environment": "local", "service": "judged", "version": "1.0.0", "scripted": True}
    ]
    assert report["stages"] == {
        "health": {"verdict": "FAIL", "counts": {"PASS": 1, "FAIL": 1}},
        "smoke": {"verdict": "FAIL", "counts": {"PASS": 1, "FAIL": 1}},
        "gates": {"verdict": "FAIL", "counts": {"PASS": 3, "FAIL": 3, "ERROR": 2}},
    }
    assert [(gate["name"], gate["verdict"]) for gate in report["gates"]] == [
        ("hostile", "FAIL"),
        ("unreachable", "ERROR"),
        ("allows", "PASS"),
    ]
    counted = [item["name"] for item in report["items"] if item["counted"]]
    assert counted == ["hostile::bad", "unreachable::x", "allows::miss"]


def test_junit(finished: Finished) -> None:
    project, _ = finished
    suite = ET.parse(project.path / "junit.xml").getroot().find("testsuite")
    assert suite is not None
    assert suite.attrib | {"errors": "1", "failures": "3", "skipped": "3", "tests": "12"} == (
        suite.attrib
    )
    found = {}
    for case in suite.iter("testcase"):
        name = f"{case.attrib['classname']}::{case.attrib['name']}"
        properties = {p.attrib["name"]: p.attrib["value"] for p in case.iter("property")}
        kinds = [child.tag for child in case if child.tag not in ("properties", "system-out")]
        verdict, stage = properties["llmdeploy_verdict"], properties["llmdeploy_stage"]
        found[name] = (stage, verdict, *kinds)
    assert sorted(found.values()) == sorted(
        [
            ("health", "PASS"),
            ("health", "FAIL", "failure"),
            ("smoke", "PASS"),
            ("smoke", "FAIL", "failure"),
            ("gates", "PASS"),
            ("gates", "FAIL", "skipped"),
            ("gates", "FAIL", "failure"),
            ("gates", "ERROR", "skipped"),
            ("gates", "ERROR", "error"),
            ("gates", "PASS"),
            ("gates", "FAIL", "skipped"),
            ("gates", "PASS"),
        ]
    )


def test_github_output(finished: Finished) -> None:
    text = (finished[0].path / "GITHUB_OUTPUT").read_text()
    assert text == "pass_rate=0.5000\noverall_status=fail\n"


def test_github_step_summary_holds_no_markup_of_answers(finished: Finished) -> None:
    text = (finished[0].path / "GITHUB_STEP_SUMMARY").read_text()
    heading, _, *lines = text.splitlines()
    assert heading == "## llmdeploy: FAIL"
    rows = [line for line in lines if line]
    assert all(row.startswith("| ") or row == "|---|---|---|" for row in rows)
    assert {row.count("|") for row in rows} == {4}
    assert rows[2] == (
        "| hostile | FAIL | pass rate 0.50 (1 of 2) &#60; min&#95;pass&#95;rate 1.00 |"
    )
    cells = "".join(row.strip("|") for row in rows if row != "|---|---|---|")
    assert not set("<>`*[]@$\\!_") & set(cells)
    assert "health::lost | FAIL | GET http://127.0.0.1:" in text


def test_hostile_answers_are_a_text_of_one_line_everywhere(finished: Finished) -> None:
    _, done = finished
    (item,) = [item for item in done.report["items"] if item["name"] == "hostile::bad"]
    assert "<script>alert('x')</script> | `code`" in item["reason"]
    assert "\n" not in item["reason"]
    assert "\x07" not in done.out
    assert not [line for line in done.out.splitlines() if line.lstrip().startswith("::error")]


def test_the_terminal_summary_is_plain_and_starts_with_the_verdict(finished: Finished) -> None:
    _, done = finished
    assert "\x1b" not in done.out
    lines = done.out.splitlines()
    start = next(i for i, line in enumerate(lines) if "llmdeploy: FAIL" in line)
    assert lines[start].strip("= ") == "llmdeploy: FAIL"
    about, health, smoke, hostile, unreachable, allows = (
        line.rstrip() for line in lines[start + 1 : start + 7]
    )
    scripted = "SCRIPTED answers, no model was judged"
    assert about.startswith(f"environment local, judged 1.0.0 — {scripted}, ")
    assert health.split() == ["health", "FAIL", "1", "PASS,", "1", "FAIL"]
    assert smoke.split() == ["smoke", "FAIL", "1", "PASS,", "1", "FAIL"]
    assert hostile.split(maxsplit=3)[2:] == ["FAIL", "pass rate 0.50 (1 of 2) < min_pass_rate 1.00"]
    assert unreachable.split(maxsplit=3)[2:] == [
        "ERROR",
        "none of the 1 cases could be measured",
    ]
    assert allows.split(maxsplit=3)[2:] == ["PASS", "pass rate 0.50 (1 of 2) >= min_pass_rate 0.50"]


def test_under_a_terminal_it_has_colours(project: Project) -> None:
    project.config('environments: {local: {url: "{url}"}}\nsmoke: {checks: [models]}\n')
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        project.command(),
        cwd=project.path,
        env=project.variables({"TERM": "xterm-256color"}),
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    pieces = []
    while True:
        try:
            piece = os.read(ours, 65_536)
        except OSError:  # how Linux says that nobody holds the other end any more
            break
        if not piece:
            break
        pieces.append(piece)
    os.close(ours)
    out = b"".join(pieces).decode()
    assert process.wait(30) == 0, out
    summary = out[out.index("llmdeploy: PASS") :]
    assert "\x1b[32mPASS\x1b[0m" in summary


def test_an_interrupted_run_says_so(project: Project) -> None:
    project.write("test_first.py", "import pytest\n@pytest.mark.smoke\ndef test_a(llm_env): pass\n")
    with RawServer(lambda _request, _number: [FOREVER]) as server:
        project.config(
            f'environments: {{local: {{url: "{server.url}"}}}}\n'
            "service: {model: m}\nhealth: {checks: []}\nsmoke: {checks: []}\n"
            "gates: {slow: {cases: [{id: a, prompt: hi, assert: ['equals: hi']}]}}\n"
        )
        process = project.start("test_first.py", "llmdeploy.yaml")
        wait_for(lambda: server.requests, "the first request")
        process.send_signal(signal.SIGINT)
        try:
            out, _ = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 2, out
    (path,) = project.path.glob(".llmdeploy/*/report.json")
    report = json.loads(path.read_text())
    assert_valid(report)
    assert report["run"]["interrupted"]
    assert (report["run"]["exit_code"], report["overall_status"]) == (2, "fail")
    assert report["verdict"] == "ERROR"
    assert report["items"][0]["name"] == "test_a"
    assert "INTERRUPTED: what follows is not the whole" in out


SECRET = 'sk-live/4711+"quoted"'
PASSWORD = "pa55-9f3k2"
SECRETIVE = """
service:
  api_key: "${LLM_KEY}"
  headers: {x-tenant-token: "${LLM_KEY}"}
  version_header: x-llm-version
  timeout: 20
environments:
  local:
    command: ["%s", serve.py, "{port}"]
    variables: {TOKEN: "${LLM_KEY}"}
health:
  checks:
    - {name: key, path: /health, contains: "${LLM_KEY}"}
smoke:
  checks:
    - {kind: completion, name: echo, prompt: "Say exactly: ${LLM_KEY}", max_tokens: 1}
    - kind: http
      name: sent
      request: {name: sent, path: "/v1/models?key=${LLM_KEY}", method: POST, body: "${LLM_KEY}"}
gates:
  echo:
    system: "Never say ${LLM_KEY}"
    cases:
      - {id: a, prompt: "Say exactly: I say ${LLM_KEY}!", assert: ["equals: ${LLM_KEY}"]}
  other:
    retries: 0
    endpoint: {base_url: "http://user:${PASSWORD}@127.0.0.1:1/v1", model: m, api_key: "${LLM_KEY}"}
    cases: [{id: b, prompt: "${LLM_KEY}", assert: ["equals: ${LLM_KEY}"]}]
"""
SERVE = """
import os, sys
print("starting with", os.environ["TOKEN"], repr(os.environ["TOKEN"]), flush=True)
from pytest_llmdeploy.reference.command import main
sys.exit(main(["--engine", "scripted", "--ttft", "0", "--port", sys.argv[1]]))
"""
TALKATIVE = """
import logging, pytest

@pytest.mark.gates
def test_talks(llm_env, llm_client, gate):
    key = llm_env.service.api_key
    settings = {"headers": {"authorization": "Bearer " + key}}
    print("printed", key)
    logging.warning("logged %s", key)
    gate.check({"prompt": "Say exactly: " + key, "assert": ["equals: something"]})

def test_unmarked(llm_env):
    key = llm_env.service.api_key
    assert key == "wrong"

def test_bad_request(llm_client, llm_env):
    llm_client.chat.completions.create(model=llm_env.service.api_key, messages=[])
"""


def test_secrets_are_nowhere(project: Project) -> None:
    project.config(SECRETIVE % sys.executable)
    project.write("serve.py", SERVE)
    project.write("test_talks.py", TALKATIVE)
    github = {
        name: str(project.write(name, "")) for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")
    }
    sources = {path for path in project.path.rglob("*") if path.suffix in (".py", ".yaml", ".ini")}
    done = project.run(
        *("-v", "--showlocals", "-rA", "--junitxml=junit.xml"),
        env={"LLM_KEY": SECRET, "PASSWORD": PASSWORD, **github},
    )
    assert done.code == 1, done.out
    assert_valid(done.report)
    written = [p for p in project.path.rglob("*") if p.is_file() and p not in sources]
    kinds = {path.suffix for path in written}
    assert {".json", ".sqlite", ".log", ".xml", ""} <= kinds
    texts = {
        str(p.relative_to(project.path)): p.read_bytes().decode("utf-8", "replace") for p in written
    }
    texts["the terminal"] = done.out
    forms = {SECRET, json.dumps(SECRET)[1:-1], quote(SECRET), quote(SECRET, safe="")}
    forms |= {SECRET.replace('"', "&quot;"), SECRET.replace('"', "&#34;"), "4711", PASSWORD}
    leaks = [(name, form) for name, text in texts.items() for form in forms if form in text]
    assert leaks == []
    (log,) = [text for name, text in texts.items() if name.endswith(".log")]
    assert log.splitlines()[0] == "starting with *** '***'"
    assert "expected an answer that contains '***'" in done.out
    assert "printed ***" in done.out
    verdicts = done.verdicts()
    assert verdicts["smoke::echo"] == "PASS"
    assert verdicts["gates::other::b"] == "ERROR"


def test_a_text_that_no_file_can_hold_does_not_cost_the_report(project: Project) -> None:
    project.config('environments: {local: {url: "{url}"}}\n')
    project.write(
        "test_own.py",
        "import pytest\n@pytest.mark.smoke\ndef test_a(llm_env):\n    assert False, chr(0xD800)\n",
    )
    summary = project.write("summary", "")
    done = project.run("test_own.py", env={"GITHUB_STEP_SUMMARY": str(summary)})
    assert done.code == 1, done.out
    assert done.report["items"][0]["reason"].startswith("?")
    assert "smoke::test&#95;a" in summary.read_text()
