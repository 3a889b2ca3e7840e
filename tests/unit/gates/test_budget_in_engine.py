"""What a budget stops in the engine: also a judge's question; and what it counts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pytest_llmdeploy.config.gates import BudgetConfig, SuiteConfig
from pytest_llmdeploy.errors import NotMeasuredError, ThrottledError
from pytest_llmdeploy.gates.asking import Asking
from pytest_llmdeploy.gates.assertions import AssertionRegistry
from pytest_llmdeploy.gates.counting import NOT_ASKED
from pytest_llmdeploy.gates.decision import Decision
from pytest_llmdeploy.gates.engine import GateEngine
from pytest_llmdeploy.gates.store import Result
from pytest_llmdeploy.gates.suite import Clients, build_suite
from pytest_llmdeploy.ports import Answer
from pytest_llmdeploy.verdicts import Verdict


class Model:
    """Answers as it is told to, which may be with an exception; counts requests."""

    def __init__(self, say: Callable[[str], str]) -> None:
        self._say = say
        self.asked = 0

    async def ask(self, messages: Any, parameters: Any, timeout: float) -> Answer:
        self.asked += 1
        return Answer(self._say(str(messages[-1]["content"])), "stop", 1, 1, 0.0, "m")

    async def aclose(self) -> None:
        """Hold nothing."""


def good(question: str) -> str:
    key = question.rpartition("The key is ")[2].rstrip(".")
    return json.dumps({"id": key, "reason": "fine", "pass": True, "score": 1.0})


def run(
    root: Path, model: Model, grader: Model, requests: int, **keys: Any
) -> tuple[SuiteConfig, dict[str, Result], Decision]:
    config = SuiteConfig.model_validate(
        {"cases": [{"id": f"c{n}", "prompt": f"q{n}"} for n in range(4)], "concurrency": 1, **keys}
    )
    made = build_suite(
        key="k",
        name="s",
        config=config,
        root=root,
        where=lambda *_: ("f", 1),
        registry=AssertionRegistry(),
        timeout=5,
        clients=Clients(lambda: model, lambda: grader),
        redact=lambda value: value,
    )
    asking = Asking(budget=BudgetConfig(requests=requests), budget_name="b")
    engine = GateEngine(root / "r.sqlite", root / "p.pulse", workers=1)
    try:
        engine.want(made, list(made.cases), asking)
        results = engine.results("k")
    finally:
        engine.close(lambda: False)
    return config, results, Decision(config, made.cases)


def test_a_budget_that_stops_a_judge_leaves_the_gate_open(tmp_path: Path) -> None:
    model, judge = Model(lambda _: "hello"), Model(good)
    checks = {"assert": ["llm-rubric: is polite"]}
    _, results, decision = run(tmp_path, model, judge, 5, **checks)
    spent = "the budget of 5 requests is spent"
    assert model.asked + judge.asked == 5
    stopped = {case_id for case_id, result in results.items() if result.get(NOT_ASKED) == spent}
    passed = {case_id for case_id, result in results.items() if result["verdict"] == "PASS"}
    assert len(passed) == judge.asked
    assert stopped == set(results) - passed
    # Somebody's answer was there, and only its judge was not asked.
    assert any(results[case_id]["samples"][0].get("text") == "hello" for case_id in stopped)
    judged = decision.judge(results)
    assert judged.verdict == Verdict.INCONCLUSIVE
    assert spent in judged.reason


def test_a_vote_that_decides_needs_no_more_budget(tmp_path: Path) -> None:
    model, judge = Model(lambda _: "hello"), Model(good)
    keys = {"cases": [{"id": "c", "prompt": "q"}], "judge": {"votes": 3}}
    _, results, decision = run(
        tmp_path, model, judge, 3, **{"assert": ["llm-rubric: is polite"], **keys}
    )
    assert (model.asked, judge.asked) == (1, 2)
    assert results["c"]["verdict"] == "PASS"  # two of three agree, whatever the third would say
    assert decision.judge(results).verdict == Verdict.PASS


def test_a_refusal_counts_once_with_the_attempts_before_it(tmp_path: Path) -> None:
    trouble: list[NotMeasuredError] = []

    def say(_: str) -> str:
        if trouble:
            raise trouble.pop()
        return "hello"

    refused = ThrottledError("HTTP 429: busy", 0.0)
    refused.attempts = 2  # a 503 came before it
    trouble.append(refused)
    model = Model(say)
    checks = {"assert": ["equals: hello"]}
    # Two requests in vain, then four answers: six in all.
    _, results, _ = run(tmp_path, model, model, 6, **checks)
    assert {result["verdict"] for result in results.values()} == {"PASS"}
    assert sorted(result["samples"][0]["attempts"] for result in results.values()) == [1, 1, 1, 3]
