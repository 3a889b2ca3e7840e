"""The items of one gate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from pytest_llmdeploy.collection.items import MissingItem, StageItem, shown_plainly
from pytest_llmdeploy.errors import MissingExtraError, NotMeasuredError
from pytest_llmdeploy.events import Measurement
from pytest_llmdeploy.gates.case import RESERVED_ID, Case
from pytest_llmdeploy.verdicts import Verdict
from pytest_llmdeploy.verdicts.pass_rate import judge_pass_rate

if TYPE_CHECKING:
    from _pytest._code.code import ExceptionInfo, TerminalRepr

    from pytest_llmdeploy.assembly import GatePlan
    from pytest_llmdeploy.gates.store import Result

MOST_MISSED = 20


class CaseItem(StageItem):
    """One case of a gate."""

    def __init__(self, *, plan: GatePlan, case: Case, **kwargs: Any) -> None:
        super().__init__(
            stage="gates",
            loaded=plan.loaded,
            line=case_line(case),
            measure=partial(measure_case, plan, case),
            **kwargs,
        )
        self.plan = plan
        self.case = case
        self.gate = self.parent.nodeid if self.parent else None
        self.extra_keyword_matches.update(case.tags)


class GateItem(StageItem):
    """The verdict on a whole suite; asks every case of it, selected or not."""

    def __init__(self, *, plan: GatePlan, **kwargs: Any) -> None:
        super().__init__(
            stage="gates",
            loaded=plan.loaded,
            line=plan.loaded.where("gates", plan.name)[1],
            measure=partial(measure_gate, plan),
            **kwargs,
        )
        self.plan = plan
        self.gate = self.parent.nodeid if self.parent else None
        self.judges_gate = True


class SuiteNode(pytest.Collector):
    """One gate: an item per case, then the gate's own."""

    def __init__(self, *, plan: Callable[[], GatePlan], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._plan = plan

    def collect(self) -> list[pytest.Item]:
        """Return the items of the suite."""
        try:
            ready = self._plan()
        except MissingExtraError as error:
            return [
                MissingItem.from_parent(self, name=RESERVED_ID, stage="gates", reason=str(error))
            ]
        items: list[pytest.Item] = [
            CaseItem.from_parent(self, name=case_id, plan=ready, case=case)
            for case_id, case in ready.suite.cases.items()
        ]
        return [*items, GateItem.from_parent(self, name=RESERVED_ID, plan=ready)]

    def repr_failure(  # type: ignore[override]  # pytest's own collectors narrow it alike
        self, excinfo: ExceptionInfo[BaseException]
    ) -> str | TerminalRepr:
        """Show what is wrong with a case file, without our traceback."""
        return shown_plainly(self, excinfo)


def case_line(case: Case) -> int:
    """Return the 1-based line that a case's source names; 0 where it names none."""
    _, _, line = case.source.rpartition(":")
    return int(line) if line.isdigit() else 0


def measure_case(plan: GatePlan, case: Case) -> Measurement:
    """Wait for one case's result."""
    result = plan.result(case.id)
    verdict = Verdict(result["verdict"])
    return Measurement(verdict, result["reason"], result, partial(explain, case, result))


def measure_gate(plan: GatePlan) -> Measurement:
    """Wait for all results of the suite and judge its pass rate."""
    results = plan.results()
    if set(results) != set(plan.suite.cases):
        raise NotMeasuredError(f"{len(results)} results for {len(plan.suite.cases)} cases")
    outcomes = [
        (case.weight, Verdict(results[case_id]["verdict"]))
        for case_id, case in plan.suite.cases.items()
    ]
    config = plan.config
    judged = judge_pass_rate(outcomes, config.min_pass_rate, config.max_error_rate)
    detail = {
        "pass_rate": judged.pass_rate,
        "min_pass_rate": config.min_pass_rate,
        "passed": judged.passed,
        "failed": judged.failed,
        "errors": judged.errors,
        "total": judged.total,
        "error_rate": judged.error_rate,
    }
    missed = {
        case.id: result
        for case in plan.suite.cases.values()
        if (result := results[case.id])["verdict"] != Verdict.PASS
    }
    return Measurement(judged.verdict, judged.reason, detail, partial(list_missed, missed))


def list_missed(results: Mapping[str, Result]) -> str:
    """Return a line or two for each of the first cases that did not pass."""
    shown = list(results.items())[:MOST_MISSED]
    lines = [f"  {result['verdict']} {case_id}: {result['reason']}" for case_id, result in shown]
    if len(results) > len(shown):
        lines.append(f"  … and {len(results) - len(shown)} more in the report")
    return "\n".join(lines)


def explain(case: Case, result: Mapping[str, Any]) -> str:
    """Return what was asked and what came back, for a person to act on."""
    lines = [f"  case: {case.source}"]
    lines += [f"  {message['role']}: {message['content']}" for message in result["messages"]]
    for number, sample in enumerate(result["samples"], 1):
        which = f" {number}" if len(result["samples"]) > 1 else ""
        if sample.get("error"):
            lines.append(f"  no answer{which}: {sample['error']}")
            continue
        lines.append(f"  answer{which}: {sample['text']!r} ({sample['latency']:.2f} s)")
        for check in sample["assertions"]:
            lines.append(f"    {'ok  ' if check['passed'] else 'FAIL'} {check['reason']}")
    return "\n".join(lines)
