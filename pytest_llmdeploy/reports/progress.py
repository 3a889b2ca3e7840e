"""A line below pytest's own while an item waits: how far its stage has come."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest

REFRESH_INTERVAL = 0.2
"""Seconds."""


class LiveProgress:
    """Shows the progress of what pytest waits for, on a terminal only."""

    def __init__(self, config: pytest.Config) -> None:
        reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
        self._writer: Any = reporter._tw if reporter is not None and reporter.isatty else None
        self._capture: Any = config.pluginmanager.get_plugin("capturemanager")
        self._shown = False
        self._last = 0.0

    def __call__(self, line: Callable[[], str]) -> None:
        """Show the line, at most every `REFRESH_INTERVAL` seconds."""
        now = time.monotonic()
        if self._writer is None or now - self._last < REFRESH_INTERVAL:
            return
        self._last = now
        self._below(line()[: self._writer.fullwidth - 1])
        self._shown = True

    def erase(self) -> None:
        """Remove the line, so that pytest can go on writing."""
        if self._shown:
            self._below("")
            self._shown = False

    def _below(self, text: str) -> None:
        """Write into the next line and come back; at the screen's bottom both scroll alike."""
        column = self._writer.width_of_current_line + 1
        suspended: AbstractContextManager[Any] = nullcontext()
        if self._capture is not None:
            suspended = self._capture.global_and_fixture_disabled()
        with suspended:
            # Past pytest's writer, which counts columns: what we write moves no column of its.
            file = self._writer._file
            file.write(f"\n\x1b[2K{text}\x1b[1A\x1b[{column}G")
            file.flush()
