"""Hooks that a conftest.py or another plugin can implement."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_llmdeploy.events import VerdictEvent
    from pytest_llmdeploy.gates.assertions import AssertionRegistry


@pytest.hookspec
def pytest_llmdeploy_assertions(registry: AssertionRegistry) -> None:
    """Add assertion types: ``registry.register("name", function)``; called once per process."""


@pytest.hookspec
def pytest_llmdeploy_verdict(event: VerdictEvent) -> None:
    """See each verdict as it is reached; called in the controller, in the order of the reports."""
