"""The items of a blue/green release: one per step, in order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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

STAGE = "blue_green"


class StepItem(StageItem):
    """One step of the file's release; whoever asks first has all of them performed."""

    whole = True
    """The run selected all steps: a release is one ordered thing."""

    def setup(self) -> None:
        """Wait for the step."""
        named = names_stage(self.config.getoption("markexpr"), STAGE)
        if not named and self.config.getoption("llmdeploy_image") is None:
            pytest.skip(f"a release needs its version (--llmdeploy-image REF) and -m {STAGE}")
        super().setup()


def release_items(
    assembly: Assembly, loaded: LoadedConfig, stage: pytest.Collector
) -> Iterator[pytest.Item]:
    """Yield an item per step, where the file has a release."""
    if loaded.blue_green is None:
        return
    _, line = loaded.where(STAGE)
    for name in (*STEPS, FINAL):
        item: Any = StepItem.from_parent(
            stage, name=name, stage=STAGE, loaded=loaded, line=line, measure=lambda: None
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
        alike = {other.name for other in steps if other.path == item.path}
        item.whole = alike == {*STEPS, FINAL}


def _measure(assembly: Assembly, item: StepItem) -> Measurement:
    if not item.whole:
        raise NotMeasuredError(
            "a release is one ordered thing, and this run selected only some of its steps: "
            f"select all of them, with -m {STAGE}"
        )
    record = assembly.releases.run(item.loaded).step(item.name)
    if record.skipped:
        pytest.skip(record.reason)  # the verdict is that of the step which did not pass
    detail: dict[str, Any] = {"step": record.to_json()}
    if record.evidence is None:
        return Measurement(record.verdict, record.reason, detail)
    return Measurement(
        record.verdict, record.reason, detail, lambda: f"  evidence: {record.evidence}"
    )
