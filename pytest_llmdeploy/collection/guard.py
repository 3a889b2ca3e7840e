"""Keeps tests of changing stages away from protected environments."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_llmdeploy.collection.items import ERROR, StageItem
from pytest_llmdeploy.config.models import READING_STAGES, EnvironmentConfig
from pytest_llmdeploy.markers import stages_of
from pytest_llmdeploy.options import nearest_file
from pytest_llmdeploy.platforms.kubeconfig import current_context
from pytest_llmdeploy.protection import names_stage, refusal

if TYPE_CHECKING:
    from pytest_llmdeploy.config.loader import LoadedConfig


def _in_cluster(environment: EnvironmentConfig) -> bool:
    return environment.protected and environment.platform == "kubernetes"


def refuse_change(
    item: pytest.Item, load: Callable[[Path], LoadedConfig], image: str | None
) -> None:
    """Skip or stop `item` where it must not touch the environment that its file names.

    A test that the marker expression did not ask for is skipped with the reason; one that was
    asked for, but without all that a protected environment demands, is an error.
    """
    stages = stages_of(item) - READING_STAGES
    if not stages:
        return
    if isinstance(item, StageItem):
        loaded = item.loaded
    else:
        path = nearest_file(item.config, item.path)
        if path is None:
            return
        loaded = load(path)
    expression = item.config.getoption("markexpr")
    for stage in sorted(stages):
        reason = refusal(
            stage,
            loaded.environment_name,
            loaded.environment,
            marker_expression=expression,
            image=image,
            context=current_context() if _in_cluster(loaded.environment) else None,
        )
        if reason is None:
            continue
        if names_stage(expression, stage):
            raise ERROR(reason)
        pytest.skip(reason)
