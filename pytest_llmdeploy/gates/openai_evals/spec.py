"""One eval of a registry: its class, its arguments, and where it stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_llmdeploy.config.text import display_path
from pytest_llmdeploy.config.yaml_reader import Document, KeyPath, dotted
from pytest_llmdeploy.errors import Problem

YAML_MAX_BYTES = 4 << 20
"""Largest file of a registry."""
_PARAMETERS: Mapping[str, Mapping[str, Any]] = {
    "Match": {"temperature": 0},
    "Includes": {},
    "FuzzyMatch": {"temperature": 0, "max_tokens": 100},
    "JsonMatch": {"temperature": 0, "max_tokens": 512},
    "ModelBasedClassify": {"temperature": 0, "max_tokens": 1024},
}
"""Sampling parameters that each class sends unless the eval says otherwise."""


@dataclass(frozen=True, slots=True)
class Spec:
    """One eval of a registry, found."""

    name: str
    kind: str
    args: Mapping[str, Any]
    path: Path
    document: Document

    def problem(self, message: str, *keys: str | int) -> Problem:
        """Return a problem with a key of the eval."""
        path: KeyPath = (self.name, *keys)
        while path and path not in self.document.lines:
            path = path[:-1]
        line = self.document.lines.get(path, 1)
        return Problem(display_path(self.path), line, dotted((self.name, *keys)), message)


def folder(path: Path) -> Path:
    """Return the registry's folder: the one above ``evals`` or ``modelgraded``."""
    return path.parent.parent if path.parent.name == "evals" else path.parent


def parameters(spec: Spec) -> dict[str, Any]:
    """Return the sampling parameters that the class sends."""
    sent = dict(_PARAMETERS[spec.kind])
    if "max_tokens" in sent and isinstance(spec.args.get("max_tokens"), int):
        sent["max_tokens"] = spec.args["max_tokens"]
    if spec.kind == "ModelBasedClassify" and isinstance(spec.args.get("sample_kwargs"), dict):
        sent.update(spec.args["sample_kwargs"])
    return sent
