"""From the assertions of one answer to its score, and from answers to the case's verdict. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_llmdeploy.errors import NotMeasuredError
from pytest_llmdeploy.gates.assertions import AssertionResult
from pytest_llmdeploy.gates.assertions.sets import TOLERANCE, reaches, together
from pytest_llmdeploy.verdicts import Verdict

__all__ = ["TOLERANCE", "CaseVerdict", "SampleScore", "judge_case", "score_sample"]


@dataclass(frozen=True, slots=True)
class SampleScore:
    """How good one answer was."""

    passed: bool
    score: float
    """Weighted mean of its assertions' scores, 0 to 1."""
    reason: str
    """The first failed assertion's reason, or that all is well."""


@dataclass(frozen=True, slots=True)
class CaseVerdict:
    """PASS, FAIL or ERROR of one case."""

    verdict: Verdict
    score: float | None
    """Mean of its samples' scores; None when the verdict is ERROR."""
    reason: str


def score_sample(results: Sequence[AssertionResult], threshold: float | None) -> SampleScore:
    """Return the score of one answer.

    Without `threshold` every assertion must pass; with it the score alone decides. No result at
    all is a NotMeasuredError: what asserts nothing cannot pass.
    """
    if not results:
        raise NotMeasuredError("the answer was judged by no assertion")
    passed, score, reason = together(results, threshold)
    return SampleScore(passed, score, reason)


def judge_case(
    samples: Sequence[SampleScore | NotMeasuredError],
    threshold: float | None = None,
    k_of_n: int | None = None,
) -> CaseVerdict:
    """Return the verdict of a case that was asked once or several times.

    Every sample must pass; with `k_of_n` so many of them; with `threshold` alone the mean of their
    scores must reach it (with both, the threshold is each sample's own). A sample that was not
    measured makes the case an ERROR, unless `k_of_n` have passed without it, or cannot with it.
    """
    if not samples:
        return CaseVerdict(Verdict.ERROR, None, "the case was never asked")
    missing = [sample for sample in samples if isinstance(sample, NotMeasuredError)]
    scored = [sample for sample in samples if isinstance(sample, SampleScore)]
    passes = sum(sample.passed for sample in scored)
    decided = k_of_n is not None and (passes >= k_of_n or passes + len(missing) < k_of_n)
    if missing and not (decided and scored):
        many = f"{len(missing)} of {len(samples)} answers were not measured: "
        return CaseVerdict(Verdict.ERROR, None, f"{many if len(samples) > 1 else ''}{missing[0]}")
    mean = min(1.0, math.fsum(sample.score for sample in scored) / len(scored))
    if k_of_n is not None:
        passed = passes >= k_of_n
    else:
        passed = passes == len(scored) if threshold is None else reaches(mean, threshold)
    verdict = Verdict.PASS if passed else Verdict.FAIL
    failed = [sample for sample in scored if not sample.passed]
    first = failed[0].reason if failed else scored[0].reason
    if len(samples) == 1:
        return CaseVerdict(verdict, mean, first)
    counted = f"{passes} of {len(scored)} answers passed"
    if k_of_n is not None:
        counted += f", {k_of_n} must"
        if missing:
            counted += f", whatever the {len(missing)} unmeasured would have been"
    elif threshold is not None:
        sign = ">=" if passed else "<"
        counted = f"mean score {mean:.3f} {sign} threshold {threshold:g}; {counted}"
    return CaseVerdict(verdict, mean, f"{counted}; {first}" if failed else counted)
