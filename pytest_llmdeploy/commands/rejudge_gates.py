"""``llmdeploy rejudge`` for gates: recorded answers judged by the file as it is now."""

from __future__ import annotations

import json
import sqlite3
import tempfile
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from pytest_llmdeploy.assembly import Assembly
from pytest_llmdeploy.assembly.gate_plans import GatePlan
from pytest_llmdeploy.errors import LLMDeployError, NotMeasuredError
from pytest_llmdeploy.gates.answers import RECORD, open_readable
from pytest_llmdeploy.gates.counting import NOT_ASKED
from pytest_llmdeploy.gates.decision import Decision
from pytest_llmdeploy.gates.store import Result
from pytest_llmdeploy.run import Replay, Run, new_run_id
from pytest_llmdeploy.verdicts import Verdict

MOST_FLIPS = 20
"""Cases of a gate that are listed one by one."""


class NoGateError(LLMDeployError):
    """Name the file of the run: none of its gates is in the record."""


def has_gates(folder: Path) -> bool:
    """Return whether a run's output folder holds answers of gates."""
    return (folder / RECORD).is_file()


def rejudge_gates(folder: Path, config: Path, environment: str) -> list[Verdict]:
    """Print each gate's verdict as it was and as it is now; return those of now.

    Nobody is asked: what the record does not have is an ERROR of its case.
    """
    recorded = _recorded(folder / RECORD)
    verdicts = _verdicts(folder / "report.json")
    with tempfile.TemporaryDirectory() as scratch:
        run = Run(
            id=new_run_id(),
            output=Path(scratch),
            environment=environment,
            replay=Replay("strict", folder),
        )
        assembly = Assembly(run, lambda _registry: None)
        try:
            loaded = assembly.load(config)
            names = [name for name in loaded.gates if name in recorded]
            if not names:
                there = ", ".join(recorded) or "none"
                raise NoGateError(f"{config} has none of the gates that {folder} holds: {there}")
            for name in recorded:
                if name not in names:
                    print(f"gate {name}: in the record, but not in {config}")
            return [
                _rejudge(assembly.gate_plan(loaded, name), recorded[name], verdicts.get(name))
                for name in names
            ]
        finally:
            assembly.close()


def _rejudge(plan: GatePlan, was: Mapping[str, Result | None], told: str | None) -> Verdict:
    """Print what became of one gate."""
    cases = plan.suite.cases
    left_out = {
        case_id: result
        for case_id, result in was.items()
        if result and result.get(NOT_ASKED) and case_id in cases
    }
    stopped = plan.config.decision.stop_early and None in was.values()
    plan.wanted = [
        case_id
        for case_id in cases
        if case_id not in left_out and not (stopped and was.get(case_id) is None)
    ]
    results = {**left_out, **{case_id: plan.result(case_id) for case_id in plan.wanted}}
    judged = Decision(plan.config, cases).judge(results)
    changed = " (CHANGED)" if told is not None and told != judged.verdict else ""
    print(f"gate {plan.name}: recorded {told or 'not recorded'}, now {judged.verdict}{changed}")
    print(f"  {judged.reason}")
    flips = [
        f"  {case_id}: {before['verdict'] if before else 'not recorded'} -> "
        f"{result['verdict']}: {result['reason']}"
        for case_id, result in results.items()
        if (before := was.get(case_id)) is None or before["verdict"] != result["verdict"]
    ]
    for line in flips[:MOST_FLIPS]:
        print(line)
    if len(flips) > MOST_FLIPS:
        print(f"  … and {len(flips) - MOST_FLIPS} more")
    for case_id in was:
        if case_id not in cases:
            print(f"  {case_id}: in the record, but no case of the file")
    return judged.verdict


def _recorded(path: Path) -> dict[str, dict[str, Result | None]]:
    """Return the results of a record by gate and case; None for a case that has none."""
    found: dict[str, dict[str, Result | None]] = {}
    try:
        with closing(open_readable(path)) as database:
            rows = database.execute("SELECT suite, id, result FROM cases ORDER BY suite, position")
            for suite, case_id, result in rows:
                file, separator, name = suite.rpartition("::")
                if not separator or not file or " at " in name:
                    continue  # of a release's or a test's own
                found.setdefault(name, {})[case_id] = None if result is None else _needed(result)
    except (sqlite3.Error, ValueError, KeyError) as error:
        raise NotMeasuredError(f"the record {path} cannot be read: {error}") from error
    return found


def _needed(text: str) -> Result:
    """Return what is compared of a result; the whole only where it is counted as it was."""
    result: Result = json.loads(text)
    return result if result.get(NOT_ASKED) else {"verdict": result["verdict"]}


def _verdicts(path: Path) -> dict[str, str]:
    """Return the gates' verdicts by name, as the run told them; empty where it did not end."""
    try:
        items: list[dict[str, Any]] = json.loads(path.read_bytes())["items"]
        return {
            str(item["name"]).rpartition("::")[0]: str(item["verdict"])
            for item in items
            if item.get("judges_gate") or str(item["name"]).endswith("::gate")
        }
    except (OSError, ValueError, KeyError, TypeError):
        return {}
