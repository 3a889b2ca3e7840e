"""A protected environment changes nothing that was not asked for by name."""

from __future__ import annotations

import re
from itertools import product

from _pytest.mark.expression import Expression

from pytest_llmdeploy.config.models import READING_STAGES, EnvironmentConfig

_NAME = re.compile(r"[^\s()=,]+")
MOST_NAMES = 12
"""Marker expressions with more names are not analysed, and name nothing."""


def names_stage(expression: str, stage: str) -> bool:
    """Return whether the marker expression asks for `stage` by name.

    It does where the stage's marker can make it true: ``canary``, ``canary and not slow``, but
    neither ``not canary`` nor ``not slow``, which merely let it through.
    """
    if not expression.strip():
        return False
    names = set(_NAME.findall(expression))
    others = sorted(names - {stage, "and", "or", "not"})
    if stage not in names or len(others) > MOST_NAMES:
        return False
    compiled = Expression.compile(expression)
    for chosen in product((False, True), repeat=len(others)):
        world = dict(zip(others, chosen, strict=True))
        if _holds(compiled, world | {stage: True}) and not _holds(compiled, world | {stage: False}):
            return True
    return False


def _holds(expression: Expression, world: dict[str, bool]) -> bool:
    def matches(name: str, /, **_: object) -> bool:
        return world.get(name, False)

    return expression.evaluate(matches)


def refusal(
    stage: str,
    environment_name: str,
    environment: EnvironmentConfig,
    *,
    marker_expression: str,
    image: str | None,
    context: str | None,
) -> str | None:
    """Return why `stage` must not run against the environment; None when it may.

    Load deploys nothing, so it needs no image; it needs caps of its own instead.
    `context` is the current context of the kubeconfig in use; None where there is none.
    """
    if not environment.protected or stage in READING_STAGES:
        return None
    missing = []
    if not names_stage(marker_expression, stage):
        missing.append(f"name the stage: -m {stage}")
    if stage == "load":
        if environment.load_limits is None:
            missing.append(f"set environments.{environment_name}.load_limits: what it may cost")
    elif image is None:
        missing.append("give the version to release: --llmdeploy-image REF")
    if environment.platform == "kubernetes" and context != environment.context:
        missing.append(
            f"use the kubeconfig context {environment.context!r} (now: {context or 'none'})"
        )
    if not missing:
        return None
    what = "so it takes no load" if stage == "load" else f"so {stage} changes nothing there"
    return (
        f"the environment '{environment_name}' is protected, {what}. "
        f"To run it: {'; '.join(missing)}"
    )
