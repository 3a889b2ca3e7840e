"""The types of assertions of promptfoo, each with its own rules for values, ``not-`` and score."""

from __future__ import annotations

from collections.abc import Mapping

from pytest_llmdeploy.gates.promptfoo.assertions import (
    graded,
    ngrams,
    runtime,
    scripts,
    structured,
    texts,
    tools,
)
from pytest_llmdeploy.gates.promptfoo.assertions.given import Handler

HANDLERS: Mapping[str, Handler] = {
    **texts.HANDLERS,
    **structured.HANDLERS,
    **ngrams.HANDLERS,
    **runtime.HANDLERS,
    **tools.HANDLERS,
    **scripts.HANDLERS,
    **graded.HANDLERS,
}
"""By type, without ``not-``."""
