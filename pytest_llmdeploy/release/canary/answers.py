"""Asks the cases of `quality` beside the watch, which must not wait to see what goes wrong."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

from pytest_llmdeploy.release.canary.looks import NO_DATA, NOT_MEASURED

ASKED = {"missing": NO_DATA, "why": "the cases are being asked"}


class Answers:
    """What both versions say to a gate's cases; asked in a thread from the beginning on."""

    def __init__(self, ask: Callable[[], Mapping[str, Any]]) -> None:
        self._ask = ask
        self._told: Mapping[str, Any] = ASKED
        threading.Thread(target=self._run, name="llmdeploy-answers", daemon=True).start()

    @property
    def told(self) -> Mapping[str, Any]:
        """What is known now, as `Look.answers` has it; never an exception."""
        return self._told

    def _run(self) -> None:
        try:
            self._told = self._ask()
        except Exception as error:  # noqa: BLE001 - told as what it is: not measured
            self._told = {"missing": NOT_MEASURED, "why": str(error) or type(error).__name__}
