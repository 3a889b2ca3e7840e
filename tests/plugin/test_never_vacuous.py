"""Nothing that pytest saw fail, and nothing that was not asked, ends as a pass."""

from __future__ import annotations

import subprocess

import pytest

from tests.plugin.conftest import Project, free_port
from tests.plugin.test_verdicts_and_exit_codes import ECHO, FINE, HOPELESS


@pytest.mark.parametrize(
    "conftest",
    [
        "def pytest_runtest_call(item): raise RuntimeError('from a hook')",
        """
import pytest
@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item):
    yield
    raise RuntimeError("from a hook")
""",
        """
import pytest
@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session):
    result = yield
    session.testsfailed += 1  # as coverage's --cov-fail-under does
    return result
""",
    ],
)
def test_a_failure_that_others_see_is_not_cancelled(project: Project, conftest: str) -> None:
    project.config(ECHO + FINE)
    project.write("conftest.py", conftest)
    done = project.run()
    assert done.code == 1
    assert done.report["overall_status"] == "fail"


def test_an_item_that_breaks_before_it_is_measured_is_not_counted(project: Project) -> None:
    project.config(ECHO + "    min_pass_rate: 0.1\n" + FINE)
    project.write(
        "conftest.py",
        """
import pytest
@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    if item.name == "a":
        raise RuntimeError("from a hook")
""",
    )
    done = project.run()
    assert done.code == 10
    assert done.counts() == {"passed": 3, "error": 1}


def test_skips_and_expected_failures_give_no_verdict(project: Project) -> None:
    project.config(ECHO.replace("health: {checks: []}", "") + HOPELESS)
    project.write(
        "conftest.py",
        """
import pytest
def pytest_collection_modifyitems(items):
    for item in items:
        if item.name == "health":
            item.add_marker(pytest.mark.skip(reason="not today"))
        if item.name == "gate":
            item.add_marker(pytest.mark.xfail(reason="known"))
        if item.name == "c":
            item.add_marker(pytest.mark.skip(reason="not today"))
""",
    )
    done = project.run()
    assert done.counts() == {"passed": 3, "skipped": 2, "xfailed": 1}
    assert done.code == 0
    assert set(done.verdicts()) == {"health::ready", "gates::echo::a", "gates::echo::b"}


def test_missed_cases_count_where_their_gate_gave_no_verdict(project: Project) -> None:
    project.config(ECHO + HOPELESS)
    project.write(
        "conftest.py",
        """
import pytest
def pytest_collection_modifyitems(items):
    for item in items:
        if item.name == "gate":
            item.add_marker(pytest.mark.skip(reason="not today"))
""",
    )
    assert project.run().code == 1


def test_two_runs_cannot_share_an_output_folder(project: Project) -> None:
    project.config(ECHO + FINE)
    command = project.command("--llmdeploy-output", "out")
    runs = [
        subprocess.Popen(
            command,
            cwd=project.path,
            env=project.variables(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(2)
    ]
    outputs = [run.communicate(timeout=100)[0] for run in runs]
    assert sorted(run.returncode for run in runs) == [0, 4], outputs
    refused = outputs[0] if runs[0].returncode == 4 else outputs[1]
    assert "ERROR: --llmdeploy-output: 'out'" in refused
    assert "Traceback" not in refused


@pytest.mark.parametrize("folder", ["afile", "afile/x", "/proc/nope/x", "x" * 300])
def test_an_output_folder_that_cannot_be_is_a_usage_error(project: Project, folder: str) -> None:
    project.config(ECHO + FINE)
    project.write("afile", "")
    done = project.run("--llmdeploy-output", folder)
    assert done.code == 4
    assert "ERROR: --llmdeploy-output: '" in done.out
    assert "Traceback" not in done.out


def test_a_default_output_folder_that_cannot_be_made_is_an_error(project: Project) -> None:
    project.config(ECHO + FINE)
    project.write(".llmdeploy", "a file of the user's")
    done = project.run()
    assert done.code == 10
    assert "the output folder cannot be made" in done.out
    assert "Traceback" not in done.out


def test_a_report_that_cannot_be_written_is_told_and_changes_nothing(project: Project) -> None:
    project.config(ECHO + FINE)
    done = project.run(env={"GITHUB_OUTPUT": "/no/such/folder/out"})
    assert done.code == 0
    expected = "WARNING: a report was not written: [Errno 2] No such file or directory"
    assert expected in done.out
    assert "Traceback" not in done.out


@pytest.mark.parametrize("word", ["text", "samples", "PASS", "verdict", "messages"])
def test_a_secret_that_is_a_word_of_ours_breaks_nothing(project: Project, word: str) -> None:
    config = ECHO + HOPELESS.replace("    cases:", "    parameters: {user: '${WORD}'}\n    cases:")
    project.config(config)
    done = project.run(env={"WORD": word})
    assert done.code == 1
    assert list(done.verdicts().values()) == ["PASS", "PASS", "FAIL", "FAIL"]
    assert "Traceback" not in done.out


def test_a_protected_environment_beside_the_test_is_seen(project: Project) -> None:
    project.write(
        "service_a/llmdeploy.yaml",
        f"""
environments: {{prod: {{url: "http://127.0.0.1:{free_port()}", protected: true}}}}
health: {{checks: []}}
smoke: {{checks: []}}
""",
    )
    project.write(
        "service_a/test_release.py",
        """
import pytest
@pytest.mark.canary
def test_change():
    open("changed", "w").close()
""",
    )
    done = project.run("--env", "prod", "-rs")
    assert done.counts() == {"skipped": 1}
    assert "the environment 'prod' is protected" in done.out
    assert not (project.path / "changed").exists()
