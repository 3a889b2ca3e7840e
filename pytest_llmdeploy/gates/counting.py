"""What a gate's results so far come to: counts and weights, kept as answers come in."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Literal

from pytest_llmdeploy.gates.case import Case
from pytest_llmdeploy.verdicts import Verdict
from pytest_llmdeploy.verdicts.clusters import worth
from pytest_llmdeploy.verdicts.pass_rate import Rate, RateRule, exact
from pytest_llmdeploy.verdicts.proportions import effective_number
from pytest_llmdeploy.verdicts.reliability import pass_at_k, pass_hat_k

if TYPE_CHECKING:
    from pytest_llmdeploy.gates.store import Result

NOT_ASKED = "not_asked"
"""Key of a result that a budget left out; its value says which."""
Estimate = Literal["pass_rate", "pass_at_k", "pass_hat_k"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a result counts for."""

    verdict: Verdict
    """PASS, FAIL or ERROR."""
    value: Fraction | None
    """What the case adds to a rate, 0 to 1; None when it was not measured."""
    left_out: str | None = None
    """Why a budget left the case out; it is neither measured nor an error then."""


def outcome_of(result: Result, estimate: Estimate = "pass_rate", k: int = 1) -> Outcome:
    """Return what a case's result counts for; a verdict that is neither PASS nor FAIL is ERROR.

    An estimate needs all of the case's answers, k of them at least; else it is not measured.
    """
    verdict = Verdict(result["verdict"])
    if verdict not in (Verdict.PASS, Verdict.FAIL):
        return Outcome(Verdict.ERROR, None, result.get(NOT_ASKED) or None)
    if estimate == "pass_rate":
        return Outcome(verdict, Fraction(verdict is Verdict.PASS))
    samples = result["samples"]
    if not all(isinstance(sample.get("passed"), bool) for sample in samples):
        return Outcome(Verdict.ERROR, None)
    passed = sum(sample["passed"] for sample in samples)
    value = (pass_at_k if estimate == "pass_at_k" else pass_hat_k)(passed, len(samples), k)
    return Outcome(Verdict.ERROR if value is None else verdict, value)


@dataclass(frozen=True)
class Group:
    """Some cases of a gate that are judged together."""

    cases: Mapping[str, Case]
    cluster_by: str | None = None
    """Variable whose values tell clusters; None: each case stands for itself."""

    @cached_property
    def weight(self) -> Fraction:
        """The weight of all of them."""
        return sum((_weight(case.weight) for case in self.cases.values()), Fraction())

    @cached_property
    def vacuous_weight(self) -> Fraction:
        """The weight of those that pass whatever the answer."""
        vacuous = (case for case in self.cases.values() if case.vacuous is not None)
        return sum((_weight(case.weight) for case in vacuous), Fraction())

    @cached_property
    def size(self) -> float:
        """How many cases of one weight they are worth."""
        return effective_number(case.weight for case in self.cases.values())

    @cached_property
    def weighted(self) -> bool:
        """Whether they weigh differently."""
        return len({case.weight for case in self.cases.values()}) > 1

    @cached_property
    def asserting(self) -> int:
        """How many of them could fail."""
        return sum(case.vacuous is None for case in self.cases.values())

    @cached_property
    def clusters(self) -> Mapping[str, Hashable] | None:
        """The cluster of each case; None where cases stand for themselves."""
        if self.cluster_by is None:
            return None
        return {key: cluster_of(case, self.cluster_by) for key, case in self.cases.items()}

    @cached_property
    def number_of_clusters(self) -> int:
        """How many clusters there are; the cases where they stand for themselves."""
        return len(self.cases if self.clusters is None else set(self.clusters.values()))

    @cached_property
    def worth_of_clusters(self) -> float | None:
        """How many clusters of one weight there are; None where cases stand for themselves."""
        if self.clusters is None:
            return None
        weights: dict[Hashable, float] = {}
        for key, cluster in self.clusters.items():
            weights[cluster] = weights.get(cluster, 0.0) + self.cases[key].weight
        return effective_number(weights.values())


def cluster_of(case: Case, variable: str) -> Hashable:
    """Return what tells the case's cluster: equal values, also of lists; itself without one."""
    if variable not in case.vars:
        return ("", case.id)
    return json.dumps(case.vars[variable], sort_keys=True, default=repr)


