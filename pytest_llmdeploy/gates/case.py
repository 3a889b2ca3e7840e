"""One case: what to ask, and what the answer must be."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pytest_llmdeploy.gates.assertions import AssertionSet, AssertionSpec, Transform

MAX_ID_LENGTH = 80
RESERVED_ID = "gate"
"""The item that decides a suite has this name."""
_UNSAFE = re.compile(r"::+|[\[\]/\\]+|[^\S ]+")


@dataclass(frozen=True, slots=True)
class Case:
    """One case of a suite, complete and validated."""

    id: str
    """Unique within the suite, and safe as the last part of a pytest node id."""
    vars: Mapping[str, Any]
    prompt: str | tuple[Mapping[str, Any], ...] | None
    """Template or messages of its own; None takes the suite's."""
    assertions: tuple[AssertionSpec | AssertionSet, ...]
    """The suite's, then its own; never empty, except in an imported suite that judges itself."""
    tags: tuple[str, ...]
    weight: float
    """Share in the suite's pass rate; above 0."""
    threshold: float | None
    """Score in (0, 1] that suffices; None when every assertion must pass."""
    repeats: int
    source: str
    """Where it was written, as ``file:line``."""
    k_of_n: int | None = None
    """So many of its answers must pass; None: all."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """Sampling parameters of its own, over the suite's."""
    transforms: tuple[Transform, ...] = ()
    """What is done to its answers before they are judged: the suite's, then its own."""
    canned: str | None = None
    """Its answer, where the case brings one along: no model is asked."""
    problem: str | None = None
    """Why it cannot be judged here; it is an ERROR then, and nothing is asked."""
    judgement: str = ""
    """What judges it, where that is not `assertions`: another tool's own words, for `case_hash`."""
    vacuous: str | None = None
    """Why it passes whatever the answer, as another tool's rules have it."""


def safe_id(text: str) -> str:
    """Return `text` as the last part of a node id; empty when nothing is left of it.

    Letters of every script stay. A text that is too long ends in a hash of the whole, so that
    two long ids that differ late stay different.
    """
    plain = _UNSAFE.sub("-", unicodedata.normalize("NFC", text))
    if not plain.isprintable():
        plain = "".join(char if char.isprintable() else "-" for char in plain)
    plain = re.sub(r" {2,}", " ", plain).strip(" -:")
    if len(plain) <= MAX_ID_LENGTH:
        return plain
    digest = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:8]
    return f"{plain[: MAX_ID_LENGTH - 9]}-{digest}"
