"""Budgets and stopping early, as a user meets them, over several processes."""

from __future__ import annotations

from tests.plugin.conftest import Project

CASES = "\n".join(
    f'      - {{id: c{n}, vars: {{word: w{n}}}, assert: ["contains: w"]}}' for n in range(40)
)
CONFIG = f"""
service: {{model: scripted}}
environments: {{local: {{url: "{{url}}"}}}}
health: {{checks: []}}
smoke: {{checks: []}}
BUDGET
gates:
  echo:
    prompt: "Say exactly: {{{{ word }}}}"
    concurrency: 2
    cases:
{CASES}
"""


def test_a_budget_is_kept_over_processes_and_leaves_the_gate_open(project: Project) -> None:
    project.config(CONFIG.replace("BUDGET", "budget: {requests: 12}"))
    done = project.run("-m", "gates", "-n", "2")
    assert done.counts() == {"passed": 12, "skipped": 28, "failed": 1}
    assert done.verdicts()["gates::echo::gate"] == "INCONCLUSIVE"
    assert "28 of 40 cases were not asked: the budget of 12 requests is spent" in " ".join(
        done.out.split()
    )


def test_cases_without_their_gate_do_not_pass_by_being_left_out(project: Project) -> None:
    project.config(CONFIG.replace("BUDGET", "budget: {requests: 2}"))
    done = project.run("-m", "gates", "-k", "c1 or c2 or c3")
    assert done.code != 0
    assert done.counts()["passed"] == 2


def test_a_budget_in_dollars_needs_prices(project: Project) -> None:
    project.config(CONFIG.replace("BUDGET", "budget: {dollars: 1}"))
    done = project.run("-m", "gates")
    assert done.code != 0
    assert "budget.dollars: budget.dollars needs the price of 'scripted': add it" in done.out


def test_stopping_early_skips_the_rest_and_keeps_the_verdict(project: Project) -> None:
    early = "    min_pass_rate: 0.5\n    decision: {stop_early: true, rule: point}\n    cases:\n"
    project.config(CONFIG.replace("BUDGET", "").replace("    cases:\n", early))
    done = project.run("-m", "gates", "-n", "2")
    counts = done.counts()
    assert done.code == 0
    assert counts["passed"] + counts["skipped"] == 41
    assert counts["skipped"] >= 10
    assert done.verdicts()["gates::echo::gate"] == "PASS"
