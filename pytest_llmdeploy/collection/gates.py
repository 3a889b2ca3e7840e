"""The items of one gate."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from pytest_llmdeploy.collection.items import MissingItem, StageItem, shown_plainly
from pytest_llmdeploy.errors import (
    ConfigError,
    GateWarning,
    MissingExtraError,
    NotMeasuredError,
)
from pytest_llmdeploy.events import Measurement
from pytest_llmdeploy.gates.baseline import Compared, differences
from pytest_llmdeploy.gates.case import RESERVED_ID, Case
from pytest_llmdeploy.gates.counting import NOT_ASKED, vacuous_reasons
from pytest_llmdeploy.gates.decision import Decision
from pytest_llmdeploy.gates.decision_checks import check_decision, hopeless
from pytest_llmdeploy.gates.findings import Finding
from pytest_llmdeploy.gates.summary import summarize
from pytest_llmdeploy.verdicts import Verdict

if TYPE_CHECKING:
    from _pytest._code.code import ExceptionInfo, TerminalRepr

    from pytest_llmdeploy.assembly.gate_plans import GatePlan
    from pytest_llmdeploy.gates.store import Result
    from pytest_llmdeploy.gates.suite import Suite

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
        self.is_case = True
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
        gate = GateItem.from_parent(self, name=RESERVED_ID, plan=ready)
        self._check(ready, gate)
        return [*items, gate]

    @staticmethod
    def _check(plan: GatePlan, gate: pytest.Item) -> None:
        """Raise ConfigError for a decision that the cases do not fit; warn of a hopeless one."""
        cases = plan.suite.cases
        try:
            check_decision(plan.name, plan.config, cases, plan.loaded.where)
        except ConfigError as error:
            raise error.redacted(plan.loaded.redactor) from None
        if os.environ.get("PYTEST_XDIST_WORKER", "gw0") == "gw0":  # each worker collects it all
            for text in hopeless(Decision(plan.config, cases)):
                gate.warn(GateWarning(f"gate {plan.name}: {text}"))

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
    """Wait for one case's result.

    A case that was left out is skipped without a verdict where its gate tells of it.
    """
    from pytest_llmdeploy.gates.engine import NotNeededError

    try:
        result = plan.result(case.id)
    except NotNeededError as error:
        pytest.skip(str(error))
    if left_out := result.get(NOT_ASKED):
        if plan.decides:
            pytest.skip(f"not asked: {left_out}")
        return Measurement(Verdict.INCONCLUSIVE, f"not asked: {left_out}", result)
    verdict = Verdict(result["verdict"])
    if verdict is Verdict.PASS and case.vacuous and not plan.decides:
        reason = f"nothing was asserted: the case passes whatever the answer ({case.vacuous})"
        return Measurement(Verdict.ERROR, reason, result, partial(explain, case, result))
    return Measurement(verdict, result["reason"], result, partial(explain, case, result))


def measure_gate(plan: GatePlan) -> Measurement:
    """Wait for all results of the suite and decide the gate."""
    results = plan.results()
    suite, decision = plan.suite, Decision(plan.config, plan.suite.cases)
    judged = decision.judge(results)
    if len(results) < len(suite.cases) and not (plan.config.decision.stop_early and judged.settled):
        raise NotMeasuredError(f"{len(results)} results for {len(suite.cases)} cases")
    compared = None
    try:
        compared = plan.compared(results)
    except NotMeasuredError as error:  # what the gate found out by itself is told all the same
        judged = judged.beside(Finding("baseline", Verdict.ERROR, str(error)))
    if compared is not None:
        judged = judged.beside(Finding("baseline", compared.verdict, compared.reason))
    detail = {
        **judged.detail,
        "findings": [finding.record() for finding in judged.findings],
        **summarize(results),
    }
    if compared is not None:
        detail["baseline"] = dict(compared.detail)
    if warnings := hopeless(decision):
        detail["warnings"] = warnings
    if suite.imported is not None:
        detail["imported"] = imported_detail(suite)
    missed = {
        case_id: results[case_id]
        for case_id in suite.cases
        if case_id in results
        and results[case_id]["verdict"] != Verdict.PASS
        and not results[case_id].get(NOT_ASKED)
    }
    told = None
    if missed or suite.imported or compared:
        told = partial(explain_gate, suite, missed, compared)
    return Measurement(judged.verdict, judged.reason, detail, told)


def imported_detail(suite: Suite) -> dict[str, Any]:
    """Return what is to say about a suite of another tool, as builtins."""
    imported = suite.imported
    assert imported is not None
    return {
        "format": imported.format,
        "unsupported": dict(imported.unsupported),
        "vacuous": dict(imported.vacuous) or vacuous_reasons(suite.cases),
        "warnings": list(imported.warnings),
    }


def explain_gate(
    suite: Suite, missed: Mapping[str, Result], compared: Compared | None = None
) -> str:
    """Return what could not be taken over from another tool, what did not pass, what changed."""
    lines = []
    if suite.imported is not None:
        lines.append(compatibility(imported_detail(suite)))
    if missed:
        lines.append(list_missed(missed))
    if compared is not None and (told := differences(compared)):
        lines.append(told)
    return "\n".join(lines)


def compatibility(imported: Mapping[str, Any]) -> str:
    """Return one line about a suite of another tool."""
    parts = [
        f"{sum(counts.values())} rows {what} ({_counted(counts)})"
        for key, what in (
            ("unsupported", "cannot be judged here"),
            ("vacuous", "pass whatever the answer"),
        )
        if (counts := imported[key])
    ]
    parts += imported["warnings"]
    return f"  {imported['format']}: {'; '.join(parts) or 'every row is judged as there'}"


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{why}: {number}" for why, number in counts.items())


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
