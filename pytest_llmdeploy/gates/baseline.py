"""A gate beside an earlier run of the same cases: which of them pass now, and which no longer.

A baseline is the report of a run, or the file that ``llmdeploy bless`` makes of one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pytest_llmdeploy.config.gates import BaselineConfig
from pytest_llmdeploy.errors import NotMeasuredError
from pytest_llmdeploy.gates.store import Result
from pytest_llmdeploy.gates.wording import middle_cut
from pytest_llmdeploy.verdicts import Verdict
from pytest_llmdeploy.verdicts.paired import judge_paired

SCHEMA_VERSION = "1.0"
MOST_SHOWN = 20
"""So many regressed and fixed cases are told with both answers; the rest by name."""
LONGEST_ANSWER = 500
"""Characters of an answer that are kept beside the other one."""


@dataclass(frozen=True, slots=True)
class OldCase:
    """What became of a case in the baseline."""

    hash: str | None
    """See `case_hash`; None where the report is older than such hashes."""
    verdict: Verdict
    answers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Baseline:
    """An earlier run."""

    name: str
    """Where it comes from, for the report."""
    run: str
    gates: Mapping[str, Mapping[str, OldCase]]
    """Cases by gate and id."""


@dataclass(frozen=True, slots=True)
class Compared:
    """A gate beside its baseline."""

    verdict: Verdict
    reason: str
    regressed: tuple[str, ...]
    """Ids of cases that passed then and fail now."""
    fixed: tuple[str, ...]
    not_comparable: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Ids by why: changed, not in the baseline, no longer there, not measured."""
    detail: Mapping[str, Any] = field(default_factory=dict)
    """Numbers, and both answers of the cases that differ, as builtins."""


def read_baseline(text: str, name: str) -> Baseline:
    """Return the baseline of a report.json or a blessed file; raise NotMeasuredError."""
    try:
        data = json.loads(text)
        if "items" in data:
            return Baseline(name, str(data["run"]["id"]), _of_report(data["items"]))
        gates = {
            gate: {
                case: OldCase(old["hash"], Verdict(old["verdict"]), _texts(old["answers"], case))
                for case, old in cases.items()
            }
            for gate, cases in data["gates"].items()
        }
        return Baseline(name, str(data["run"]), gates)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise NotMeasuredError(
            f"{name} is no baseline: expected a run's report.json, or what `llmdeploy bless` made"
            f" of one ({type(error).__name__}: {error})"
        ) from error


def _texts(answers: object, case: str) -> tuple[str, ...]:
    if not isinstance(answers, list) or not all(isinstance(one, str) for one in answers):
        raise ValueError(f"the answers of case '{case}' are no list of texts")
    return tuple(answers)


def _of_report(items: list[Mapping[str, Any]]) -> dict[str, dict[str, OldCase]]:
    gates: dict[str, dict[str, OldCase]] = {}
    for item in items:
        if item["stage"] != "gates" or item["judges_gate"] or item["gate"] is None:
            continue
        detail = item["detail"]
        gate, _, case = str(item["name"]).partition("::")
        answers = [str(sample.get("text", "")) for sample in detail.get("samples", ())]
        old = OldCase(detail.get("hash"), Verdict(item["verdict"]), tuple(answers))
        gates.setdefault(gate, {})[case] = old
    return gates


def blessed(baseline: Baseline) -> dict[str, Any]:
    """Return the baseline as the file that is kept: without times, so that it changes seldom."""
    return {
        "schema_version": SCHEMA_VERSION,
        "run": baseline.run,
        "gates": {
            gate: {
                case: {"hash": old.hash, "verdict": str(old.verdict), "answers": list(old.answers)}
                for case, old in sorted(cases.items())
            }
            for gate, cases in sorted(baseline.gates.items())
        },
    }


