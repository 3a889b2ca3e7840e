"""The items of a blue/green release: one per step, in order."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from pytest_llmdeploy.collection.items import StageItem
from pytest_llmdeploy.errors import NotMeasuredError
from pytest_llmdeploy.events import Measurement
from pytest_llmdeploy.protection import names_stage
from pytest_llmdeploy.release.blue_green import STEPS
from pytest_llmdeploy.release.record import FINAL

if TYPE_CHECKING:
    from pytest_llmdeploy.assembly import Assembly
    from pytest_llmdeploy.config.loader import LoadedConfig

BLUE_GREEN, CANARY = "blue_green", "canary"


class StepItem(StageItem):
    """One step of a release of the file; whoever asks first has all of them performed."""

    whole = True
    """The run selected all steps: a release is one ordered thing."""

    def __init__(self, *, steps: Collection[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.steps = frozenset(steps)
        """All steps of its release."""

    def setup(self) -> None:
        """Wait for the step."""
        named = names_stage(self.config.getoption("markexpr"), self.stage)
        if not named and self.config.getoption("llmdeploy_image") is None:
            pytest.skip(f"a release needs its version (--llmdeploy-image REF) and -m {self.stage}")
        super().setup()


def release_items(
    assembly: Assembly, loaded: LoadedConfig, stage: pytest.Collector
) -> Iterator[pytest.Item]:
    """Yield an item per step, where the file has a blue/green release."""
    if loaded.blue_green is not None:
        yield from _items(assembly, loaded, stage, BLUE_GREEN, (*STEPS, FINAL))


def canary_items(
    assembly: Assembly, loaded: LoadedConfig, stage: pytest.Collector
) -> Iterator[pytest.Item]:
    """Yield an item per step, where the file has a canary; each phase is one of them."""
    if loaded.canary is not None:
        steps = (*assembly.releases.canary_steps(loaded), FINAL)
        yield from _items(assembly, loaded, stage, CANARY, steps)


def _items(
    assembly: Assembly,
    loaded: LoadedConfig,
    node: pytest.Collector,
    stage: str,
    steps: Sequence[str],
) -> Iterator[pytest.Item]:
    _, line = loaded.where(stage)
    for name in steps:
        item: Any = StepItem.from_parent(
            node,
            name=name,
            stage=stage,
            loaded=loaded,
            line=line,
            measure=lambda: None,
            steps=steps,
        )
        item.measure = partial(_measure, assembly, item)
        yield item


def drill_items(
    assembly: Assembly, loaded: LoadedConfig, stage: pytest.Collector
) -> Iterator[pytest.Item]:
    """Yield an item per rollback drill."""
    for number, name in enumerate(loaded.rollback.drills):
        _, line = loaded.where("rollback", "drills", number)
        item: pytest.Item = StageItem.from_parent(
            stage,
            name=name,
            stage="rollback",
            loaded=loaded,
            line=line,
            measure=partial(assembly.releases.drill, loaded, name),
        )
        yield item


def note_selected(items: Sequence[pytest.Item]) -> None:
    """Tell the steps whether the run selected all of their release."""
    steps = [item for item in items if isinstance(item, StepItem)]
    for item in steps:
        alike = {
            other.name for other in steps if (other.path, other.stage) == (item.path, item.stage)
        }
        item.whole = alike == item.steps


def _measure(assembly: Assembly, item: StepItem) -> Measurement:
    if not item.whole:
        raise NotMeasuredError(
            "a release is one ordered thing, and this run selected only some of its steps: "
            f"select all of them, with -m {item.stage}"
        )
    record = assembly.releases.run(item.loaded, item.stage).step(item.name)
    if record.skipped:
        pytest.skip(record.reason)  # the verdict is that of the step which did not pass
    detail: dict[str, Any] = {"step": record.to_json()}
    if record.evidence is None:
        return Measurement(record.verdict, record.reason, detail)
    return Measurement(
        record.verdict, record.reason, detail, lambda: f"  evidence: {record.evidence}"
    )
