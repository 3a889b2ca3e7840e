"""llmdeploy.yaml as a pytest file: each stage a node, each question an item."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from pytest_llmdeploy.checks.measure import measure_health, measure_smoke
from pytest_llmdeploy.checks.smoke import smoke_checks
from pytest_llmdeploy.collection.gates import SuiteNode
from pytest_llmdeploy.collection.items import StageItem, shown_plainly
from pytest_llmdeploy.collection.load import LoadNode
from pytest_llmdeploy.collection.release import canary_items, drill_items, release_items
from pytest_llmdeploy.config.models import HttpCheck, SmokeCheck
from pytest_llmdeploy.events import Measurement

if TYPE_CHECKING:
    from _pytest._code.code import ExceptionInfo, TerminalRepr

    from pytest_llmdeploy.assembly import Assembly
    from pytest_llmdeploy.config.loader import LoadedConfig


class ConfigFile(pytest.File):
    """The file that describes a release."""

    def __init__(self, *, assembly: Assembly, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._assembly = assembly

    def collect(self) -> Iterator[pytest.Collector]:
        """Yield a node per stage, in the order of a release: what is cheap to ask comes first."""
        loaded = self._assembly.load(self.path)
        for stage, collect in _STAGES.items():
            yield StageNode.from_parent(
                self, name=stage, collect_stage=partial(collect, self._assembly, loaded)
            )

    def repr_failure(  # type: ignore[override]  # pytest's own collectors narrow it alike
        self, excinfo: ExceptionInfo[BaseException]
    ) -> str | TerminalRepr:
        """Show what is wrong with the file, without our traceback."""
        return shown_plainly(self, excinfo)


Collect = Callable[["StageNode"], Iterator[pytest.Item | pytest.Collector]]


class StageNode(pytest.Collector):
    """One stage of the file."""

    def __init__(self, *, collect_stage: Collect, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._collect_stage = collect_stage

    def collect(self) -> Iterator[pytest.Item | pytest.Collector]:
        """Yield the stage's items."""
        return self._collect_stage(self)

    def repr_failure(  # type: ignore[override]  # pytest's own collectors narrow it alike
        self, excinfo: ExceptionInfo[BaseException]
    ) -> str | TerminalRepr:
        """Show an error of ours without its traceback."""
        return shown_plainly(self, excinfo)


def _health_items(
    assembly: Assembly, loaded: LoadedConfig, stage: StageNode
) -> Iterator[pytest.Item]:
    for number, check in enumerate(loaded.health.checks):
        ask = partial(_ask_health, assembly, loaded, check)
        yield _check_item(stage, check.name, number, loaded, ask)


def _ask_health(assembly: Assembly, loaded: LoadedConfig, check: HttpCheck) -> Measurement:
    with assembly.explaining(loaded):
        return measure_health(assembly.target(loaded), check)


def _smoke_items(
    assembly: Assembly, loaded: LoadedConfig, stage: StageNode
) -> Iterator[pytest.Item]:
    checks = smoke_checks(loaded.smoke, loaded.service, loaded.environment.url)
    for number, check in enumerate(checks):
        ask = partial(_ask_smoke, assembly, loaded, check)
        yield _check_item(stage, check.title, number, loaded, ask)


def _ask_smoke(assembly: Assembly, loaded: LoadedConfig, check: SmokeCheck) -> Measurement:
    with assembly.explaining(loaded):
        return measure_smoke(assembly.target(loaded), check)


def _check_item(
    stage: StageNode,
    name: str,
    number: int,
    loaded: LoadedConfig,
    measure: Callable[[], Measurement],
) -> pytest.Item:
    _, line = loaded.where(stage.name, "checks", number)
    item: pytest.Item = StageItem.from_parent(
        stage, name=name, stage=stage.name, loaded=loaded, line=line, measure=measure
    )
    return item


def _suites(
    assembly: Assembly, loaded: LoadedConfig, stage: StageNode
) -> Iterator[pytest.Collector]:
    for name in loaded.gates:
        yield SuiteNode.from_parent(
            stage, name=name, plan=partial(assembly.gate_plan, loaded, name)
        )


def _load_runs(
    assembly: Assembly, loaded: LoadedConfig, stage: StageNode
) -> Iterator[pytest.Collector]:
    for name in loaded.load:
        yield LoadNode.from_parent(stage, name=name, assembly=assembly, loaded=loaded)


_STAGES: dict[str, Callable[..., Iterator[Any]]] = {
    "health": _health_items,
    "smoke": _smoke_items,
    "gates": _suites,
    "load": _load_runs,
    "blue_green": release_items,
    "canary": canary_items,
    "rollback": drill_items,
}
