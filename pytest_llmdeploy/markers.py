"""The markers of the stages."""

from __future__ import annotations

import pytest

MARKERS = {
    "health": "health(): asks whether the service is up; only reads.",
    "smoke": "smoke(): asks whether the service works at all; only reads.",
    "gates": "gates(): asks whether the answers are good enough; only reads.",
    "load": "load(): puts load on the service.",
    "blue_green": "blue_green(): deploys a version beside the running one and switches to it.",
    "canary": "canary(): moves traffic to a version step by step.",
    "rollback": "rollback(): rehearses the way back.",
    "monitor": "monitor(): watches a released version.",
}
"""Marker name to its registered line, in the order of a release."""


def stages_of(item: pytest.Item) -> set[str]:
    """Return the stages that a test takes part in: by its markers, or by a fixture that acts."""
    stages = {marker.name for marker in item.iter_markers() if marker.name in MARKERS}
    if "llm_load" in getattr(item, "fixturenames", ()):
        stages.add("load")  # a test without the marker puts no less load on the service
    return stages
