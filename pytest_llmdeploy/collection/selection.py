"""What a run selected of each gate."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from pytest_llmdeploy.collection.gates import CaseItem, GateItem


def note_selected(items: Sequence[pytest.Item]) -> None:
    """Tell each gate which cases are asked, and who decides about their failures.

    A gate's own item asks every case of its suite. Where it runs, a case that misses is counted
    by the gate and does not fail the run by itself.
    """
    gates = {item.plan.suite.key: item for item in items if isinstance(item, GateItem)}
    selected: dict[str, list[CaseItem]] = {key: [] for key in gates}
    for item in items:
        if isinstance(item, CaseItem):
            selected.setdefault(item.plan.suite.key, []).append(item)
    for key, cases in selected.items():
        gate = gates.get(key)
        if gate is not None:
            gate.plan.decides = True
            gate.plan.wanted = list(gate.plan.suite.cases)
            for case in cases:
                case.counted = True
        else:
            cases[0].plan.wanted = [case.case.id for case in cases]
