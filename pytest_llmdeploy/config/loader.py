"""Load ``llmdeploy.yaml`` for one environment, and report everything that is wrong with it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pytest_llmdeploy.config.canary import CanaryConfig
from pytest_llmdeploy.config.gates import BudgetConfig, PriceConfig, SuiteConfig, gate_names
from pytest_llmdeploy.config.load import LoadConfig
from pytest_llmdeploy.config.merging import View, descend, view
from pytest_llmdeploy.config.models import (
    EnvironmentConfig,
    FileConfig,
    HealthConfig,
    PolicyConfig,
    ServiceConfig,
    SmokeConfig,
)
from pytest_llmdeploy.config.release import BlueGreenConfig, RollbackConfig
from pytest_llmdeploy.config.sentences import suggestion
from pytest_llmdeploy.config.text import display_path
from pytest_llmdeploy.config.validation import validate
from pytest_llmdeploy.config.variables import expand_tree, literal_part
from pytest_llmdeploy.config.yaml_reader import Document, KeyPath, dotted, read_yaml
from pytest_llmdeploy.errors import ConfigError, Problem
from pytest_llmdeploy.redaction import KEY_HEADERS, Redactor

MAX_BYTES = 1 << 20
"""Largest llmdeploy.yaml; long case lists belong in files of their own."""
_LITERAL_KEY = 8
KEY_FIELDS = ("api_key", "token")
_GATE_ENDPOINTS: tuple[KeyPath, ...] = (
    ("endpoint",),
    ("judge", "endpoint"),
    ("embeddings", "endpoint"),
)


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """The file as the chosen environment sees it: variables filled in, overrides merged."""

    path: Path
    root: Path
    """The file's directory, to which the paths in it are relative."""
    environment_name: str
    environment: EnvironmentConfig
    """The environment's own keys; its overrides stand in the sections."""
    service: ServiceConfig
    health: HealthConfig
    smoke: SmokeConfig
    gates: dict[str, SuiteConfig]
    prices: dict[str, PriceConfig]
    budget: BudgetConfig
    load: dict[str, LoadConfig]
    blue_green: BlueGreenConfig | None
    canary: CanaryConfig | None
    rollback: RollbackConfig
    policy: PolicyConfig
    redactor: Redactor
    """Hides every value that came from a variable."""
    _view: View = field(repr=False)

    def where(self, *path: str | int) -> tuple[str, int]:
        """Return file and line of a key such as ``where("gates", "capitals", "cases")``.

        A value from the environment's override has its line there. A key that the file does not
        have is answered with the nearest one above it, or line 0.
        """
        return display_path(self.path), self._view.line(path)


def load_config(
    path: Path, environment: str, variables: Mapping[str, str] = os.environ
) -> LoadedConfig:
    """Return the configuration for an environment; raise ConfigError with all problems at once.

    The other environments are validated too, as far as it goes without their variables.
    """
    document = read_yaml(path, MAX_BYTES)
    file = display_path(path)
    if not isinstance(document.data, dict):
        message = "expected keys such as service:, environments: and gates: at the top"
        raise ConfigError([Problem(file, 1, "", message)])
    problems: list[Problem] = []
    try:
        document = _with_named_gates(document)
    except ValueError as error:
        problems.append(Problem(file, document.lines.get(("gates",), 0), "gates", str(error)))
        document = _without_gates(document)
    secrets: frozenset[str] = frozenset()
    chosen: tuple[View, FileConfig | None] | None = None
    names = _environment_names(document)
    for name in (*names, *([] if names else [None])):
        seen = view(document, name)
        # Where there is no environment at all nothing can be left for another one to judge.
        is_chosen = name == environment or not names
        model, found, values = _checked(seen, file, variables if is_chosen else None)
        problems += found
        if is_chosen:
            chosen, secrets = (seen, model), values
    if chosen is None and names:
        problems.append(Problem(file, 0, "environments", _no_environment(environment, names)))
    redactor = Redactor(secrets)
    if problems or chosen is None or chosen[1] is None:
        raise ConfigError([Problem(p.file, p.line, p.where, redactor(p.message)) for p in problems])
    seen, model = chosen[0], chosen[1]
    return LoadedConfig(
        path=path,
        root=path.absolute().parent,
        environment_name=environment,
        environment=model.environments[environment],
        service=model.service,
        health=model.health,
        smoke=model.smoke,
        gates=model.gates,
        prices=model.prices,
        budget=model.budget,
        load=model.load,
        blue_green=model.blue_green,
        canary=model.canary,
        rollback=model.rollback,
        policy=model.policy,
        redactor=redactor,
        _view=seen,
    )


