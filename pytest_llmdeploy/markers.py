"""The markers of the stages."""

from __future__ import annotations

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
