"""What each verdict does to the item, to the run's exit code and to its report."""

from __future__ import annotations

import pytest

from tests.plugin.conftest import Project, free_port

ECHO = """
service: {version_header: x-llm-version}
environments:
  local: {url: "{url}"}
health: {checks: []}
smoke: {checks: []}
gates:
  echo:
    prompt: "Say exactly: {{ word }}"
    retries: 0
"""
CASES = """
    cases:
      - {id: a, vars: {word: Paris}, assert: ["icontains: paris"]}
      - {id: b, vars: {word: Rome}, assert: ["equals: Rome"]}
      - {id: c, vars: {word: Oslo}, assert: ["equals: %s"]}
"""
HOPELESS = CASES % "Bergen"
FINE = CASES % "Oslo"


def test_all_pass_is_0(project: Project) -> None:
    project.config(ECHO + FINE)
    done = project.run()
    assert (done.code, done.counts()) == (0, {"passed": 4})
    assert done.report["overall_status"] == "pass"
    assert done.report["pass_rate"] == 1.0
    assert "gate echo  PASS  pass rate 1.00 (3 of 3) >= min_pass_rate 1.00" in done.out


def test_a_failed_gate_is_1_and_its_cases_are_counted_not_failed(project: Project) -> None:
    project.config(ECHO + HOPELESS)
    done = project.run()
    assert (done.code, done.counts()) == (1, {"failed": 1, "passed": 2, "missed": 1})
    assert done.verdicts() == {
        "gates::echo::a": "PASS",
        "gates::echo::b": "PASS",
        "gates::echo::c": "FAIL",
        "gates::echo::gate": "FAIL",
    }
    assert 'equals: expected the answer to equal "Bergen", got "Oslo"' in done.out


def test_a_gate_that_allows_misses_passes_with_them(project: Project) -> None:
    project.config(ECHO + "    min_pass_rate: 0.6\n" + HOPELESS)
    done = project.run()
    assert (done.code, done.counts()) == (0, {"passed": 3, "missed": 1})
    assert done.report["gates"][0]["passed"] == 2
    assert done.report["overall_status"] == "pass"


def test_a_case_without_its_gate_fails_by_itself(project: Project) -> None:
    project.config(ECHO + "    min_pass_rate: 0.6\n" + HOPELESS)
    done = project.run("llmdeploy.yaml::gates::echo::c")
    assert (done.code, done.counts()) == (1, {"failed": 1})
    assert "user: Say exactly: Oslo" in done.out


def test_the_gates_item_alone_asks_every_case(project: Project) -> None:
    project.config(ECHO + HOPELESS)
    done = project.run("llmdeploy.yaml::gates::echo::gate")
    assert (done.code, done.counts()) == (1, {"failed": 1})
    assert done.report["gates"][0]["total"] == 3


def test_what_cannot_be_measured_is_an_error_and_10(project: Project) -> None:
    dead = f"http://127.0.0.1:{free_port()}"
    project.config((ECHO + FINE).replace("{url}", dead))
    done = project.run("-k", "a or gate")
    assert done.code == 10
    assert "failed" not in done.counts()
    assert done.counts()["error"] == 1
    assert set(done.verdicts().values()) == {"ERROR"}
    assert f"ERROR a: {dead}/v1/models cannot be reached" in done.out
    assert done.report["overall_status"] == "fail"


def test_fail_outranks_error(project: Project) -> None:
    other = f"""
  dead:
    endpoint: {{base_url: "http://127.0.0.1:{free_port()}/v1", model: m}}
    retries: 0
    cases: [{{id: x, prompt: hello, assert: ["contains: a"]}}]
"""
    project.config(ECHO + HOPELESS + other)
    done = project.run()
    assert done.code == 1
    assert done.verdicts()["gates::dead::gate"] == "ERROR"


