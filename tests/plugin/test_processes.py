"""One service for the run, each case asked once, and nothing left behind, whatever ends the run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.plugin.conftest import Project, processes_of, wait_for

SERVICE = """
import http.server, json, os, sys
from pathlib import Path

log = Path(os.environ["LOG"])
with log.open("a") as file:
    file.write(f"start {os.environ['MARK']}\\n")

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def answer(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        self.answer({"data": [{"id": "m"}]})
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        text = asked["messages"][-1]["content"]
        with log.open("a") as file:
            file.write(text + "\\n")
        if "slow" in text:
            import time; time.sleep(60)
        if "pause" in text:
            import time; time.sleep(3)
        self.answer({
            "id": "1", "object": "chat.completion", "created": 1, "model": "m",
            "choices": [{"index": 0, "finish_reason": "stop",
                         "message": {"role": "assistant", "content": text}}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
        })
    def log_message(self, *args): pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
server.daemon_threads = True
server.serve_forever()
"""


@pytest.fixture
def recorded(project: Project) -> Project:
    """A project whose service writes each start and each question into asked.log."""
    project.write("service.py", SERVICE)
    mark = f"mark-{os.getpid()}-{project.path.name}"
    cases = "".join(
        f'      - {{id: c{n}, prompt: "question {n}", assert: ["contains: question"]}}\n'
        for n in range(40)
    )
    project.config(f"""
environments:
  local:
    command: ["{sys.executable}", service.py, "{{port}}"]
    variables: {{LOG: "{project.path}/asked.log", MARK: "{mark}"}}
    stop_timeout: 3
health: {{checks: []}}
smoke: {{checks: [models]}}
gates:
  many:
    concurrency: 8
    cases:
{cases}""")
    project.mark = mark  # type: ignore[attr-defined]
    return project


def asked(project: Project) -> list[str]:
    """Return what the service has been asked so far."""
    log = project.path / "asked.log"
    return log.read_text().splitlines() if log.exists() else []


def left(project: Project) -> list[int]:
    """Return the processes of this project's service that still run."""
    return processes_of(project.mark)  # type: ignore[attr-defined]


@pytest.mark.parametrize("workers", ["0", "2", "4"])
def test_one_service_and_each_case_once(recorded: Project, workers: str) -> None:
    done = recorded.run("-n", workers)
    assert done.code == 0, done.out
    assert done.counts()["passed"] == 42, done.out
    lines = asked(recorded)
    assert [line for line in lines if line.startswith("start")] == [f"start {recorded.mark}"]  # type: ignore[attr-defined]
    questions = [line for line in lines if line.startswith("question")]
    assert sorted(questions) == sorted(f"question {n}" for n in range(40))
    assert done.report["gates"][0]["total"] == 40
    assert left(recorded) == []


def test_a_worker_that_is_done_finishes_what_it_asked(recorded: Project) -> None:
    recorded.write(
        "conftest.py",
        """
import os, time
def pytest_runtestloop(session):
    if os.environ.get("PYTEST_XDIST_WORKER") == "gw0":
        deadline = time.monotonic() + 20
        while "question 1" not in open("asked.log").read() and time.monotonic() < deadline:
            time.sleep(0.02)  # let the other worker claim both cases
""",
    )
    text = (recorded.path / "llmdeploy.yaml").read_text()
    recorded.write("llmdeploy.yaml", text.replace('"question 0"', '"question 0 pause"'))
    recorded.write("asked.log", "")
    done = recorded.run("-n", "2", "-k", "c0 or c1 or models")
    assert done.code == 0, done.out
    assert asked(recorded).count("question 0 pause") == 1


def test_a_worker_that_dies_loses_no_case(recorded: Project) -> None:
    recorded.write(
        "conftest.py",
        """
import os, pytest
@pytest.hookimpl(trylast=True)
def pytest_runtest_call(item):
    if item.name == "c3" and os.environ["PYTEST_XDIST_WORKER"] in ("gw0", "gw1"):
        os._exit(9)
""",
    )
    done = recorded.run("-n", "2")
    assert "crashed" in done.out
    assert done.report["gates"][0]["verdict"] == "PASS", done.out
    assert done.report["gates"][0]["total"] == 40
    assert done.code == 1  # the crash itself is a failed test
    assert left(recorded) == []


@pytest.mark.parametrize("workers", ["0", "2"])
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_after(recorded: Project, workers: str, ending: signal.Signals) -> None:
    text = (recorded.path / "llmdeploy.yaml").read_text()
    recorded.write("llmdeploy.yaml", text.replace('"question 0"', '"question slow"'))
    process = recorded.start("-n", workers)
    wait_for(lambda: "question slow" in asked(recorded), "the slow question")
    process.send_signal(ending)
    try:
        out, _ = process.communicate(timeout=40)
    finally:
        process.kill()  # a failing test leaves nothing behind either
    wait_for(lambda: not left(recorded), "the end of the service", timeout=15)
    if ending is signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
        return
    assert process.returncode == 2, out
    assert "INTERRUPTED: what follows is not the whole" in out
    (report,) = recorded.path.glob(".llmdeploy/*/report.json")
    assert '"interrupted": true' in report.read_text()


def start_failure(project: Project, command: str, more: str = "") -> str:
    """Return the output of a run whose service does not come up."""
    project.config(f"""
environments:
  local:
    command: {command}
    ready_timeout: 1.5
{more}
smoke: {{checks: []}}
""")
    done = project.run()
    assert done.code == 10, done.out
    assert done.counts() == {"errors": 2}
    assert "Traceback" not in done.out
    return done.out


def test_a_command_that_dies_is_an_error_with_its_log(project: Project) -> None:
    script = "print('no GPU found'); raise SystemExit(3)"
    out = start_failure(project, f'["{sys.executable}", -c, "{script}"]')
    assert "the service ended before it was ready: it ended with exit code 3" in out
    assert "  | no GPU found" in out


def test_a_command_that_is_never_ready_is_an_error_and_ends(project: Project) -> None:
    mark = f"never-ready-{project.path.name}"
    script = f"import time; print('{mark}'); time.sleep(60)"
    out = start_failure(project, f'["{sys.executable}", -c, "{script}"]')
    expected = (
        "the service should answer 200 on /ready (ready_path) within 1.5 s (ready_timeout), "
        "but it did not come; last: [Errno 111] Connection refused"
    )
    assert expected in out
    assert f"  | {mark}" in out
    assert processes_of(mark) == []


def test_a_command_that_does_not_exist_is_an_error(project: Project) -> None:
    out = start_failure(project, "[no-such-program-here]")
    assert "it could not be started: no-such-program-here: No such file or directory" in out


def test_a_service_that_ignores_sigterm_is_killed(project: Project) -> None:
    mark = f"stubborn-{project.path.name}"
    script = """
import http.server, signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
handler = http.server.SimpleHTTPRequestHandler
http.server.test(handler, port=int(sys.argv[1]), bind="127.0.0.1")
"""
    project.write("stubborn.py", script)
    project.write("ready", "")
    project.config(f"""
environments:
  local:
    command: ["{sys.executable}", stubborn.py, "{{port}}", "{mark}"]
    stop_timeout: 0.5
health: {{checks: [{{name: ready, path: /ready}}]}}
smoke: {{checks: []}}
""")
    begun = time.monotonic()
    assert project.run().code == 0
    assert processes_of(mark) == []
    assert time.monotonic() - begun < 60  # it was killed, not waited for


def test_the_output_folder_is_ignored_by_git(recorded: Project) -> None:
    recorded.run("-k", "models")
    assert (recorded.path / ".llmdeploy" / ".gitignore").read_text() == "*\n"
    folder = next(Path(recorded.path / ".llmdeploy").glob("2*"))
    assert {path.name for path in folder.iterdir()} == {"report.html", "report.json", "services"}


DYING = """
import http.server, os, sys
class Handler(http.server.SimpleHTTPRequestHandler):
    def do_GET(self):
        if self.path != "/ready":
            print("FATAL: out of \\x1b[31mmemory", flush=True)
            os._exit(3)
        self.send_response(200)
        self.end_headers()
    def log_message(self, *args): pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def test_a_service_that_dies_during_the_run_is_an_error_with_its_log(project: Project) -> None:
    project.write("dying.py", DYING)
    project.config(f"""
environments: {{local: {{command: ["{sys.executable}", dying.py, "{{port}}"]}}}}
health: {{checks: [{{name: kill, path: /health}}, {{name: after, path: /health}}]}}
smoke: {{checks: []}}
gates: {{g: {{retries: 0, cases: [{{prompt: a, assert: ["contains: a"]}}]}}}}
""")
    done = project.run()
    assert done.code == 1, done.out  # the answer that broke off is a FAIL of the first check
    verdicts = done.verdicts()
    assert verdicts["health::kill"] == "FAIL"
    assert {verdicts[name] for name in verdicts if name != "health::kill"} == {"ERROR"}
    told = "the service has ended during the run: it ended with exit code 3"
    assert told in done.out
    assert done.out.count("  | FATAL: out of ?[31mmemory") == 1
    assert "Traceback" not in done.out


def test_modules_of_the_project_do_not_break_our_processes(project: Project) -> None:
    for name in ("signal", "selectors", "json"):
        project.write(f"{name}.py", "raise RuntimeError('not the library')\n")
    project.config("environments: {local: {reference: {engine: scripted}}}\nsmoke: {checks: []}\n")
    script = str(Path(sys.executable).with_name("pytest"))
    done = subprocess.run(
        [script, "-p", "no:cacheprovider"],
        cwd=project.path,
        env=project.variables(),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout


ESCAPING = """
import os, signal, subprocess, sys
mark = sys.argv[2]
child = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(300)"
subprocess.Popen([sys.executable, "-c", child, mark], start_new_session=True)
import http.server
handler = http.server.SimpleHTTPRequestHandler
http.server.test(handler, port=int(sys.argv[1]), bind="127.0.0.1")
"""


def test_children_in_sessions_of_their_own_end_too(project: Project) -> None:
    mark = f"escaped-{project.path.name}"
    project.write("escaping.py", ESCAPING)
    project.write("ready", "")
    project.config(f"""
environments: {{local: {{command: ["{sys.executable}", escaping.py, "{{port}}", {mark}]}}}}
health: {{checks: [{{name: ready, path: /ready}}]}}
smoke: {{checks: []}}
""")
    assert project.run().code == 0
    assert processes_of(mark) == []


def test_a_secret_in_an_endless_line_is_not_logged(project: Project) -> None:
    secret = "super-secret-key-123"
    script = (
        "import os; print('x' * 65526 + os.environ['KEY']); print('seen', os.environ['KEY']); "
        "raise SystemExit(1)"
    )
    project.config(f"""
environments:
  local: {{command: ["{sys.executable}", -c, "{script}"], variables: {{K: "${{KEY}}"}}}}
smoke: {{checks: []}}
""")
    done = project.run(env={"KEY": secret})
    assert done.code == 10
    (log,) = project.path.glob(".llmdeploy/*/services/*.log")
    assert log.read_text() == "(a line of more than 64 KiB is left out)\nseen ***\n"
    assert "  | seen ***" in done.out
