"""What a gate finds out, one question at a time, in sentences and in numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

from pytest_llmdeploy.gates.counting import Count
from pytest_llmdeploy.verdicts import Verdict, worst
from pytest_llmdeploy.verdicts.pass_rate import Rate, RateRule, rate_bounds
from pytest_llmdeploy.verdicts.proportions import enough_at, smallest_n

MOST_NAMED = 3
"""So many cases are named in a sentence."""
PASS_RATE = "pass rate"  # noqa: S105 - a name, not a password
"""Name of the finding about all cases."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The answer to one of the questions that a gate asks."""

    name: str
    """Such as ``pass rate``, ``tag critical``, ``must_pass safety``, ``baseline``."""
    verdict: Verdict
    reason: str
    """One sentence."""
    detail: Mapping[str, Any] = field(default_factory=dict)
    """The numbers behind it, as builtins."""

    def record(self) -> dict[str, Any]:
        """Return the finding as builtins."""
        return {
            "name": self.name,
            "verdict": str(self.verdict),
            "reason": self.reason,
            **self.detail,
        }


def combine(findings: Sequence[Finding]) -> tuple[Verdict, str]:
    """Return the verdict of a gate, the worst of its findings', and the sentences that explain it.

    A PASS is explained by the first finding alone; anything else by all that did not pass.
    """
    verdict = worst(finding.verdict for finding in findings)
    if not findings:
        return verdict, "nothing was asked of the gate"
    if verdict is Verdict.PASS:
        others = len(findings) - 1
        more = f"; {_number(others, 'further finding')} passed too" if others else ""
        return verdict, findings[0].reason + more
    telling = [each for each in findings if each.verdict is verdict]
    telling += [each for each in findings if each.verdict not in (verdict, Verdict.PASS)]
    return verdict, "; ".join(
        each.reason if each.name == PASS_RATE else f"{each.name}: {each.reason}" for each in telling
    )


@dataclass(frozen=True, slots=True)
class RateAsked:
    """One rate of a gate, what was counted, and what came of it."""

    name: str
    count: Count
    rule: RateRule
    rate: Rate
    estimate: str
    """What is counted: ``pass rate``, ``pass@3``, ``pass^3``."""
    chance: float | None
    """Corrected p-value of the FAIL; None with the point rule."""
    judged_at_once: int
    """Rates with bounds in this gate, for which the FAILs are corrected."""


def rate_finding(asked: RateAsked, verdict: Verdict, allowed: Fraction | None) -> Finding:
    """Return the finding of a rate; `allowed` is the most errors, where that is asked too."""
    return Finding(asked.name, verdict, _rate_sentence(asked, verdict, allowed), _detail(asked))


def must_pass_finding(name: str, count: Count, verdict: Verdict) -> Finding:
    """Return the finding about cases of which none may fail."""
    unmeasured = count.errors + count.left_out + count.open
    if verdict is Verdict.FAIL:
        some = f"{count.failed} of {count.total} cases failed"
        reason = f"{some}: {_named(count.failing)}"
    elif verdict is Verdict.PASS:
        reason = f"all {count.total} cases passed" if count.total > 1 else "its case passed"
    elif not count.asserted and not unmeasured:
        reason = NOTHING_ASSERTED
    else:
        reason = f"{unmeasured} of {count.total} cases are not known to pass: {_gaps(count)}"
    detail = {
        "passed": count.passed,
        "failed": count.failed,
        "errors": count.errors,
        "total": count.total,
    }
    return Finding(name, verdict, reason, detail)


NOTHING_ASSERTED = "nothing was asserted: what passed would have passed whatever the answer"


