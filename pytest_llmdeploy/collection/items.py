"""Test items of the stages: measure in setup, judge in call.

What cannot be measured raises in setup and so is a pytest *error*; a FAIL raises in call and so is
a *failure*. The two never mix.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from _pytest.outcomes import Failed

from pytest_llmdeploy.errors import LLMDeployError, NotBegunError
from pytest_llmdeploy.events import Measurement
from pytest_llmdeploy.verdicts import Verdict

if TYPE_CHECKING:
    from _pytest._code.code import ExceptionInfo, TerminalRepr

    from pytest_llmdeploy.config.loader import LoadedConfig


class _Outcome(Failed):
    """Shown by its text alone: our own traceback tells the reader nothing."""

    def __init__(self, text: str) -> None:
        super().__init__(text, pytrace=False)


class FAIL(_Outcome):
    """Measured, and not good enough."""


class INCONCLUSIVE(_Outcome):
    """Measured, but not enough to tell."""


class ERROR(_Outcome):
    """Could not be measured."""


for _shown in (FAIL, INCONCLUSIVE, ERROR):
    _shown.__module__ = "builtins"  # printed without a module path


class StageItem(pytest.Item):
    """One question of a stage."""

    def __init__(
        self,
        *,
        stage: str,
        loaded: LoadedConfig,
        line: int,
        measure: Callable[[], Measurement],
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.stage = stage
        self.loaded = loaded
        self.line = line
        self.measure = measure
        self.measurement: Measurement | None = None
        self.counted = False
        """The gate's own item decides about this item's failure."""
        self.gate: str | None = None
        """Node id of the gate that the item belongs to."""
        self.judges_gate = False
        self.is_case = False
        """What it measures is a case's result, whose foreign parts were redacted for the record."""
        self.add_marker(stage)

    @property
    def title(self) -> str:
        """The item's path within its stage."""
        chain = self.listchain()
        file = next(place for place, node in enumerate(chain) if isinstance(node, pytest.File))
        return "::".join(node.name for node in chain[file + 2 :])  # without the stage's own node

    def setup(self) -> None:
        """Measure."""
        self.measurement = None  # of an earlier attempt, where a plugin repeats tests
        try:
            self.measurement = self.measure()
        except NotBegunError as error:
            self.measurement = Measurement(Verdict.ERROR, str(error))  # a skip is never a pass
            pytest.skip(str(error))
        except LLMDeployError as error:
            self.measurement = Measurement(Verdict.ERROR, str(error))
            self.counted = False  # nothing was asked at all: no gate can make up for that
            raise ERROR(str(error)) from None  # its causes are in its text
        if self.measurement.verdict is Verdict.ERROR:
            raise ERROR(self._explained(self.measurement))

    def runtest(self) -> None:
        """Turn the verdict into pytest's outcome."""
        assert self.measurement is not None
        if self.measurement.verdict is Verdict.FAIL:
            raise FAIL(self._explained(self.measurement))
        if self.measurement.verdict is Verdict.INCONCLUSIVE:
            text = self._explained(self.measurement)
            if self.loaded.policy.inconclusive == "skip":
                pytest.skip(f"INCONCLUSIVE: {text}")
            raise INCONCLUSIVE(text)

    def teardown(self) -> None:
        """Forget what was measured: its report has it, and pytest keeps items to the end."""
        self.measurement = None

    @staticmethod
    def _explained(measurement: Measurement) -> str:
        if measurement.explanation is None:
            return measurement.reason
        return f"{measurement.reason}\n{measurement.explanation()}"

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Name the line of the file that asks the question."""
        return self.path, max(self.line - 1, 0), f"{self.stage}::{self.title}"


class MissingItem(pytest.Item):
    """Stands for items whose optional packages are not installed: an error, not a silence."""

    def __init__(self, *, stage: str, reason: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.reason = reason
        self.add_marker(stage)

    def setup(self) -> None:
        """Say what to install."""
        pytest.fail(self.reason, pytrace=False)

    def runtest(self) -> None:
        """Not reached."""


def shown_plainly(
    node: pytest.Collector, excinfo: ExceptionInfo[BaseException]
) -> str | TerminalRepr:
    """Return the text of an error of ours alone; pytest's own rendering for all others."""
    if isinstance(excinfo.value, LLMDeployError):
        return str(excinfo.value)
    return pytest.Collector.repr_failure(node, excinfo)
