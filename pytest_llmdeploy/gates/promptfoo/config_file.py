"""The config itself: read, with references and the environment's variables filled in."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from pytest_llmdeploy.config.text import display_path
from pytest_llmdeploy.config.yaml_reader import KeyPath
from pytest_llmdeploy.errors import ConfigError, Problem
from pytest_llmdeploy.gates.promptfoo.js_values import UNDEFINED, to_text
from pytest_llmdeploy.gates.promptfoo.nunjucks import TemplateError, render
from pytest_llmdeploy.gates.promptfoo.paths import BadPathError, Files, is_javascript, read
from pytest_llmdeploy.gates.promptfoo.references import dereference
from pytest_llmdeploy.gates.promptfoo.yaml_dialect import read_yaml_file
from pytest_llmdeploy.gates.readers.raw import KeyLines

_TAG = re.compile(r"\{\{(?:[^}]|\}(?!\}))*\}\}")
_NAMED = re.compile(r"\benv\.(\w+)|\benv\[['\"]([^'\"]+)['\"]\]")
_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL|AUTH|PRIVATE", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Environment:
    """The variables of the process that templates may read."""

    values: Mapping[str, str] = field(default_factory=dict)
    """Those that the config itself names, and those of its section env."""
    hidden: frozenset[str] = frozenset()
    """Those of its section env that look like secrets: providers had them, templates don't."""

    def filled(self, value: Any) -> Any:
        """Return the value with what its texts say of ``env`` filled in, nothing else."""
        if isinstance(value, str):
            return _TAG.sub(self._tag, value) if "env" in value else value
        if isinstance(value, list):
            return [self.filled(one) for one in value]
        if isinstance(value, Mapping):
            return {key: self.filled(one) for key, one in value.items()}
        if isinstance(value, date):
            return {}  # as the original leaves them: objects without properties of their own
        return value

    def withheld(self, text: str) -> str | None:
        """Return the name of a variable that `text` reads, and that is there but not for it."""
        for found in _NAMED.finditer(text):
            name = found[1] or found[2]
            if name not in self.values and (name in os.environ or name in self.hidden):
                return name
        return None

    def _tag(self, found: re.Match[str]) -> str:
        tag = found.group()
        name = _NAMED.search(tag)
        if name is None or ((name[1] or name[2]) not in self.values and "|" not in tag):
            return tag
        try:
            return render(tag, {}, self.values)
        except TemplateError:
            return tag


@dataclass(frozen=True, slots=True)
class Config:
    """A config that has been read."""

    data: Mapping[str, Any]
    path: Path
    files: Files
    environment: Environment
    lines: KeyLines

    def problem(self, path: KeyPath, message: str) -> ConfigError:
        """Return an error about what stands at `path` of the config."""
        where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
        file, line = display_path(self.path), self.lines(path)
        return ConfigError([Problem(file, line, where.removeprefix("."), message)])

    def source(self, *path: str | int) -> str:
        """Return where something stands, as ``file:line``."""
        return f"{display_path(self.path)}:{self.lines(path)}"


def read_config(path: Path, root: Path) -> Config:
    """Return the config of a file; raise ConfigError."""
    file = display_path(path)
    if is_javascript(path.name):
        message = "a config that is code is not run: write it as YAML or JSON"
        raise ConfigError([Problem(file, 0, "", message)])
    if path.suffix not in {".yaml", ".yml", ".json"}:
        message = f"a promptfoo config is YAML or JSON, not '{path.suffix or path.name}'"
        raise ConfigError([Problem(file, 0, "", message)])
    document = read_yaml_file(path)
    lines = KeyLines(document.lines, ())
    files = Files(path.parent, root)
    data = {} if document.data is UNDEFINED or document.data is None else document.data
    if not isinstance(data, Mapping):
        raise ConfigError([Problem(file, 1, "", "a promptfoo config is a mapping")])
    try:
        data = dereference(data, files)
    except BadPathError as error:
        raise ConfigError([Problem(file, 0, "", str(error))]) from error
    environment = _environment(data.get("env"), read(path))
    data = environment.filled(data)
    if "targets" in data:
        data = {**data, "providers": data["targets"]}
    return Config(data, path, files, environment, lines)


def _environment(section: Any, text: str) -> Environment:
    """Return what templates may read: what the config's own text names, secrets excepted.

    A table of tests may come from anywhere; it cannot name a variable of this process.
    """
    named = {found[1] or found[2] for found in _NAMED.finditer(text)}
    offered = {
        name: os.environ[name]
        for name in sorted(named)
        if name in os.environ and not _SECRET.search(name)
    }
    own = section if isinstance(section, Mapping) else {}
    filled = Environment(offered).filled({key: to_text(value) for key, value in own.items()})
    hidden = frozenset(name for name in filled if _SECRET.search(name))
    shown = {name: value for name, value in filled.items() if name not in hidden}
    return Environment({**offered, **shown}, hidden)