@dataclass
class Count:
    """The results of a group so far."""

    group: Group
    passed: int = 0
    failed: int = 0
    errors: int = 0
    left_out: int = 0
    """Cases that a budget left out."""
    left_out_because: str | None = None
    """What the first of these says."""
    asserted: int = 0
    """Cases that passed, at least in part, and could have failed."""
    open_asserting: int = 0
    """Cases without a result that could fail."""
    value: Fraction = Fraction()
    """Weighted sum of the measured cases' values."""
    measured_weight: Fraction = Fraction()
    open_weight: Fraction = Fraction()
    """Of the cases without a result that could fail."""
    granted_weight: Fraction = Fraction()
    """Of the cases without a result that pass whatever the answer: they count as passed."""
    values: dict[str, Fraction | None] = field(default_factory=dict)
    """By case, where clusters need them; None: not measured."""
    failing: list[str] = field(default_factory=list)
    """Ids of the cases that failed."""

    def __post_init__(self) -> None:
        self.open_asserting = self.group.asserting
        self.granted_weight = self.group.vacuous_weight
        self.open_weight = self.group.weight - self.granted_weight

    @property
    def total(self) -> int:
        """All cases of the group."""
        return len(self.group.cases)

    @property
    def measured(self) -> int:
        """Cases that passed or failed."""
        return self.passed + self.failed

    @property
    def open(self) -> int:
        """Cases without a result."""
        return self.total - self.measured - self.errors - self.left_out

    def add(self, case: Case, outcome: Outcome) -> None:
        """Count one result, of a case that had none."""
        weight = _weight(case.weight)
        if case.vacuous is None:
            self.open_weight -= weight
            self.open_asserting -= 1
        else:
            self.granted_weight -= weight
        if self.group.clusters is not None:
            self.values[case.id] = outcome.value
        if outcome.value is None:
            if outcome.left_out is None:
                self.errors += 1
            else:
                self.left_out += 1
                self.left_out_because = self.left_out_because or outcome.left_out
            return
        self.measured_weight += weight
        self.value += weight * outcome.value
        self.asserted += case.vacuous is None and outcome.value > 0
        if outcome.verdict is Verdict.PASS:
            self.passed += 1
        else:
            self.failed += 1
            self.failing.append(case.id)

    def mean(self) -> Fraction | None:
        """Return the rate among the measured cases; None when there are none."""
        return self.value / self.measured_weight if self.measured_weight else None

    def rate(self, rule: RateRule, instead: Verdict | None = None) -> Rate:
        """Return what is known of the rate, with PASS or FAIL `instead` of cases without a result.

        Without `instead` they are unknown, as are those that could not be measured. Those that pass
        whatever the answer pass, asked or not.
        """
        group = self.group
        if not group.cases:
            return Rate(Fraction(0), Fraction(1), 0.0, 0.0)
        least = self.value + self.granted_weight
        if instead is Verdict.PASS:
            least += self.open_weight
        most = self.value + group.weight - self.measured_weight
        if instead is Verdict.FAIL:
            most -= self.open_weight
        low, high = least / group.weight, most / group.weight
        if group.clusters is None or rule.rule == "point":
            return Rate(low, high, group.size, group.size)
        sizes = [self._size(unknown, rule, instead) for unknown in (Verdict.FAIL, Verdict.PASS)]
        return Rate(low, high, sizes[0], sizes[1], group.worth_of_clusters)

    def _size(self, unknown: Verdict, rule: RateRule, instead: Verdict | None) -> float:
        assert self.group.clusters is not None
        values = []
        for key in self.group.cases:
            value = self.values.get(key)
            if value is None:
                without = unknown if key in self.values else instead or unknown
                if key not in self.values and self.group.cases[key].vacuous is not None:
                    without = Verdict.PASS
                value = Fraction(without is Verdict.PASS)
            values.append(float(value))
        weights = [case.weight for case in self.group.cases.values()]
        clusters = [self.group.clusters[key] for key in self.group.cases]
        return worth(values, weights, clusters, rule.confidence).size


@lru_cache(maxsize=1024)
def _weight(weight: float) -> Fraction:
    if weight <= 0:
        raise ValueError(f"a case's weight must be above 0, not {weight}")
    return exact(weight)


def vacuous_reasons(cases: Mapping[str, Case]) -> dict[str, int]:
    """Return the numbers of cases that pass whatever the answer, by reason."""
    return dict(Counter(case.vacuous for case in cases.values() if case.vacuous is not None))
