"""How well a judge agrees with people and with itself, and whether that is enough for a gate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pytest_llmdeploy.commands.judge_labels import Labelled
from pytest_llmdeploy.commands.judge_runs import Outcome
from pytest_llmdeploy.verdicts.agreement import Agreement, cohens_kappa
from pytest_llmdeploy.verdicts.proportions import bounds

USABLE, NOT_USABLE, NOT_MEASURED, INCONCLUSIVE = 0, 1, 10, 11
"""Exit codes."""
FEWEST_LABELS = 30
USABLE_KAPPA = 0.6
WEAK_KAPPA = 0.4
"""Limits of moderate and substantial agreement of Landis and Koch, "The Measurement of Observer
Agreement for Categorical Data", Biometrics 33 (1977): a convention, as they say themselves."""
MOST_WITHOUT_VERDICT = 0.1
"""Share of the answers that may be without a verdict; in a gate each of them is an ERROR."""
CONVENTION = (
    f"The limits are conventions: kappa {USABLE_KAPPA:g} and {WEAK_KAPPA:g} of Landis and Koch"
    f" (1977), {FEWEST_LABELS} labels, {MOST_WITHOUT_VERDICT:.0%} without a verdict."
)


@dataclass(frozen=True, slots=True)
class Found:
    """What a calibration found out."""

    agreement: Agreement
    """Of the first time, over the answers with a verdict."""
    confusion: Counter[tuple[bool, bool | None]]
    """Answers by label and by what the judge said, None: no verdict."""
    unusable: int
    """Answers without a verdict because the judge's reply was none."""
    times: int
    repeated: int
    """Answers that had a verdict at least once."""
    same: int
    """Of these, how many had the same outcome each time."""
    again: tuple[Agreement, ...]
    """Agreement with the labels in the further times."""

    @property
    def labels(self) -> int:
        """Labelled answers."""
        return self.confusion.total()

    @property
    def missing(self) -> int:
        """Answers without a verdict."""
        return sum(number for (_, said), number in self.confusion.items() if said is None)

    def share_of(self, label: bool) -> float:
        """Return the label's share of the answers with a verdict; 0 without any."""
        n = self.agreement.n
        return sum(self.confusion[label, said] for said in (True, False)) / n if n else 0.0

    @property
    def commonest(self) -> float:
        """How often one is right who always says what is commonest."""
        return max(self.share_of(True), self.share_of(False))

    def verdict(self) -> tuple[int, str]:
        """Return the exit code, and in a sentence whether a gate can hang on this judge."""
        counted = self.agreement
        share = self.missing / self.labels
        if share > MOST_WITHOUT_VERDICT:
            return NOT_MEASURED, (
                f"NOT MEASURED: {self.missing} of {self.labels} answers have no verdict"
                f" ({share:.0%}, at most {MOST_WITHOUT_VERDICT:.0%}); in a gate each of them would"
                " be an ERROR"
            )
        if counted.n < FEWEST_LABELS:
            return INCONCLUSIVE, (
                f"INCONCLUSIVE: {counted.n} labelled answers were judged; label at least"
                f" {FEWEST_LABELS}"
            )
        if self.commonest == 1:
            (only,) = {label for label, said in self.confusion if said is not None}
            return INCONCLUSIVE, (
                f"INCONCLUSIVE: every answer is labelled {_word(only)}; label answers that"
                f" {'fail' if only else 'pass'}, too"
            )
        return self._judged()

    def _judged(self) -> tuple[int, str]:
        """Return the same where there are enough labels of both kinds."""
        counted, kappa = self.agreement, self.agreement.kappa
        assert kappa is not None  # there are both labels
        if counted.lower <= self.commonest:
            return NOT_USABLE, (
                f"NOT USABLE: it may agree with people in {counted.lower:.1%} only, and whoever"
                f" always says {_word(self.share_of(True) >= 0.5)} agrees in {self.commonest:.1%}"
            )
        if kappa < WEAK_KAPPA:
            return NOT_USABLE, f"NOT USABLE: kappa is {kappa:.2f}, below {WEAK_KAPPA:g}"
        if kappa < USABLE_KAPPA:
            return NOT_USABLE, (
                f"WEAK: kappa is {kappa:.2f}, below {USABLE_KAPPA:g}; look at its reasons, but let"
                " no release hang on it"
            )
        return USABLE, (
            f"USABLE: kappa is {kappa:.2f} over {counted.n} labels, at least {USABLE_KAPPA:g}; for"
            " answers and rubrics like these"
        )


def _word(passes: bool | None) -> str:
    return "no verdict" if passes is None else "pass" if passes else "fail"


def compare(labels: Sequence[Labelled], outcomes: Sequence[Sequence[Outcome]]) -> Found:
    """Return what the outcomes say about the judge; the first of each answer counts."""
    times = len(outcomes[0])
    repeated = [[one.passed for one in each] for each in outcomes]
    spoken = [each for each in repeated if any(one is not None for one in each)]

    def agreement(time: int) -> Agreement:
        return cohens_kappa(
            (label.passes, each[time])
            for label, each in zip(labels, repeated, strict=True)
            if each[time] is not None
        )

    return Found(
        agreement=agreement(0),
        confusion=Counter(
            (label.passes, each[0]) for label, each in zip(labels, repeated, strict=True)
        ),
        unusable=sum(each[0].unusable for each in outcomes),
        times=times,
        repeated=len(spoken),
        same=sum(len(set(each)) == 1 for each in spoken),
        again=tuple(agreement(time) for time in range(1, times)),
    )


def to_json(
    found: Found,
    labels: Sequence[Labelled],
    outcomes: Sequence[Sequence[Outcome]],
    judge: dict[str, Any],
) -> dict[str, Any]:
    """Return all of it as builtins."""
    code, sentence = found.verdict()
    counted = found.agreement
    same_lower, same_upper = (
        bounds("wilson", found.same / found.repeated, found.repeated, 0.95)
        if found.repeated
        else (0.0, 1.0)
    )
    return {
        "schema": 1,
        "judge": judge,
        "exit_code": code,
        "verdict": sentence,
        "conventions": CONVENTION,
        "labels": found.labels,
        "judged": counted.n,
        "without_verdict": {"all": found.missing, "unusable_replies": found.unusable},
        "agreement": {"share": counted.share, "lower": counted.lower, "upper": counted.upper},
        "kappa": counted.kappa,
        "always_pass": found.share_of(True),
        "commonest_label": found.commonest,
        "confusion": [
            {"label": _word(label), "judge": _word(said), "answers": found.confusion[label, said]}
            for label in (True, False)
            for said in (True, False, None)
        ],
        "self_consistency": {
            "times": found.times,
            "answers": found.repeated,
            "same": found.same,
            "lower": same_lower,
            "upper": same_upper,
            "kappas": [each.kappa for each in (counted, *found.again)],
        },
        "answers": [
            {
                "id": label.case.id,
                "assert": label.spec.name,
                "label": _word(label.passes),
                "judge": [_word(one.passed) for one in each],
                "reasons": [one.reason for one in each],
                "evidence": [dict(one.evidence) for one in each],
            }
            for label, each in zip(labels, outcomes, strict=True)
        ],
    }
