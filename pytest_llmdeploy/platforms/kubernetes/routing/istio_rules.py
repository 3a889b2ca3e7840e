"""How a VirtualService and a DestinationRule write a split down. Pure."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_llmdeploy.platforms.kubernetes.names import COLOR
from pytest_llmdeploy.platforms.kubernetes.routing.rules import Rule, RulesError
from pytest_llmdeploy.ports import COLORS, other_color

HEADER_RULE = "llmdeploy-header"
"""What the names of our header routes begin with."""
STABLE, CANARY = "stable", "canary"
ROLES = (STABLE, CANARY)
"""Subsets that are named by what a version is now."""
Subset = Mapping[str, Any]


def service_of(host: str, namespace: str) -> str | None:
    """Return the Service that a host names from within a namespace; None for another one's."""
    name, *rest = host.split(".")
    if not rest:
        return name
    inside = rest[0] == namespace and (len(rest) == 1 or rest[1] == "svc")
    return name if inside else None


def subset_colors(subsets: Sequence[Subset]) -> dict[str, str]:
    """Return the colours that subsets select, by the subsets' names."""
    found = {str(one["name"]): (one.get("labels") or {}).get(COLOR) for one in subsets}
    return {name: color for name, color in found.items() if color in COLORS}


def with_subsets(
    subsets: Sequence[Subset], roles: Mapping[str, str], *, add_roles: bool
) -> list[dict[str, Any]]:
    """Return the subsets with one for each colour, and with roles that select these colours.

    Roles that are there already are relabelled; `add_roles` says whether others are added. Raises
    RulesError where a subset that is named like a colour selects something else.
    """
    colors = subset_colors(subsets)
    result = [copy.deepcopy(dict(one)) for one in subsets]
    for color in COLORS:
        by_name = next((one for one in result if one["name"] == color), None)
        if by_name is not None and colors.get(color) != color:
            raise RulesError(
                f"its subset {color} selects {by_name.get('labels') or 'all pods'}, not "
                f"{COLOR}: {color}"
            )
        if own_subset(colors, color) is None:
            result.append({"name": color, "labels": {COLOR: color}})
    for role, color in roles.items():
        present = next((one for one in result if one["name"] == role), None)
        if present is not None and role in colors:
            present["labels"] = {**present["labels"], COLOR: color}
        elif present is None and add_roles:
            result.append({"name": role, "labels": {COLOR: color}})
    return result


def own_subset(colors: Mapping[str, str], color: str) -> str | None:
    """Return the subset that always selects a colour: its own name first; None without one."""
    names = [name for name, selected in colors.items() if selected == color and name not in ROLES]
    return color if color in names else next(iter(names), None)


def roles(stable: str) -> dict[str, str]:
    """Return which colours the roles select."""
    return {STABLE: stable, CANARY: other_color(stable)}


@dataclass(frozen=True, slots=True)
class IstioDialect:
    """A VirtualService's rules, whose targets are subsets of one host."""

    namespace: str
    service: str
    """The Service that users know."""
    service_color: str | None
    """The colour that it selects now."""
    host: str
    """The host whose subsets are the colours."""
    subsets: Mapping[str, str]
    """Their colours by name."""
    rests_at_service: bool
    """Between releases requests go to the Service itself, and not to a colour's subset."""
    header: str | None
    header_value: str
    rules_key: str = "http"
    targets_key: str = "route"
    default_weight: int = 0

    def color(self, target: Mapping[str, Any]) -> str | None:
        """Return the colour that a destination leads to; None where it is not ours."""
        destination = target.get("destination") or {}
        name = service_of(str(destination.get("host")), self.namespace)
        subset: str | None = destination.get("subset")
        if name is None:
            return None
        if name == service_of(self.host, self.namespace) and subset is not None:
            return self.subsets.get(subset)
        return self.service_color if name == self.service and subset is None else None

    def shown(self, target: Mapping[str, Any]) -> str:
        """Return host and subset."""
        destination = target.get("destination") or {}
        host, subset = destination.get("host"), destination.get("subset")
        if not subset:
            return str(host)
        same = service_of(str(host), self.namespace) == service_of(self.host, self.namespace)
        other = "" if same else " of another host than canary.router.destination_rule is about"
        return f"{host} (subset {subset}{other})"

    def aimed(self, target: Mapping[str, Any], color: str) -> dict[str, Any]:
        """Return the target with a colour's subset as its destination; its port stays."""
        return self._at(target, self.host, own_subset(self.subsets, color) or color)

    def resting(self, target: Mapping[str, Any], color: str) -> dict[str, Any]:
        """Return the target with the Service, or a colour's subset, as its destination."""
        if self.rests_at_service:
            return self._at(target, self.service, None)
        return self.aimed(target, color)

    @staticmethod
    def _at(target: Mapping[str, Any], host: str, subset: str | None) -> dict[str, Any]:
        result = copy.deepcopy(dict(target))
        destination = dict(result.get("destination") or {})
        destination.pop("subset", None)
        destination["host"] = host
        if subset is not None:
            destination["subset"] = subset
        result["destination"] = destination
        return result

    def header_rule(self, rule: Rule, color: str) -> dict[str, Any]:
        """Return the rule with the header in each of its conditions, and one destination."""
        if self.header is None:
            raise ValueError("no header is asked for")
        name = self.header.lower()  # Istio takes no other
        result = copy.deepcopy(dict(rule))
        result["name"] = f"{HEADER_RULE}-{rule['name']}" if rule.get("name") else HEADER_RULE
        result["match"] = [
            {**one, "headers": {**(one.get("headers") or {}), name: {"exact": self.header_value}}}
            for one in result.get("match") or [{}]
        ]
        target = self.aimed(result["route"][0], color)
        target["weight"] = 100
        result["route"] = [target]
        return result

    def is_header_rule(self, rule: Rule, following: Rule) -> bool:  # noqa: ARG002
        """Return whether the rule has the name of our header routes."""
        return str(rule.get("name") or "").startswith(HEADER_RULE)
