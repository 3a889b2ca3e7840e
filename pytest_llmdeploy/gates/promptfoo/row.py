"""One result row of a promptfoo config: a test with its variables, prompt, provider and repeat."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class RowProvider:
    """Whom the row asks, as the config names it; what is asked in truth is the environment."""

    id: str
    """Such as ``openai:chat:gpt-5`` or ``echo``."""
    label: str
    """Its label; its id where it has none."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """As written, tools and functions among it."""
    transform: Any = None
    """What is done to its answer before the test's own transform; text as written, or None."""


@dataclass(frozen=True, slots=True)
class RowPrompt:
    """The prompt of the row."""

    raw: str
    """The template."""
    label: str
    rendered: str
    """With the row's variables; chat messages are JSON or YAML here."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """Parameters that go with the prompt."""


@dataclass(frozen=True, slots=True)
class Row:
    """One result row: test x variables x prompt x provider x repeat."""

    id: str
    """Unique within the suite, and safe as the last part of a pytest node id."""
    description: str
    """The test's own; empty where it has none."""
    vars: Mapping[str, Any]
    """Final: files are loaded, templates in variables are filled in."""
    asserts: tuple[Mapping[str, Any], ...]
    """As written, after $ref, defaultTest and scenarios; templates are not filled in yet."""
    threshold: float | None
    """The test's, or the default test's."""
    options: Mapping[str, Any]
    """Merged: transform, rubricPrompt, provider, and so on."""
    provider: RowProvider
    prompt: RowPrompt
    test: Mapping[str, Any]
    """The whole test, merged and otherwise as written: what javascript sees as context.test."""
    base: Path
    """Folder of the config, against which ``file://`` is resolved."""
    root: Path
    """Folder that no path may leave: that of llmdeploy.yaml, which holds `base` as a rule."""
    allow_code: bool
    """Whether the user allows code of the config to run."""
    repeat: int = 0
    """0 for the first time the row is asked."""
    source: str = ""
    """Where the test was written, as ``file:line``."""
