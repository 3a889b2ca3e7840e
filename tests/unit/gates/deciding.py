"""Cases and results without files and answers, for tests of what decides."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pytest_llmdeploy.config.gates import SuiteConfig
from pytest_llmdeploy.gates.case import Case
from pytest_llmdeploy.gates.decision import Decision, GateVerdict
from pytest_llmdeploy.verdicts import Verdict

P, F, E, U = Verdict.PASS, Verdict.FAIL, Verdict.ERROR, Verdict.INCONCLUSIVE
Result = dict[str, Any]


def case(name: str, **fields: Any) -> Case:
    """Return a case that asks something, whatever it is."""
    given: dict[str, Any] = {
        "vars": {},
        "prompt": "?",
        "assertions": (),
        "tags": (),
        "weight": 1.0,
        "threshold": None,
        "repeats": 1,
        "source": f"cases.yaml:{1 + len(name)}",
    }
    return Case(id=name, **{**given, **fields})


def cases(number: int, prefix: str = "c", **fields: Any) -> list[Case]:
    """Return several that differ by their ids alone."""
    return [case(f"{prefix}{place}", **fields) for place in range(number)]


def result(verdict: Verdict, *answers: bool | None) -> Result:
    """Return a case's result; None stands for an answer that was not measured."""
    samples = [{"error": "timeout"} if each is None else {"passed": each} for each in answers]
    return {"verdict": str(verdict), "samples": samples}


def left_out(reason: str = "the budget of 100 requests is used up") -> Result:
    """Return the result of a case that a budget left out."""
    return {"verdict": "ERROR", "reason": reason, "samples": [], "not_asked": reason}


def decision(given: Iterable[Case], **config: Any) -> Decision:
    """Return the decision of a suite with these cases."""
    return Decision(
        SuiteConfig.model_validate({"cases": "x.yaml", **config}), {each.id: each for each in given}
    )


def results_of(
    given: Iterable[Case], outcomes: Iterable[Verdict | Result | None]
) -> dict[str, Result]:
    """Return results by case; None: there is none."""
    return {
        each.id: result(outcome, outcome is P) if isinstance(outcome, Verdict) else outcome
        for each, outcome in zip(given, outcomes, strict=True)
        if outcome is not None
    }


def judge(
    given: list[Case], outcomes: Iterable[Verdict | Result | None], **config: Any
) -> GateVerdict:
    """Judge a suite."""
    return decision(given, **config).judge(results_of(given, outcomes))


def reasons(judged: GateVerdict) -> Mapping[str, tuple[Verdict, str]]:
    """Return verdict and reason of each finding."""
    return {each.name: (each.verdict, each.reason) for each in judged.findings}
