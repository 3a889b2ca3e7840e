"""How an HTTPRoute writes a split down. Pure."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pytest_llmdeploy.platforms.kubernetes.routing.rules import Rule

_ANY_PATH = {"type": "PathPrefix", "value": "/"}
"""What the server writes down where a condition names no path."""


@dataclass(frozen=True, slots=True)
class HttpDialect:
    """An HTTPRoute's rules, whose targets are Services: one of each colour, and the service's."""

    namespace: str
    service: str
    """The Service that users know."""
    service_color: str | None
    """The colour that it selects now."""
    services: Mapping[str, str]
    """The colours' own Services: name by colour."""
    rests_at_service: bool
    """Between releases requests go to the Service itself, and not to a colour's."""
    header: str | None
    header_value: str
    rules_key: str = "rules"
    targets_key: str = "backendRefs"
    default_weight: int = 1

    def color(self, target: Mapping[str, Any]) -> str | None:
        """Return the colour that a backend leads to; None where it is not ours."""
        kind = (target.get("group") or "", target.get("kind") or "Service")
        if kind != ("", "Service") or (target.get("namespace") or self.namespace) != (
            self.namespace
        ):
            return None
        if target.get("name") == self.service:
            return self.service_color
        found = (color for color, name in self.services.items() if name == target.get("name"))
        return next(found, None)

    def shown(self, target: Mapping[str, Any]) -> str:
        """Return kind and name."""
        return f"{target.get('kind') or 'Service'} {target.get('name')}"

    def aimed(self, target: Mapping[str, Any], color: str) -> dict[str, Any]:
        """Return the target with a colour's Service; its port stays."""
        return {**copy.deepcopy(dict(target)), "name": self.services[color]}

    def resting(self, target: Mapping[str, Any], color: str) -> dict[str, Any]:
        """Return the target with the Service, or a colour's own."""
        name = self.service if self.rests_at_service else self.services[color]
        return {**copy.deepcopy(dict(target)), "name": name}

    def header_rule(self, rule: Rule, color: str) -> dict[str, Any]:
        """Return the rule with the header in each of its conditions, and one backend.

        It has no name of its own: clusters with older definitions refuse that.
        """
        result = copy.deepcopy(dict(rule))
        result.pop("name", None)
        result["matches"] = self._with_header(rule)
        target = self.aimed(result["backendRefs"][0], color)
        target["weight"] = 1
        result["backendRefs"] = [target]
        return result

    def is_header_rule(self, rule: Rule, following: Rule) -> bool:
        """Return whether the rule takes just what has the header of what the next one takes."""
        targets = rule.get("backendRefs") or []
        return (
            self.header is not None
            and len(targets) == 1
            and self.color(targets[0]) is not None
            and [_completed(one) for one in rule.get("matches") or [{}]]
            == self._with_header(following)
        )

    def _with_header(self, rule: Rule) -> list[dict[str, Any]]:
        condition = {"type": "Exact", "name": self.header, "value": self.header_value}
        return [
            {**_completed(one), "headers": [*(one.get("headers") or []), condition]}
            for one in rule.get("matches") or [{}]
        ]


def _completed(match: Mapping[str, Any]) -> dict[str, Any]:
    """Return a condition as the server writes it down."""
    result = copy.deepcopy(dict(match))
    result.setdefault("path", dict(_ANY_PATH))
    return result