UNSURE = """
environments:
  local: {reference: {engine: scripted, faults: ["error-500=0.34"]}}
health: {checks: []}
smoke: {checks: []}
gates:
  echo:
    prompt: "Say exactly: {{ word }}"
    retries: 0
    concurrency: 1
    max_error_rate: 0.5
    min_pass_rate: 0.7
"""


@pytest.mark.parametrize(("policy", "outcome"), [("fail", "failed"), ("skip", "skipped")])
def test_inconclusive_is_11(project: Project, policy: str, outcome: str) -> None:
    project.config(UNSURE + FINE + f"policy: {{inconclusive: {policy}}}\n")
    done = project.run()
    assert done.report["gates"][0]["verdict"] == "INCONCLUSIVE", done.out
    assert done.code == 11
    assert done.counts()[outcome] == 1


def test_a_failing_test_of_the_users_own_stays_1(project: Project) -> None:
    project.config(ECHO.replace("{url}", f"http://127.0.0.1:{free_port()}") + FINE)
    project.write("test_own.py", "def test_it():\n    assert False\n")
    assert project.run().code == 1


def test_nothing_selected_is_5(project: Project) -> None:
    project.config(ECHO + FINE)
    done = project.run("-m", "load")
    assert done.code == 5
    assert done.report["verdict"] == "ERROR"
    assert done.report["overall_status"] == "fail"


def test_a_broken_file_is_2_and_says_so_once(project: Project) -> None:
    project.config("environments: {local: {}}\nsmok: {}\n")
    done = project.run()
    assert done.code == 2
    assert "llmdeploy.yaml:2: smok: unknown key 'smok', did you mean 'smoke'?" in done.out
    assert "Traceback" not in done.out
    assert done.report["verdict"] == "ERROR"


def test_x_stops_at_the_first_failure(project: Project) -> None:
    project.config(ECHO + HOPELESS.replace("id: a", "id: z").replace("paris", "lima"))
    done = project.run("-x", "-k", "z or b or c", "--deselect", "llmdeploy.yaml::gates::echo::gate")
    assert (done.code, done.counts()) == (1, {"failed": 1, "deselected": 1})


def test_lf_repeats_a_failed_gate_and_its_missed_cases(project: Project) -> None:
    project.config(ECHO + HOPELESS)
    project.run(cache=True)
    done = project.run("--lf", "-v", cache=True)
    assert "::echo::c MISSED" in done.out
    assert "::echo::gate FAILED" in done.out
    assert "::echo::a " not in done.out


def test_k_and_tags_select_cases(project: Project) -> None:
    tagged = FINE.replace("{id: b,", "{id: b, tags: [short],")
    project.config(ECHO + tagged)
    done = project.run("-k", "short")
    assert list(done.verdicts()) == ["gates::echo::b"]


def test_collect_only_asks_nothing_and_writes_nothing(project: Project) -> None:
    project.config(ECHO.replace("{url}", f"http://127.0.0.1:{free_port()}") + FINE)
    done = project.run("--collect-only", "-q")
    assert done.code == 0
    assert "llmdeploy.yaml::gates::echo::gate" in done.out
    assert "llmdeploy: " not in done.out.replace("llmdeploy: environment", "")
    assert not (project.path / ".llmdeploy").exists()


def test_a_service_that_does_not_start_is_told_once(project: Project) -> None:
    command = '{command: ["python3", "-c", "print(2 ** 70)"]}'
    project.config(ECHO.replace('{url: "{url}"}', command) + FINE)
    done = project.run()
    assert done.code == 10
    assert done.out.count("| 1180591620717411303424") == 1
    assert "(more at the first error of the run)" in done.out


def test_names_do_not_depend_on_the_folders_above(project: Project) -> None:
    text = (ECHO + FINE).replace("{url}", project.url).replace("\n  echo:", "\n  gates:")
    project.write("gates/health/llmdeploy.yaml", text)
    done = project.run()
    assert list(done.verdicts())[-1] == "gates::gates::gate"
    assert done.report["gates"][0]["name"] == "gates"
