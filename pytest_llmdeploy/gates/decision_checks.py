"""What is wrong with a gate's decision, told before anything is asked: by its cases alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pytest_llmdeploy.config.gates import SuiteConfig
from pytest_llmdeploy.config.sentences import suggestion
from pytest_llmdeploy.errors import ConfigError, Problem
from pytest_llmdeploy.gates.case import Case
from pytest_llmdeploy.gates.decision import Decision, RateQuestion
from pytest_llmdeploy.gates.findings import PASS_RATE
from pytest_llmdeploy.verdicts.proportions import shows_at_least, smallest_n

Where = Callable[..., tuple[str, int]]
"""File and line of a key of the file."""


def check_decision(name: str, config: SuiteConfig, cases: Mapping[str, Case], where: Where) -> None:
    """Raise ConfigError for tags that no case has, and for what a case needs to be counted."""
    problems = [
        *_tag_problems(name, config, cases, where),
        *_cluster_problems(name, config, cases, where),
        *_repeat_problems(config, cases),
    ]
    if problems:
        raise ConfigError(problems)


def _tag_problems(
    name: str, config: SuiteConfig, cases: Mapping[str, Case], where: Where
) -> list[Problem]:
    known = sorted({tag for case in cases.values() for tag in case.tags})
    wanted: list[tuple[str, tuple[object, ...]]] = [
        *((tag, ("must_pass", number)) for number, tag in enumerate(config.must_pass)),
        *((tag, ("tags", tag)) for tag in config.tags),
    ]
    problems = []
    for tag, path in wanted:
        if tag in known:
            continue
        there = f"; its tags: {', '.join(known)}" if known else "; its cases have no tags"
        message = f"no case of the gate has the tag '{tag}'{suggestion(tag, known)}{there}"
        problems.append(_problem(name, path, where, message))
    return problems


def _cluster_problems(
    name: str, config: SuiteConfig, cases: Mapping[str, Case], where: Where
) -> list[Problem]:
    variable = config.decision.cluster_by
    if variable is None:
        return []
    # What cannot be judged anyway need not have it.
    without = [
        case for case in cases.values() if variable not in case.vars and case.problem is None
    ]
    if not without:
        return []
    first = f"case '{without[0].id}' ({without[0].source})"
    others = f" and {len(without) - 1} more" if len(without) > 1 else ""
    near = suggestion(variable, without[0].vars)
    have = "has" if len(without) == 1 else "have"
    message = f"{first}{others} {have} no variable '{variable}'{near}"
    return [_problem(name, ("decision", "cluster_by"), where, message)]


def _repeat_problems(config: SuiteConfig, cases: Mapping[str, Case]) -> list[Problem]:
    decision = config.decision
    if decision.estimate == "pass_rate":
        return []
    problems = []
    for case in cases.values():
        if case.repeats < decision.k:
            file, _, line = case.source.rpartition(":")
            message = (
                f"{decision.estimate} of k = {decision.k} needs as many repeats, not {case.repeats}"
            )
            problems.append(Problem(file, int(line), "repeats", message))
    return problems


def _problem(name: str, path: tuple[object, ...], where: Where, message: str) -> Problem:
    file, line = where("gates", name, *path)
    label = f"gates.{name}"
    for part in path:
        label += f"[{part}]" if isinstance(part, int) else f".{part}"
    return Problem(file, line, label, message)


def hopeless(decision: Decision) -> list[str]:
    """Return a sentence for each rate that so many cases can never show, even if all pass."""
    return [text for question in decision.rates if (text := _hopeless(question))]


def _hopeless(question: RateQuestion) -> str | None:
    rule, group = question.rule, question.group
    if rule.rule == "point" or not group.cases:
        return None
    limit = float(rule.limit)
    clusters = group.worth_of_clusters
    size = group.size if clusters is None else clusters
    alone = clusters is not None and group.number_of_clusters == 1
    if not alone and shows_at_least(rule.rule, 1.0, size, limit, rule.confidence):
        return None
    number = group.number_of_clusters
    some = f"{number} {'case' if clusters is None else 'cluster'}{'' if number == 1 else 's'}"
    if abs(number - size) > 1e-9:
        some += f" of unequal weight, worth {size:.1f},"
    smallest = smallest_n(rule.rule, rule.confidence, limit)
    needed = (
        "no number of cases can; take rule point"
        if smallest is None
        else f"at least {max(smallest, 1 + alone)} are needed, all passing"
    )
    whose = "" if question.name == PASS_RATE else f"{question.name}: "
    wanted = f"min_pass_rate {limit:g} at {100 * rule.confidence:g} % confidence ({rule.rule})"
    return f"{whose}{some} can never show {wanted}: {needed}"
