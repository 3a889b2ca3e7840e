"""The rules of a route that split a service's requests: read, changed, put back. Pure.

A VirtualService and an HTTPRoute are alike: a list of rules, each with conditions, and with targets
that have weights. A `Dialect` knows how each of them writes that down.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

Rule = Mapping[str, Any]
Spec = Mapping[str, Any]


class RulesError(Exception):
    """The rules are none that may be changed; the text says why, and what to do."""


class Dialect(Protocol):
    """How one kind of route writes rules down, in a cluster as it is now."""

    @property
    def rules_key(self) -> str:
        """Key of the rules in the route's spec: ``http``."""
        ...

    @property
    def targets_key(self) -> str:
        """Key of the targets in a rule: ``route``."""
        ...

    @property
    def default_weight(self) -> int:
        """Weight of a target among several that has none."""
        ...

    def color(self, target: Mapping[str, Any]) -> str | None:
        """Return the colour that a target leads to; None where it is not ours."""
        ...

    def shown(self, target: Mapping[str, Any]) -> str:
        """Return a target as people name it."""
        ...

    def aimed(self, target: Mapping[str, Any], color: str) -> dict[str, Any]:
        """Return the target with another aim: a colour's own name."""
        ...

    def resting(self, target: Mapping[str, Any], color: str) -> dict[str, Any]:
        """Return the target with the aim that it has between releases."""
        ...

    def header_rule(self, rule: Rule, color: str) -> dict[str, Any]:
        """Return the rule that sends what the rule takes, and has the header, to one colour."""
        ...

    def is_header_rule(self, rule: Rule, following: Rule) -> bool:
        """Return whether a rule is the header route of the rule that follows."""
        ...


def rules_of(spec: Spec, dialect: Dialect) -> list[Rule]:
    """Return the rules of a route's spec."""
    return list(spec.get(dialect.rules_key) or [])


def headers_of(rules: Sequence[Rule], dialect: Dialect) -> list[int]:
    """Return the indices of the header routes among the rules."""
    return [
        index
        for index, rule in enumerate(rules[:-1])
        if dialect.is_header_rule(rule, rules[index + 1])
    ]


def chosen(rules: Sequence[Rule], dialect: Dialect, names: Sequence[str]) -> list[int]:
    """Return the indices of the rules to split; raise RulesError where that is not clear."""
    headers = headers_of(rules, dialect)
    others = [index for index in range(len(rules)) if index not in headers]
    if names:
        found = [index for index in others if rules[index].get("name") in names]
        lacking = sorted(set(names) - {str(rules[index].get("name")) for index in found})
        if lacking:
            raise RulesError(
                f"it has no rule {', '.join(lacking)}; its rules are "
                f"{_named(rules, others)}: mend canary.router.rules"
            )
        if len(found) != len(names):
            raise RulesError(f"several of its rules have one name: {_named(rules, found)}")
        return found
    if len(others) != 1:
        raise RulesError(
            f"it has {len(others)} rules ({_named(rules, others)}): name those to split in "
            "canary.router.rules"
        )
    return others


def _named(rules: Sequence[Rule], indices: Sequence[int]) -> str:
    names = [str(rules[index].get("name") or f"number {index + 1}, no name") for index in indices]
    return ", ".join(names) or "none"


def weights(rule: Rule, dialect: Dialect) -> dict[str, int]:
    """Return the percentages by colour; raise RulesError for targets that are not ours."""
    targets = rule.get(dialect.targets_key) or []
    if not targets:
        raise RulesError(f"{_title(rule)} leads to no service: it cannot be split")
    parts: dict[str, int] = {}
    for target in targets:
        color = dialect.color(target)
        if color is None:
            raise RulesError(
                f"{_title(rule)} leads to {dialect.shown(target)} as well, which is neither "
                "version: a split would take its requests away. Give it a rule of its own, or "
                "name other rules in canary.router.rules"
            )
        alone = 100 if len(targets) == 1 else dialect.default_weight
        given = target.get("weight")
        parts[color] = parts.get(color, 0) + int(alone if given is None else given)
    return percentages(parts)