def _detail(asked: RateAsked) -> dict[str, Any]:
    count, rule, rate = asked.count, asked.rule, asked.rate
    mean = count.mean()
    detail: dict[str, Any] = {
        "estimate": asked.estimate,
        "pass_rate": None if mean is None else float(mean),
        "min_pass_rate": float(rule.limit),
        "rule": rule.rule,
        "n": count.total,
        "passed": count.passed,
        "failed": count.failed,
        "errors": count.errors,
    }
    if count.open or count.left_out:
        detail["not_asked"] = count.open + count.left_out
    lower, upper = rate_bounds(rule, rate)
    if rule.rule == "point":
        # Nothing is claimed about other cases: only what was not measured is open.
        return detail | ({"lower": lower, "upper": upper} if rate.low < rate.high else {})
    detail |= {
        "confidence": rule.confidence,
        "effective_n": min(rate.low_size, rate.high_size),
        "lower": lower,
        "upper": upper,
        "p_value": asked.chance,
        "smallest_n": smallest_n(rule.rule, rule.confidence, float(rule.limit)),
    }
    if rate.clusters is not None:
        detail["clusters"] = count.group.number_of_clusters
    return detail


def _rate_sentence(asked: RateAsked, verdict: Verdict, allowed: Fraction | None) -> str:
    count = asked.count
    if not count.total:
        return "no case was selected"
    if verdict is Verdict.ERROR:
        return _error_sentence(count, allowed)
    limit = f"min_pass_rate {shown(asked.rule.limit)}"
    if verdict is Verdict.INCONCLUSIVE:
        return _open_sentence(asked, limit)
    sign = ">=" if verdict is Verdict.PASS else "<"
    open_ended = {"unmeasured": count.errors, "not asked": count.open + count.left_out}
    even = " and the ".join(f"{number} {what}" for what, number in open_ended.items() if number)
    whatever = f", whatever the {even} would have been" if even else ""
    if asked.rule.rule == "point":
        return f"{_counted(asked)} {sign} {limit}{whatever}"
    lower, upper = rate_bounds(asked.rule, asked.rate)
    word, bound = ("at least", lower) if verdict is Verdict.PASS else ("at most", upper)
    at = f"{word} {shown(Fraction(bound), asked.rule.limit)} {_sure(asked.rule)}"
    return f"{_counted(asked)}, {at}, {sign} {limit}{whatever}"


def _open_sentence(asked: RateAsked, limit: str) -> str:
    """Return why a rate is INCONCLUSIVE."""
    if asked.count.left_out:
        return f"{_gaps(asked.count)}; {_so_far(asked)}, {limit}"
    if _gap_decides(asked):
        return _gap_sentence(asked, limit)
    return _sample_sentence(asked, limit)


def _error_sentence(count: Count, allowed: Fraction | None) -> str:
    if not count.measured and not count.open:
        if count.left_out:
            return _gaps(count)
        return f"none of the {count.total} cases could be measured"
    share = error_share(count)
    if allowed is not None and share > allowed:
        limit = f"max_error_rate {shown(allowed)}"
        return f"{_missing(count)}: error rate {shown(share, allowed)} > {limit}"
    return NOTHING_ASSERTED


def error_share(count: Count) -> Fraction:
    """Return the share of errors among the cases that no budget left out."""
    asked = count.total - count.left_out
    return Fraction(count.errors, asked) if asked else Fraction()


def _missing(count: Count) -> str:
    return f"{count.errors} of {count.total} cases could not be measured"


def _gaps(count: Count) -> str:
    """Return which cases of a group have no outcome, by why."""
    parts = [_missing(count)] if count.errors else []
    if count.left_out:
        parts.append(left_out(count))
    if count.open:
        parts.append(f"{count.open} of {count.total} cases have no result")
    return ", ".join(parts)


def left_out(count: Count) -> str:
    """Return how many cases a budget left out, and which."""
    return f"{count.left_out} of {count.total} cases were not asked: {count.left_out_because}"


def _gap_decides(asked: RateAsked) -> bool:
    """Return whether another verdict would come of cases without an outcome."""
    rate, rule = asked.rate, asked.rule
    if rule.rule == "point":
        return True
    if rate.low == rate.high:
        return False
    limit = float(rule.limit)
    best = replace(rate, low=rate.high, low_size=rate.high_size)
    least = replace(rate, high=rate.low, high_size=rate.low_size)
    return rate_bounds(rule, best).lower >= limit or rate_bounds(rule, least).upper < limit