def _with_named_gates(document: Document) -> Document:
    """Return the document with a list of gates as the mapping that it stands for.

    Raises ValueError with a sentence for the user.
    """
    gates = document.data.get("gates")
    if not isinstance(gates, list):
        return document
    names = gate_names(gates)
    named = {
        name: {key: value for key, value in gate.items() if key != "name"}
        for name, gate in zip(names, gates, strict=True)
    }
    lines = {
        ("gates", names[int(path[1])], *path[2:])
        if path[0:1] == ("gates",) and path[1:]
        else path: line
        for path, line in document.lines.items()
    }
    return replace(document, data={**document.data, "gates": named}, lines=lines)


def _without_gates(document: Document) -> Document:
    rest = {key: value for key, value in document.data.items() if key != "gates"}
    return replace(document, data=rest)


def _environment_names(document: Document) -> list[str]:
    environments = document.data.get("environments")
    return list(environments) if isinstance(environments, dict) else []


def _no_environment(name: str, names: list[str]) -> str:
    near = suggestion(name, names) or "."
    return f"no environment '{name}'{near} The file has: {', '.join(names)} (choose with --env)"


def _checked(
    seen: View, file: str, variables: Mapping[str, str] | None
) -> tuple[FileConfig | None, list[Problem], frozenset[str]]:
    found: list[tuple[KeyPath, str]] = []
    data, secrets = expand_tree(seen.data, variables, lambda *finding: found.append(finding))
    # A variable that is not set stays in its value, which cannot be judged then.
    resolved = variables is not None and not found
    model, wrong = validate(seen, data, resolved=resolved)
    found += (*wrong, *_literal_keys(seen))
    # What else is wrong with such a name goes with the variable.
    names = dict(_names_from_variables(seen))
    found = [finding for finding in found if finding[0] not in names]
    found += names.items()
    problems = [
        Problem(file, seen.line(path), dotted(seen.source(path)), message)
        for path, message in found
    ]
    return model, problems, secrets


def _literal_keys(seen: View) -> Iterator[tuple[KeyPath, str]]:
    for path, section in _key_holders(seen.data):
        entries = [("api_key", section.get("api_key"))]
        if isinstance(headers := section.get("headers"), dict):
            entries += [item for item in headers.items() if item[0].lower() in KEY_HEADERS]
        for name, value in entries:
            if not isinstance(value, str):
                continue
            literal = literal_part(value).strip().lower().removeprefix("bearer").strip()
            if len(literal) >= _LITERAL_KEY:
                at = (*path, name) if name in KEY_FIELDS else (*path, "headers", name)
                yield at, "write ${VARIABLE}: a key must not stand in the file"


def _key_holders(data: Mapping[str, Any]) -> Iterator[tuple[KeyPath, dict[str, Any]]]:
    if isinstance(service := data.get("service"), dict):
        yield ("service",), service
    gates = data.get("gates")
    for name, suite in gates.items() if isinstance(gates, dict) else ():
        for place in _GATE_ENDPOINTS:
            endpoint, depth = descend(suite, place)
            if depth == len(place) and isinstance(endpoint, dict):
                yield ("gates", name, *place), endpoint
    path = ("canary", "metrics", "prometheus")
    found: Any = data
    for key in path:
        found = found.get(key) if isinstance(found, dict) else None
    if isinstance(found, dict):
        yield path, found


def _names_from_variables(seen: View) -> Iterator[tuple[KeyPath, str]]:
    for path, name in _names(seen.data):
        if isinstance(name, str) and "${" in name:
            yield path, "must not come from a variable: it shows in every report"


def _names(data: Mapping[str, Any]) -> Iterator[tuple[KeyPath, Any]]:
    if isinstance(service := data.get("service"), dict):
        yield ("service", "name"), service.get("name")
    for stage in ("health", "smoke"):
        section = data.get(stage)
        checks = section.get("checks") if isinstance(section, dict) else None
        for index, check in enumerate(checks if isinstance(checks, list) else ()):
            if isinstance(check, dict):
                path = (stage, "checks", index)
                yield (*path, "name"), check.get("name")
                if isinstance(request := check.get("request"), dict):
                    yield (*path, "request", "name"), request.get("name")
    for key in ("gates", "load", "environments"):
        if isinstance(section := data.get(key), dict):
            yield from (((key, name), name) for name in section)