def percentages(parts: Mapping[str, int]) -> dict[str, int]:
    """Return proportions as whole percentages that sum to 100, the largest rests rounded up."""
    total = sum(parts.values())
    if total <= 0:
        raise RulesError("all its weights are 0: it answers nothing")
    result = {key: value * 100 // total for key, value in parts.items()}
    by_rest = sorted(parts, key=lambda key: (-(parts[key] * 100 % total), key))
    for key in by_rest[: 100 - sum(result.values())]:
        result[key] += 1
    return result


def header_color(rules: Sequence[Rule], dialect: Dialect, indices: Sequence[int]) -> str | None:
    """Return the colour that the header leads to before all of the rules; None where not one."""
    headers = headers_of(rules, dialect)
    colors = {
        dialect.color((rules[index - 1].get(dialect.targets_key) or [{}])[0])
        if index - 1 in headers
        else None
        for index in indices
    }
    return colors.pop() if len(colors) == 1 else None


def split(rule: Rule, dialect: Dialect, shares: Mapping[str, int]) -> dict[str, Any]:
    """Return the rule with a target for each colour, and these weights; all else as it is."""
    present = list(rule.get(dialect.targets_key) or [])
    by_color = {dialect.color(target): target for target in reversed(present)}
    order = [color for color in dict.fromkeys(map(dialect.color, present)) if color in shares]
    order += [color for color in shares if color not in order]
    targets = [
        {**dialect.aimed(by_color.get(color) or present[0], color), "weight": shares[color]}
        for color in order
        if color is not None
    ]
    return {**copy.deepcopy(dict(rule)), dialect.targets_key: targets}


def rest(rule: Rule, dialect: Dialect, color: str) -> dict[str, Any]:
    """Return the rule with all requests to one colour, as it is between releases."""
    present = list(rule.get(dialect.targets_key) or [])
    of_color = next((one for one in present if dialect.color(one) == color), present[0])
    target = dialect.resting(of_color, color)
    target.pop("weight", None)
    return {**copy.deepcopy(dict(rule)), dialect.targets_key: [target]}


def with_rules(spec: Spec, dialect: Dialect, changed: Mapping[int, Sequence[Rule]]) -> Spec:
    """Return the spec in which the rules of these indices are replaced, each by a few."""
    rules: list[Rule] = []
    for index, rule in enumerate(rules_of(spec, dialect)):
        rules += changed.get(index, [rule])
    return {**spec, dialect.rules_key: rules}


def ours(spec: Spec, dialect: Dialect, names: Sequence[str]) -> list[Rule]:
    """Return the rules that are ours to change: those to split, and their header routes."""
    rules = rules_of(spec, dialect)
    indices = {*chosen(rules, dialect, names), *headers_of(rules, dialect)}
    return [rules[index] for index in sorted(indices)]


def put_back(former: Spec, present: Spec, dialect: Dialect, names: Sequence[str]) -> Spec:
    """Return the present spec with our rules as they were; others stay as they are.

    Where our rules cannot be found among the present ones, all rules become what they were.
    """
    old, new = rules_of(former, dialect), rules_of(present, dialect)
    try:
        before, now = chosen(old, dialect, names), chosen(new, dialect, names)
    except RulesError:
        return {**present, dialect.rules_key: old}
    if len(before) != len(now):
        return {**present, dialect.rules_key: old}
    old_headers, new_headers = headers_of(old, dialect), headers_of(new, dialect)
    changed: dict[int, Sequence[Rule]] = {index: [] for index in new_headers}
    for index, at in zip(before, now, strict=True):
        headed = [old[index - 1]] if index - 1 in old_headers else []
        changed[at] = [*headed, old[index]]
    return with_rules(present, dialect, changed)


def missing_part(wanted: Any, present: Any, path: str = "") -> str | None:
    """Return where what is there lacks what was written; None where it has all of it.

    The server may add defaults; it may drop or change nothing.
    """
    if isinstance(wanted, Mapping) and isinstance(present, Mapping):
        for key, value in wanted.items():
            at = f"{path}.{key}" if path else str(key)
            if key not in present:
                return at
            if (found := missing_part(value, present[key], at)) is not None:
                return found
        return None
    if isinstance(wanted, Sequence) and isinstance(present, Sequence) and not _is_text(wanted):
        if len(wanted) != len(present):
            return path
        pairs = enumerate(zip(wanted, present, strict=True))
        parts = (missing_part(one, other, f"{path}[{at}]") for at, (one, other) in pairs)
        return next((part for part in parts if part is not None), None)
    return None if wanted == present else path


def _is_text(value: Any) -> bool:
    return isinstance(value, str | bytes)


def _title(rule: Rule) -> str:
    return f"its rule {rule['name']}" if rule.get("name") else "its rule"
