"""Which contexts the kubeconfig has; never its credentials."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_llmdeploy.config.yaml_reader import read_yaml

LARGEST_KUBECONFIG = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Kubeconfig:
    """Names that the kubeconfig files hold."""

    files: tuple[Path, ...]
    contexts: tuple[str, ...]
    current: str | None


def read_kubeconfig(variables: Mapping[str, str] = os.environ) -> Kubeconfig:
    """Read the files of $KUBECONFIG, else ~/.kube/config; a missing file holds nothing.

    Raises ConfigError for a file that cannot be read. Where several files name a current
    context, the first does, as kubectl has it.
    """
    named = variables.get("KUBECONFIG", "")
    paths = [Path(part) for part in named.split(os.pathsep) if part]
    if not paths:
        paths = [Path(variables.get("HOME", "~")).expanduser() / ".kube" / "config"]
    files = tuple(path for path in paths if path.is_file())
    contexts: list[str] = []
    current: str | None = None
    for file in files:
        data: Any = read_yaml(file, LARGEST_KUBECONFIG).data
        if isinstance(data, dict):
            contexts += [entry["name"] for entry in data.get("contexts") or [] if "name" in entry]
            current = current or data.get("current-context") or None
    return Kubeconfig(files, tuple(contexts), current)


def current_context() -> str | None:
    """Return the name of the current context; None where there is none."""
    return read_kubeconfig().current