def compare(
    baseline: Baseline, gate: str, results: Mapping[str, Result], config: BaselineConfig
) -> Compared:
    """Judge a gate's results beside the same cases of the baseline; raise NotMeasuredError.

    Only cases of the same hash, measured both times, are pairs; all others are named.
    """
    then = baseline.gates.get(gate)
    if not then:
        known = ", ".join(baseline.gates) or "none"
        raise NotMeasuredError(f"{baseline.name} has no gate '{gate}'; its gates: {known}")
    pairs, others = _paired(then, results)
    if not pairs:
        raise NotMeasuredError(
            f"no case of gate '{gate}' can be compared with {baseline.name}: {_listed(others)}"
        )
    counts = {(old, new): 0 for old in (True, False) for new in (True, False)}
    for old, new in pairs.values():
        counts[old, new] += 1
    judged = judge_paired(
        counts[True, True],
        counts[True, False],
        counts[False, True],
        counts[False, False],
        max_regression=config.max_regression,
        # Its interval has two sides, of which one is asked for.
        alpha=2 * (1 - config.confidence),
        names=("the baseline", "this run"),
    )
    regressed = tuple(case for case, pair in pairs.items() if pair == (True, False))
    fixed = tuple(case for case, pair in pairs.items() if pair == (False, True))
    reason = judged.reason
    if others:
        reason += f"; not comparable: {_listed(others)}"
    detail = {
        "baseline": baseline.name,
        "baseline_run": baseline.run,
        "compared": len(pairs),
        "difference": judged.difference,
        "low": judged.low,
        "high": judged.high,
        "p_value": judged.p_value,
        "max_regression": config.max_regression,
        "regressed": _both(regressed, then, results),
        "fixed": _both(fixed, then, results),
        "not_comparable": {why: list(cases) for why, cases in others.items()},
    }
    return Compared(judged.verdict, reason, regressed, fixed, others, detail)


def _paired(
    then: Mapping[str, OldCase], results: Mapping[str, Result]
) -> tuple[dict[str, tuple[bool, bool]], dict[str, tuple[str, ...]]]:
    """Return whether each comparable case passed then and now, and the others by why."""
    pairs: dict[str, tuple[bool, bool]] = {}
    others: dict[str, tuple[str, ...]] = {}
    measured = {Verdict.PASS, Verdict.FAIL}

    def leave(case: str, why: str) -> None:
        others[why] = (*others.get(why, ()), case)

    for case, result in results.items():
        old = then.get(case)
        now = Verdict(result["verdict"])
        if old is None:
            leave(case, "not in the baseline")
        elif old.hash is None or old.hash != result.get("hash"):
            leave(case, "changed")
        elif now not in measured or old.verdict not in measured:
            leave(case, "not measured")
        else:
            pairs[case] = (old.verdict is Verdict.PASS, now is Verdict.PASS)
    for case in then:
        if case not in results:
            leave(case, "no longer there")
    return pairs, others


def _listed(others: Mapping[str, tuple[str, ...]]) -> str:
    return ", ".join(f"{len(cases)} {why}" for why, cases in others.items())


def _both(
    cases: tuple[str, ...], then: Mapping[str, OldCase], results: Mapping[str, Result]
) -> list[dict[str, Any]]:
    return [
        {
            "case": case,
            "then": [middle_cut(text, LONGEST_ANSWER) for text in then[case].answers],
            "now": [
                middle_cut(str(sample.get("text", "")), LONGEST_ANSWER)
                for sample in results[case]["samples"]
            ],
            "reason": results[case]["reason"],
        }
        for case in cases[:MOST_SHOWN]
    ] + [{"case": case} for case in cases[MOST_SHOWN:]]


def differences(compared: Compared) -> str:
    """Return the cases that differ with both answers, for a person to read."""
    lines = []
    for word in ("regressed", "fixed"):
        for entry in compared.detail[word]:
            lines.append(
                f"  {word} {entry['case']}" + (f": {entry['reason']}" if "reason" in entry else "")
            )
            for when in ("then", "now"):
                lines += [f"    {when:4}: {text!r}" for text in entry.get(when, ())]
    for why, cases in compared.not_comparable.items():
        shown = ", ".join(cases[:MOST_SHOWN])
        more = f" and {len(cases) - MOST_SHOWN} more" if len(cases) > MOST_SHOWN else ""
        lines.append(f"  not comparable, {why}: {shown}{more}")
    return "\n".join(lines)
