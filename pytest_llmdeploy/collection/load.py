"""The items of one load run: one per objective."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from pytest_llmdeploy.collection.items import MissingItem, StageItem, shown_plainly
from pytest_llmdeploy.errors import MissingExtraError, NotBegunError, NotMeasuredError
from pytest_llmdeploy.events import Measurement
from pytest_llmdeploy.load.files import SUMMARY
from pytest_llmdeploy.load.judging import seconds
from pytest_llmdeploy.verdicts import Verdict

if TYPE_CHECKING:
    from _pytest._code.code import ExceptionInfo, TerminalRepr

    from pytest_llmdeploy.assembly import Assembly
    from pytest_llmdeploy.config.loader import LoadedConfig
    from pytest_llmdeploy.load.run import LoadRun

CAPACITY = "max_rate"
MOST_FAILURES = 5


class LoadNode(pytest.Collector):
    """One load run."""

    def __init__(self, *, assembly: Assembly, loaded: LoadedConfig, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._assembly = assembly
        self._loaded = loaded

    def collect(self) -> Iterator[pytest.Item]:
        """Yield an item per objective, or the search's, and one per comparison."""
        config = self._loaded.load[self.name]
        try:
            run = self._assembly.load_run(self._loaded, self.name)
        except MissingExtraError as error:
            yield MissingItem.from_parent(self, name="load", stage="load", reason=str(error))
            return
        run.check_files()
        if config.find:
            yield self._item(CAPACITY, run, _capacity, "find")
            return
        for number, objective in enumerate(config.parsed_objectives):
            judge = partial(_objective, objective.name)
            yield self._item(objective.name, run, judge, "objectives", number)
        for metric in config.compare.metrics if config.compare else ():
            yield self._item(f"compare-{metric}", run, partial(_comparison, metric), "compare")

    def _item(
        self,
        name: str,
        run: LoadRun,
        judge: Callable[[Mapping[str, Any]], Measurement],
        *where: str | int,
    ) -> pytest.Item:
        _, line = self._loaded.where("load", self.name, *where)
        measure = partial(_measure, self._assembly, self._loaded, run, judge)
        item: pytest.Item = StageItem.from_parent(
            self, name=name, stage="load", loaded=self._loaded, line=line, measure=measure
        )
        return item

    def repr_failure(  # type: ignore[override]  # pytest's own collectors narrow it alike
        self, excinfo: ExceptionInfo[BaseException]
    ) -> str | TerminalRepr:
        """Show what is wrong with a file of prompts or arrivals, without our traceback."""
        return shown_plainly(self, excinfo)


def _measure(
    assembly: Assembly,
    loaded: LoadedConfig,
    run: LoadRun,
    judge: Callable[[Mapping[str, Any]], Measurement],
) -> Measurement:
    """Judge one thing of a run's summary; whoever asks first has the traffic sent."""
    path = str((run.folder / SUMMARY).relative_to(assembly.run.output))
    try:
        with assembly.explaining(loaded):
            summary = run.summary()
    except NotBegunError:
        raise
    except NotMeasuredError as error:
        return Measurement(Verdict.ERROR, str(error), {"summary": path})
    judged = judge(summary)
    detail = {"summary": path, "classes": summary["classes"], **judged.detail}
    return Measurement(judged.verdict, judged.reason, detail, partial(explain, summary))


def _objective(name: str, summary: Mapping[str, Any]) -> Measurement:
    (found,) = (each for each in summary["objectives"] if each["name"] == name)
    return Measurement(Verdict(found["verdict"]), found["reason"], {"objective": found})


def _capacity(summary: Mapping[str, Any]) -> Measurement:
    found = summary["capacity"]
    return Measurement(Verdict(found["verdict"]), found["reason"], {"capacity": found})


def _comparison(metric: str, summary: Mapping[str, Any]) -> Measurement:
    (found,) = (each for each in summary["comparison"]["metrics"] if each["name"] == metric)
    return Measurement(Verdict(found["verdict"]), found["reason"], {"comparison": found})


def explain(summary: Mapping[str, Any]) -> str:
    """Return what was sent and what became of it."""
    classes = ", ".join(f"{count} {end}" for end, count in summary["classes"].items())
    lines = [f"  traffic: {summary['traffic']} ({summary['model']})", f"  requests: {classes}"]
    lines += [
        f"  {failure['count']} of class {failure['class']}: {failure['detail']}"
        for failure in summary["failures"][:MOST_FAILURES]
    ]
    for name, values in summary["latencies"].items():
        known = [
            f"{key} {seconds(values[key]) if values[key] is not None else 'infinite'}"
            for key in ("p50", "p95", "p99")
        ]
        lines.append(f"  {name}: {', '.join(known)} (n {values['n']})")
    return "\n".join(lines)
