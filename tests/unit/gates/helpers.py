"""What several tests of the gates need."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pytest_llmdeploy.config.gates import SuiteConfig
from pytest_llmdeploy.gates.assertions import AssertionContext, AssertionRegistry
from pytest_llmdeploy.gates.cases import Case, load_cases
from pytest_llmdeploy.ports import Answer


def where(*path: str | int) -> tuple[str, int]:
    """Stand in for the loaded file: the line is the path's length."""
    return "llmdeploy.yaml", len(path)


def suite(**fields: Any) -> SuiteConfig:
    """Return a suite with a prompt, unless it is given."""
    return SuiteConfig.model_validate({"prompt": "Capital of {{ country }}?", **fields})


def load(
    root: Path,
    *,
    checks: Sequence[Any] = (),
    registry: AssertionRegistry | None = None,
    **fields: Any,
) -> list[Case]:
    """Load the cases of a suite called capitals; `checks` is its key assert."""
    return load_cases("capitals", suite(**{**fields, "assert": checks}), root, where, registry)


def answer(text: str, latency: float = 0.5) -> Answer:
    """Return an answer of a model."""
    return Answer(text, "stop", 1, 1, latency, "m")


def context(text: str = "", **variables: Any) -> AssertionContext:
    """Return what an assertion can look at."""
    return AssertionContext(answer=answer(text), case_id="c", vars=variables, messages=())
