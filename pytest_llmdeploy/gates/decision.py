"""From a suite's results to the verdict of its gate; and whether more results could change it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pytest_llmdeploy.config.gates import SuiteConfig
from pytest_llmdeploy.gates.case import Case
from pytest_llmdeploy.gates.counting import Count, Group, outcome_of, vacuous_reasons
from pytest_llmdeploy.gates.findings import (
    PASS_RATE,
    Finding,
    RateAsked,
    combine,
    error_share,
    left_out,
    must_pass_finding,
    rate_finding,
)
from pytest_llmdeploy.verdicts import Verdict, worst
from pytest_llmdeploy.verdicts.pass_rate import (
    AnyRule,
    Rate,
    RateRule,
    corrected_chances,
    default_rule,
    exact,
    judge_rates,
)

if TYPE_CHECKING:
    from pytest_llmdeploy.gates.store import Result


@dataclass(frozen=True, slots=True)
class GateVerdict:
    """What a gate concluded."""

    verdict: Verdict
    reason: str
    """The sentences that explain it."""
    findings: tuple[Finding, ...]
    """The answer to each question; the first is about all cases."""
    settled: bool
    """No result that is still missing could change the verdict."""
    detail: Mapping[str, Any] = field(default_factory=dict)
    """The numbers of all cases, as builtins."""
    remarks: tuple[str, ...] = ()
    """What a reader has to know besides; at the end of the reason."""

    def beside(self, finding: Finding) -> GateVerdict:
        """Return the verdict with one more finding, such as that of a baseline."""
        findings = (*self.findings, finding)
        verdict, reason = combine(findings)
        text = "; ".join([reason, *self.remarks])
        return replace(self, verdict=verdict, reason=text, findings=findings)


@dataclass(frozen=True)
class RateQuestion:
    """One rate that a gate asks for."""

    name: str
    group: Group
    rule: RateRule


class Decision:
    """What decides a gate: the rates that are asked for, and the tags that must pass.

    Immutable; `standing` makes what changes.
    """

    def __init__(self, config: SuiteConfig, cases: Mapping[str, Case]) -> None:
        self.config = config
        self.cases = cases
        decision = config.decision
        self.rates = [self._question(PASS_RATE, cases, config.min_pass_rate, decision.rule)]
        for tag, gate in config.tags.items():
            rule = gate.rule or decision.rule
            question = self._question(f"tag {tag}", self.tagged(tag), gate.min_pass_rate, rule)
            self.rates.append(question)
        self.must_pass = {f"must_pass {tag}": Group(self.tagged(tag)) for tag in config.must_pass}

    def tagged(self, tag: str) -> dict[str, Case]:
        """Return the cases with a tag."""
        return {key: case for key, case in self.cases.items() if tag in case.tags}

    def _question(
        self, name: str, cases: Mapping[str, Case], limit: float, rule: AnyRule | None
    ) -> RateQuestion:
        decision = self.config.decision
        chosen = rule or default_rule(len(cases), limit)
        group = Group(cases, decision.cluster_by)
        return RateQuestion(name, group, RateRule(chosen, exact(limit), decision.confidence))

    @cached_property
    def estimate(self) -> str:
        """The name of what is counted."""
        k = self.config.decision.k
        names = {"pass_rate": PASS_RATE, "pass_at_k": f"pass@{k}", "pass_hat_k": f"pass^{k}"}
        return names[self.config.decision.estimate]

    def judge(self, results: Mapping[str, Result]) -> GateVerdict:
        """Return the verdict of these results, by case id.

        A case that is missing was not asked: the verdict is the one that all its outcomes would
        lead to, where there is one, and not `settled` where there is none. Raises KeyError for the
        result of a case that is none.
        """
        standing = self.standing()
        for case_id, result in results.items():
            standing.add(case_id, result)
        return standing.verdict()

    def standing(self) -> Standing:
        """Return what counts results as they come in."""
        return Standing(self)


class Standing:
    """How a gate stands while its cases are asked.

    Both `add` and `settled` take time in proportion to the questions that the gate asks, not to
    its cases (with `cluster_by` to these as well).
    """

    def __init__(self, decision: Decision) -> None:
        self._decision = decision
        self._rates = [Count(question.group) for question in decision.rates]
        self._must_pass = {name: Count(group) for name, group in decision.must_pass.items()}
        self._seen: set[str] = set()

    def add(self, case_id: str, result: Result) -> None:
        """Count one result; a second one of the same case changes nothing."""
        if case_id in self._seen:
            return
        case = self._decision.cases[case_id]
        self._seen.add(case_id)
        config = self._decision.config.decision
        plain = outcome_of(result)
        counted = (
            plain
            if config.estimate == "pass_rate"
            else outcome_of(result, config.estimate, config.k)
        )
        for count in self._rates:
            if case_id in count.group.cases:
                count.add(case, counted)
        for count in self._must_pass.values():
            if case_id in count.group.cases:
                count.add(case, plain)

    @property
    def settled(self) -> bool:
        """Whether the verdict is the same whatever becomes of the cases without a result.

        That is, if all of them that can fail did, or all of them passed: verdicts lie in between
        for all else, as nothing ever punishes a pass. That they could not be measured is left out
        of account: a request that is not sent does not break.
        """
        return worst(self._verdicts(Verdict.FAIL)) is worst(self._verdicts(Verdict.PASS))

    def _verdicts(self, instead: Verdict | None) -> list[Verdict]:
        """Return a verdict for each question, with PASS or FAIL instead of missing results."""
        rates = [
            self._within(count, verdict, instead, whole=count is self._rates[0])
            for count, verdict in zip(self._rates, judge_rates(self._asked(instead)), strict=True)
        ]
        return rates + [_none_failed(count, instead) for count in self._must_pass.values()]

    def _within(
        self, count: Count, verdict: Verdict, instead: Verdict | None, *, whole: bool
    ) -> Verdict:
        """Return the verdict of a rate once errors, budgets and vacuous cases are considered."""
        if not count.measured and not count.open:
            return Verdict.INCONCLUSIVE if count.left_out else Verdict.ERROR
        if not count.group.asserting:
            return Verdict.ERROR
        if whole and error_share(count) > exact(self._decision.config.max_error_rate):
            return Verdict.ERROR
        if verdict is Verdict.PASS:
            if count.left_out:
                return Verdict.INCONCLUSIVE
            if not _asserted(count, instead):
                unknown = instead is None and count.open_asserting
                return Verdict.INCONCLUSIVE if unknown else Verdict.ERROR
        return verdict

    def verdict(self) -> GateVerdict:
        """Return the verdict of the results so far; see `Decision.judge`."""
        decision = self._decision
        verdicts = iter(self._verdicts(None))
        asked = self._asked(None)
        chances = corrected_chances(asked)
        at_once = sum(chance is not None for chance in chances)
        allowed = exact(decision.config.max_error_rate)
        findings = [
            rate_finding(
                RateAsked(
                    name=question.name,
                    count=count,
                    rule=rule,
                    rate=rate,
                    estimate=decision.estimate,
                    chance=chance,
                    judged_at_once=at_once,
                ),
                next(verdicts),
                allowed if question.name == PASS_RATE else None,
            )
            for question, count, (rule, rate), chance in zip(
                decision.rates, self._rates, asked, chances, strict=True
            )
        ]
        findings += [
            must_pass_finding(name, count, next(verdicts))
            for name, count in self._must_pass.items()
        ]
        verdict, reason = combine(findings)
        remarks = self._remarks(findings[0])
        return GateVerdict(
            verdict=verdict,
            reason="; ".join([reason, *remarks]),
            findings=tuple(findings),
            settled=self.settled,
            detail=self._detail(findings[0]),
            remarks=tuple(remarks),
        )

    def _asked(self, instead: Verdict | None) -> list[tuple[RateRule, Rate]]:
        return [
            (question.rule, count.rate(question.rule, instead))
            for question, count in zip(self._decision.rates, self._rates, strict=True)
        ]

    def _remarks(self, whole: Finding) -> list[str]:
        """Return what a reader of the verdict has to know besides."""
        count = self._rates[0]
        remarks = []
        if count.left_out and whole.verdict is not Verdict.INCONCLUSIVE:
            remarks.append(left_out(count))
        if count.open:
            some = f"{count.open} of {count.total} cases were not asked"
            settled = "stopped early: {}, as they could not change the verdict"
            remarks.append((settled if self.settled else "{}").format(some))
        if reasons := vacuous_reasons(self._decision.cases):
            number = sum(reasons.values())
            listed = ", ".join(f"{why}: {times}" for why, times in reasons.items())
            rows = f"{number} of {count.total} rows {'passes' if number == 1 else 'pass'}"
            remarks.append(f"{rows} whatever the answer ({listed})")
        return remarks

    def _detail(self, whole: Finding) -> dict[str, Any]:
        count = self._rates[0]
        return {
            **whole.detail,
            "total": count.total,
            "error_rate": float(error_share(count)),
        }


def _asserted(count: Count, instead: Verdict | None) -> int:
    """Return how many cases passed that could have failed."""
    return count.asserted + (count.open_asserting if instead is Verdict.PASS else 0)


def _none_failed(count: Count, instead: Verdict | None) -> Verdict:
    """Return the verdict of cases of which none may fail."""
    if count.failed or (count.open_asserting and instead is Verdict.FAIL):
        return Verdict.FAIL
    if count.errors or count.left_out or (count.open_asserting and instead is None):
        return Verdict.INCONCLUSIVE
    return Verdict.PASS if _asserted(count, instead) else Verdict.ERROR