def _gap_sentence(asked: RateAsked, limit: str) -> str:
    rate, rule = asked.rate, asked.rule
    low, high = shown(rate.low, rule.limit), shown(rate.high, rule.limit)
    between = f"{_gaps(asked.count)}: the {asked.estimate} lies between {low} and {high}"
    if rule.rule == "point":
        return f"{between}, around {limit}"
    lower, upper = rate_bounds(rule, rate)
    reach = f"between {shown(Fraction(lower), rule.limit)} and {shown(Fraction(upper), rule.limit)}"
    return f"{between} among these cases, and {reach} {_sure(rule)}, around {limit}"


def _sample_sentence(asked: RateAsked, limit: str) -> str:
    """Return why so many cases do not tell, and how many would."""
    rate, rule = asked.rate, asked.rule
    assert rule.rule != "point"
    lower, upper = rate_bounds(rule, rate)
    head = _counted(asked)
    if upper < float(rule.limit):
        at_most = f"at most {shown(Fraction(upper), rule.limit)} {_sure(rule)}"
        return (
            f"{head}, {at_most}, < {limit}, but not once corrected for the"
            f" {asked.judged_at_once} rates that are judged at once (Holm)"
        )
    reach = f"between {shown(Fraction(lower), rule.limit)} and {shown(Fraction(upper), rule.limit)}"
    said = f"{head}, {reach} {_sure(rule)}, around {limit}"
    advice = _advice(asked)
    return f"{said}; {advice}" if advice else said


def _advice(asked: RateAsked) -> str | None:
    rule, count = asked.rule, asked.count
    assert rule.rule != "point"
    clusters = asked.rate.clusters
    size = asked.count.group.size if clusters is None else clusters
    noun = "cases" if clusters is None else "clusters"
    limit = float(rule.limit)
    smallest = smallest_n(rule.rule, rule.confidence, limit)
    if smallest is None:
        return "no number of cases can show that all pass: take rule point"
    if size < smallest:
        some = _number(count.group.number_of_clusters, noun[:-1])
        return f"{some} can never show it: at least {smallest} are needed, all passing"
    mean = count.mean()
    enough = None if mean is None else enough_at(rule.rule, float(mean), limit, rule.confidence)
    worth = asked.rate.low_size
    if enough is None or not worth:
        return None
    needed = -(-enough * count.total // worth)
    return f"at this rate about {needed:g} cases would show it" if needed > count.total else None


def _so_far(asked: RateAsked) -> str:
    return f"so far {_counted(asked)}" if asked.count.measured else "none was measured"


def _counted(asked: RateAsked) -> str:
    count = asked.count
    mean = count.mean()
    if mean is None:
        return f"no {asked.estimate}"
    weighted = ", weighted" if count.group.weighted else ""
    clusters = (
        f" in {_number(count.group.number_of_clusters, 'cluster')}"
        if asked.rate.clusters is not None
        else ""
    )
    if asked.estimate == PASS_RATE:
        counted = f"{count.passed} of {count.measured}{clusters}{weighted}"
    else:
        counted = f"mean of {count.measured} cases{clusters}{weighted}"
    return f"{asked.estimate} {shown(mean, asked.rule.limit)} ({counted})"


def _sure(rule: RateRule) -> str:
    word = "probability" if rule.rule == "bayes" else "confidence"
    return f"with {100 * rule.confidence:g} % {word} ({rule.rule})"


def _named(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - MOST_NAMED} more" if len(ids) > MOST_NAMED else ""
    return ", ".join(ids[:MOST_NAMED]) + more


def _number(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def shown(number: Fraction, beside: Fraction | None = None) -> str:
    """Return at least two decimals, and as many more as keep it apart from `beside`."""
    for digits in range(2, 7):
        text = f"{float(number):.{digits}f}"
        if beside is None:
            if Fraction(text) == number:
                return text
        elif number == beside or text != f"{float(beside):.{digits}f}":
            return text
    return text
