"""A gate beside an earlier run of the same cases."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmdeploy.assembly.baselines import BLESSED, find_baseline
from pytest_llmdeploy.config.gates import BaselineConfig
from pytest_llmdeploy.errors import NotMeasuredError
from pytest_llmdeploy.gates.baseline import Baseline, OldCase, blessed, compare, read_baseline
from pytest_llmdeploy.gates.baseline import differences as shown
from pytest_llmdeploy.verdicts import Verdict

P, F, E = Verdict.PASS, Verdict.FAIL, Verdict.ERROR


def old(**cases: tuple[str | None, Verdict]) -> Baseline:
    gates = {"g": {name: OldCase(*case, (f"old {name}",)) for name, case in cases.items()}}
    return Baseline("main.json", "run-1", gates)


def now(**cases: tuple[str, Verdict]) -> dict[str, dict[str, Any]]:
    return {
        name: {
            "hash": each,
            "verdict": str(verdict),
            "reason": f"why {name}",
            "samples": [{"text": f"new {name}"}],
        }
        for name, (each, verdict) in cases.items()
    }


def many(passed_then: int, passed_now: int, total: int) -> tuple[Baseline, dict[str, Any]]:
    names = [f"c{n}" for n in range(total)]
    then = {name: ("h", P if n < passed_then else F) for n, name in enumerate(names)}
    results = {name: ("h", P if n < passed_now else F) for n, name in enumerate(names)}
    return old(**then), now(**results)


def test_each_case_is_paired_or_named() -> None:
    then = old(same=("1", P), worse=("2", P), better=("3", F), edited=("4", P), gone=("5", P))
    results = now(same=("1", P), worse=("2", F), better=("3", P), edited=("44", P), new=("6", F))
    told = compare(then, "g", results, BaselineConfig())
    assert told.verdict is Verdict.INCONCLUSIVE
    assert told.regressed == ("worse",)
    assert told.fixed == ("better",)
    assert told.not_comparable == {
        "changed": ("edited",),
        "not in the baseline": ("new",),
        "no longer there": ("gone",),
    }
    assert told.reason == (
        "of 3 cases 1 passed with the baseline only and 1 with this run only: a difference of"
        " +0.0 points (between -62.5 and +62.5), p = 1; not enough to tell whether it is within"
        " the 2 points allowed; not comparable: 1 changed, 1 not in the baseline, 1 no longer"
        " there"
    )
    assert shown(told).splitlines() == [
        "  regressed worse: why worse",
        "    then: 'old worse'",
        "    now : 'new worse'",
        "  fixed better: why better",
        "    then: 'old better'",
        "    now : 'new better'",
        "  not comparable, changed: edited",
        "  not comparable, not in the baseline: new",
        "  not comparable, no longer there: gone",
    ]


@pytest.mark.parametrize(
    ("passed_then", "passed_now", "total", "verdict"),
    [
        (200, 200, 200, Verdict.PASS),
        (200, 199, 400, Verdict.PASS),
        (200, 180, 200, Verdict.FAIL),
        (10, 10, 10, Verdict.INCONCLUSIVE),
        (10, 5, 10, Verdict.FAIL),  # five regressions and no fix: p = 1/32
        (10, 8, 10, Verdict.INCONCLUSIVE),
    ],
)
def test_verdicts(passed_then: int, passed_now: int, total: int, verdict: Verdict) -> None:
    baseline, results = many(passed_then, passed_now, total)
    assert compare(baseline, "g", results, BaselineConfig()).verdict is verdict


def test_what_was_not_measured_is_no_pair() -> None:
    told = compare(
        old(a=("1", E), b=("2", P), c=("3", P)),
        "g",
        now(a=("1", P), b=("2", E), c=("3", P)),
        BaselineConfig(),
    )
    assert told.not_comparable == {"not measured": ("a", "b")}
    assert told.detail["compared"] == 1


def test_nothing_to_compare_is_not_measured() -> None:
    with pytest.raises(NotMeasuredError) as caught:
        compare(old(a=(None, P)), "g", now(a=("1", P)), BaselineConfig())
    assert str(caught.value) == ("no case of gate 'g' can be compared with main.json: 1 changed")
    with pytest.raises(NotMeasuredError, match="has no gate 'h'; its gates: g"):
        compare(old(a=("1", P)), "h", now(a=("1", P)), BaselineConfig())


def test_a_report_and_what_is_blessed_of_it_are_the_same_baseline() -> None:
    item = {
        "stage": "gates",
        "name": "g::a",
        "gate": "x.yaml::gates::g",
        "judges_gate": False,
        "verdict": "PASS",
        "detail": {"hash": "1", "samples": [{"text": "hi"}, {"error": "none"}]},
    }
    gate = {**item, "name": "g::gate", "judges_gate": True, "detail": {}}
    smoke = {**item, "stage": "smoke", "gate": None}
    report = {"run": {"id": "r"}, "items": [item, gate, smoke]}
    read = read_baseline(json.dumps(report), "report.json")
    assert read.gates == {"g": {"a": OldCase("1", P, ("hi", ""))}}
    again = read_baseline(json.dumps(blessed(read)), "report.json")
    assert again == read


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"items": 3}', '{"run": "r", "gates": {"g": 1}}']
)
def test_what_is_no_baseline(text: str) -> None:
    with pytest.raises(NotMeasuredError, match=r"^x is no baseline: expected a run's report.json"):
        read_baseline(text, "x")


@given(st.lists(st.sampled_from([P, F, E]), min_size=1), st.data())
def test_no_case_is_lost(verdicts: list[Verdict], data: st.DataObject) -> None:
    then = {f"c{n}": (data.draw(st.sampled_from(["1", "2"])), v) for n, v in enumerate(verdicts)}
    names = data.draw(st.lists(st.sampled_from([*then, "new"]), unique=True, min_size=1))
    results = now(**{name: ("1", data.draw(st.sampled_from([P, F, E]))) for name in names})
    try:
        told = compare(old(**then), "g", results, BaselineConfig())
    except NotMeasuredError:
        return
    left_out = [case for cases in told.not_comparable.values() for case in cases]
    assert len(left_out) == len(set(left_out))
    assert told.detail["compared"] + len(left_out) == len({*then, *results})


def git(root: Path, *arguments: str) -> None:
    identity: Mapping[str, str] = {"user.name": "a", "user.email": "a@example.com"}
    settings = [part for key, value in identity.items() for part in ("-c", f"{key}={value}")]
    subprocess.run(["git", "-C", root, *settings, *arguments], check=True, capture_output=True)


def test_a_commit_of_the_project(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    service = tmp_path / "service"
    service.mkdir()
    kept = old(a=("1", P))
    (service / BLESSED).write_text(json.dumps(blessed(kept)))
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "x")
    git(tmp_path, "tag", "v1")
    (service / BLESSED).unlink()
    assert find_baseline("git:v1", service).gates == kept.gates
    with pytest.raises(NotMeasuredError) as caught:
        find_baseline("git:v2", service)
    assert str(caught.value).startswith(
        f"--llmdeploy-baseline: git:v2 has no {BLESSED} in service/: fatal:"
    )
    with pytest.raises(NotMeasuredError, match=r"has no llmdeploy-baseline\.json"):
        find_baseline("git:--output=x", service)
    assert not (service / "x").exists()


def test_an_output_folder(tmp_path: Path) -> None:
    with pytest.raises(NotMeasuredError, match="cannot be read"):
        find_baseline(str(tmp_path), tmp_path)
    (tmp_path / BLESSED).write_text(json.dumps(blessed(old(a=("1", P)))))
    assert find_baseline(str(tmp_path), tmp_path).name == str(tmp_path / BLESSED)
