"""One environment's view of the file: base sections with its overrides, each value's place kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pytest_llmdeploy.config.yaml_reader import Document, KeyPath

OVERRIDABLE = (
    *("service", "health", "smoke", "gates", "load"),
    *("blue_green", "canary", "rollback", "policy"),
)
"""The base sections of which an environment may hold different values."""


@dataclass(frozen=True, slots=True)
class View:
    """The file as one environment sees it."""

    document: Document
    environment: str | None
    data: dict[str, Any]
    """Shaped like the file, with this environment only, its overrides moved into the sections."""

    def source(self, path: KeyPath) -> KeyPath:
        """Return where in the file the value at `path` stands, or its nearest ancestor does."""
        if self.environment is not None and path and path[0] in OVERRIDABLE:
            home = ("environments", self.environment)
            override, found = descend(self.document.data, (*home, *path))
            if found > len(home) and (found == len(home) + len(path) or type(override) is not dict):
                return (*home, *path[: found - len(home)])
            base = descend(self.document.data, path)[1]
            return path[:base] if base >= found - len(home) else (*home, *path[: found - len(home)])
        return path[: descend(self.document.data, path)[1]]

    def line(self, path: KeyPath) -> int:
        """Return the line of `source(path)`; 0 for the root, which has no line of its own."""
        source = self.source(path)
        return self.document.lines.get(source, 0) if source else 0

    def raw(self, path: KeyPath) -> Any:
        """Return what the file has at `source(path)`, before variables are filled in."""
        return descend(self.document.data, self.source(path))[0]


def view(document: Document, environment: str | None) -> View:
    """Merge an environment's overrides into the base sections: maps deeply, the rest replaces."""
    data = dict(document.data)
    environments = data.get("environments")
    body = environments.get(environment) if isinstance(environments, dict) else None
    if environment is None or not isinstance(environments, dict):
        return View(document, None, data)
    if isinstance(body, dict):
        # An override that is no mapping stays in the environment, whose model says what is wrong.
        overrides = {key: body[key] for key in OVERRIDABLE if isinstance(body.get(key), dict)}
        body = {key: value for key, value in body.items() if key not in overrides}
        data = _merged(data, overrides)
    data["environments"] = {environment: body}
    return View(document, environment, data)


def _merged(base: Mapping[str, Any], override: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in override.items():
        under = result.get(key)
        both = isinstance(value, dict) and isinstance(under, dict)
        result[key] = _merged(under, value) if both else value  # type: ignore[arg-type]
    return result


def descend(value: Any, path: KeyPath) -> tuple[Any, int]:
    """Return the value at the end of the longest part of `path` that exists, and its length."""
    for depth, part in enumerate(path):
        if isinstance(value, dict):
            exists = part in value
        else:
            exists = isinstance(value, list) and isinstance(part, int) and part < len(value)
        if not exists:
            return value, depth
        value = value[part]
    return value, len(path)
