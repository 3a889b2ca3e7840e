"""One sentence for who has to act on a canary, with the fact that would change it."""

from __future__ import annotations

from pytest_llmdeploy.reports.canary_record import Finding, Phase
from pytest_llmdeploy.reports.canary_words import (
    deciding,
    in_short,
    increase,
    is_shown,
    limit,
    use_of_limit,
    value,
)
from pytest_llmdeploy.reports.html.release_result import Result, Step

_FINAL = "final-state"


def advice(result: Result) -> str:
    """Return what to do, and what would have to be otherwise for another verdict."""
    if result.rollback is not None and not result.rollback.succeeded:
        return "bring the former state back with the commands below; the way back failed."
    phase = next((each for each in result.canary.phases if each.verdict != "PASS"), None)
    if result.success:
        return _keep(result)
    step = _first_bad(result)
    if phase is None or (step is not None and not step.name.startswith("weight-")):
        return _by_step(result, step)
    return _by_phase(result, phase)


def _keep(result: Result) -> str:
    what = f"keep {result.image}"
    if (final := result.step(_FINAL)) is not None and "keeps" in final.reason:
        what = f"{result.image} may go on"  # one shift, as asked
    found = [
        (used, phase, each)
        for phase in result.canary.phases
        for each in phase.findings
        if each.verdict == "PASS" and is_shown(each) and (used := use_of_limit(each)) is not None
    ]
    if not found:
        return f"{what}; no limit was measured, so none could have changed that."
    _, phase, each = max(found, key=lambda one: one[0])
    return (
        f"{what}. The closest call was {in_short(each)}, at {phase.name}: "
        f"with more than that it would not have passed."
    )


def _by_step(result: Result, step: Step | None) -> str:
    if step is None:
        return "look at the steps below: nothing of the new version decided."
    if result.rollback is None and not result.traffic.moments.get("switch"):
        about = "no weight was given"
    else:
        about = "the weights did not decide"
    if step.verdict == "ERROR":
        return (
            f"mend what kept '{step.name}' from being measured, then run it again; {about}: "
            f"this says nothing about {result.image}. {step.reason}"
        )
    if step.verdict == "INCONCLUSIVE":
        return f"decide about '{step.name}': {step.reason}"
    return f"mend what '{step.name}' found before {result.image} is tried again: {step.reason}"


def _by_phase(result: Result, phase: Phase) -> str:
    found = deciding(phase)
    if not found:
        return f"look at {phase.name}: {phase.reason}"
    each = found[0]
    where = f"{each.signal} ({each.rule}) at {phase.name}"
    if phase.verdict == "FAIL":
        return f"mend {result.image} before it is tried again: {where} decided. {_otherwise(each)}"
    if phase.verdict == "ERROR":
        return (
            f"mend the measurement, not the version: {where} could not be measured, so nothing is "
            f"known of {result.image}. A verdict needs: {each.reason}"
        )
    return (
        f"give {phase.name} more requests (a longer max_duration, or a higher rate), or allow more "
        f"where that is tolerable: {where} stayed open; {each.reason.rpartition('; ')[2]}"
    )


def _otherwise(each: Finding) -> str:
    """Return which fact would have been no failure."""
    if each.rule == "compare" and each.low is not None:
        return (
            f"It would have stayed, had the increase been shown to be at most {limit(each)[1:]}; "
            f"it lies between {increase(each, each.low)} and {increase(each, each.high)}."
        )
    if each.rule == "sla" and each.estimate is not None:
        return (
            f"It would have stayed with {limit(each)}; it was {value(each.signal, each.estimate)}."
        )
    return each.reason


def _first_bad(result: Result) -> Step | None:
    return next(
        (step for step in result.steps if step.verdict != "PASS" and not step.skipped), None
    )
