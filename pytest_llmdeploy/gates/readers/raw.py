"""What every reader of case files returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pytest_llmdeploy.config.yaml_reader import KeyPath, dotted
from pytest_llmdeploy.errors import Problem

MAX_BYTES = 256 << 20
"""Largest JSON, JSON Lines or CSV file of cases."""


@dataclass(frozen=True, slots=True)
class RawCase:
    """One case as its file has it, not looked at yet."""

    data: Any
    file: str
    line: int
    row: int
    """1-based number within the file; lines without a case don't count."""
    line_of: Callable[[KeyPath], int] | None = None
    """Line of a key within the case, where the format knows more than the case's own line."""
    label_of: Callable[[KeyPath], str] = dotted
    """What the user calls a key within the case."""
    column: bool = False
    """The assertions come from columns of expected answers."""

    def problem(self, path: KeyPath, message: str) -> Problem:
        """Return a problem with what stands at `path` within the case."""
        return Problem(self.file, self.line_at(path), self.label_of(path), message)

    def line_at(self, path: KeyPath) -> int:
        """Return the line of what stands at `path` within the case."""
        return self.line_of(path) if self.line_of else self.line


@dataclass(frozen=True, slots=True)
class Reading:
    """What one file gave: its readable cases, and what is wrong with the others."""

    cases: list[RawCase] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class KeyLines:
    """Looks up lines of keys below one place, climbing to the nearest key that has one."""

    lines: Mapping[KeyPath, int]
    base: KeyPath

    def __call__(self, path: KeyPath) -> int:
        """Return the line of `path` or of its nearest ancestor."""
        full = (*self.base, *path)
        while full and full not in self.lines:
            full = full[:-1]
        return self.lines.get(full, 1)
